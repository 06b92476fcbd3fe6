"""What both halves of `xai.grpc` share: finish reasons, usage, log probabilities, and messages as JSON."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError, Message

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import FinishReason, Usage, VendorState
from polyroute.dialects import jsontools
from polyroute.dialects.asking import bad_answer
from polyroute.dialects.openai.common import PromptDetails, WireUsage, usage_of
from xai.api.v1 import chat_pb2, sample_pb2, usage_pb2

NAME: Final = "xai.grpc"
OPEN: Final = "reasoning_content"  # state of a reasoning part whose text is all there is
SEALED: Final = "encrypted_content"  # and of one that came, with or without its text, in encrypted form
SERVER_CALLS: Final = "server_tool_calls"  # extension of a message: calls of tools that the vendor itself ran

_FINISH: Final[Mapping[int, FinishReason.ValueType]] = {
    sample_pb2.REASON_INVALID: pb.FINISH_REASON_UNSPECIFIED,
    sample_pb2.REASON_MAX_LEN: pb.FINISH_REASON_LENGTH,
    sample_pb2.REASON_MAX_CONTEXT: pb.FINISH_REASON_LENGTH,
    sample_pb2.REASON_STOP: pb.FINISH_REASON_STOP,
    sample_pb2.REASON_TOOL_CALLS: pb.FINISH_REASON_TOOL_CALLS,
    sample_pb2.REASON_TIME_LIMIT: pb.FINISH_REASON_ERROR,
}

Parsed = TypeVar("Parsed")


def parsed(parse: Callable[[bytes], Parsed], data: bytes) -> Parsed:
    """A message of the vendor.

    Raises:
        MeshError: FAULT_BAD_ANSWER when it is none.
    """
    try:
        return parse(data)
    except DecodeError:
        raise bad_answer("the provider sent a message that cannot be read") from None


def finish_of(number: int, *, tool_calls: bool) -> FinishReason.ValueType:
    """The finish reason for the vendor's; whoever waits for tool results learns of them whatever it is."""
    reason = _FINISH.get(number, pb.FINISH_REASON_OTHER)
    if tool_calls and reason in (pb.FINISH_REASON_STOP, pb.FINISH_REASON_UNSPECIFIED):
        return pb.FINISH_REASON_TOOL_CALLS
    return reason


def finish_word(number: int) -> str:
    """The finish reason in the vendor's words; empty when it gave none."""
    known = sample_pb2.FinishReason.DESCRIPTOR.values_by_number.get(number)
    return (known.name if known else str(number)) if number else ""


def state(kind: str, data: bytes = b"") -> VendorState:
    """The mark of a reasoning part; with it the part goes back to where it came from."""
    return VendorState(dialect=NAME, kind=kind, data=data)


def usage_from(usage: usage_pb2.SamplingUsage) -> Usage | None:
    """The disjoint buckets of a usage; None when it says nothing.

    Cached text and pictures stand inside `prompt_tokens`. Reasoning stands beside `completion_tokens` in the answers of
    the models that reason, as `total_tokens` shows; where the total shows it inside, it is taken to be there.
    """
    found = usage_of(
        WireUsage(
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            total_tokens=usage.total_tokens,
            prompt_tokens_details=PromptDetails(
                cached_tokens=usage.cached_prompt_text_tokens, image_tokens=max(0, usage.prompt_image_tokens)
            ),
            reasoning_tokens=usage.reasoning_tokens,
        )
    )
    if found is None:
        return None
    beside = {
        "num_sources_used": usage.num_sources_used,
        "server_side_tools_used": len(usage.server_side_tools_used),
        "cost_in_usd_ticks": usage.cost_in_usd_ticks,
    }
    for name, figure in beside.items():
        if figure > 0:
            found.other[name] = figure
    return found


def as_json(message: Message) -> Any:
    """A message as a JSON value, members by their published names."""
    return MessageToDict(message, preserving_proto_field_name=True)


def listed(messages: Iterable[Message]) -> bytes:
    """Messages as a JSON list."""
    return jsontools.dumps([as_json(message) for message in messages])


def logprobs_of(found: chat_pb2.LogProbs) -> bytes:
    """Log probabilities as `{"content": [...]}`, so that those of a stream's pieces can be joined; empty for none."""
    if not found.content:
        return b""
    entries = [
        {**_token(entry), "top_logprobs": [_token(other) for other in entry.top_logprobs]} for entry in found.content
    ]
    return jsontools.dumps({"content": entries})


def _token(entry: chat_pb2.LogProb | chat_pb2.TopLogProb) -> dict[str, Any]:
    # seven digits are what a single-precision figure holds; more would be noise
    return {"token": entry.token, "logprob": float(f"{entry.logprob:.7g}"), "bytes": list(entry.bytes)}
