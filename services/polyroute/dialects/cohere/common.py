"""What both halves of `cohere.chat` share: finish reasons, usage, and the classes of errors."""

import re
from collections.abc import Mapping
from typing import Final

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import FinishReason, Usage, VendorState
from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects import faults
from polyroute.dialects.asking import count_in, object_in, reclassed
from polyroute.mesh.errors import MeshError

NAME: Final = "cohere.chat"
THINKING: Final = "thinking"  # state of a reasoning part that came as a thinking entry of the content
TOOL_PLAN: Final = "tool_plan"  # and of one that came as the plan ahead of tool calls

# https://docs.cohere.com/reference/chat, member finish_reason; the lower rows are of the older version of the API.
_FINISH: Final[Mapping[str, FinishReason.ValueType]] = {
    "COMPLETE": pb.FINISH_REASON_STOP,
    "STOP_SEQUENCE": pb.FINISH_REASON_STOP,
    "MAX_TOKENS": pb.FINISH_REASON_LENGTH,
    "TOOL_CALL": pb.FINISH_REASON_TOOL_CALLS,
    "ERROR": pb.FINISH_REASON_ERROR,
    "TIMEOUT": pb.FINISH_REASON_ERROR,
    "ERROR_TOXIC": pb.FINISH_REASON_CONTENT_FILTER,
    "ERROR_LIMIT": pb.FINISH_REASON_LENGTH,
    "USER_CANCEL": pb.FINISH_REASON_OTHER,
}

# https://docs.cohere.com/reference/errors. Its messages have no codes but in the newest versions.
_TOO_LONG: Final = re.compile(r"^too many tokens", re.IGNORECASE)
_CALLS_OF_A_MONTH: Final = re.compile(r"limited to [\d,]+ api calls / month", re.IGNORECASE)


def finish_of(word: str, *, tool_calls: bool) -> FinishReason.ValueType:
    """The finish reason for the vendor's word; whoever waits for tool results learns of them whatever the word is."""
    reason = _FINISH.get(word.upper(), pb.FINISH_REASON_OTHER) if word else pb.FINISH_REASON_UNSPECIFIED
    if tool_calls and reason in (pb.FINISH_REASON_STOP, pb.FINISH_REASON_UNSPECIFIED):
        return pb.FINISH_REASON_TOOL_CALLS
    return reason


def seal(kind: str) -> VendorState:
    """The mark of a reasoning part; with it the part goes back to where it came from. Its text is all there is."""
    return VendorState(dialect=NAME, kind=kind)


def usage_of(value: object) -> Usage | None:
    """The disjoint buckets of `usage`; None when it says nothing.

    `tokens` is what the model read and wrote, the vendor's own instructions included; `billed_units` what is charged,
    and kept beside it for the record. `cached_tokens` and `reasoning_tokens` stand inside input and output. Pictures
    stand beside `input_tokens` (two pictures come to more than it) and are input as well. There is no total: the sum
    of the buckets is input, pictures and output.
    """
    figures = object_in(value)
    billed = object_in(figures.get("billed_units"))
    tokens = object_in(figures.get("tokens"))
    pictures = count_in(tokens.get("image_tokens"))
    counted = tokens or billed
    prompt = count_in(counted.get("input_tokens")) + pictures
    completion = count_in(counted.get("output_tokens"))
    if not prompt and not completion:
        return None
    cached = min(count_in(figures.get("cached_tokens")), prompt)
    reasoning = min(count_in(counted.get("reasoning_tokens")), completion)
    usage = Usage(
        input_tokens=prompt - cached,
        cache_read_tokens=cached,
        output_tokens=completion - reasoning,
        reasoning_tokens=reasoning,
    )
    if pictures:
        usage.other["input_image_tokens"] = pictures
    for name, figure in billed.items():
        if count_in(figure):
            usage.other[f"billed_{name}"] = count_in(figure)
    return usage


def fault_of(status: int, body: bytes, headers: Mapping[str, str]) -> MeshError:
    """See `dialect.Outbound.fault_of`."""
    return _narrowed(faults.fault_of(status, body, headers))


def fault_in(value: object) -> MeshError:
    """The error that stands inside an answer of status 200."""
    return _narrowed(faults.fault_in(value))


def _narrowed(error: MeshError) -> MeshError:
    if _TOO_LONG.search(error.message):
        return reclassed(error, errors_pb2.FAULT_CONTEXT)
    if _CALLS_OF_A_MONTH.search(error.message):
        return reclassed(error, errors_pb2.FAULT_QUOTA)
    return error
