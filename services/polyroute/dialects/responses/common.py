"""What all parts of `openai.responses` share: usage, finish reasons, ids, faults, other dialects' state in transit."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

from google.protobuf.message import DecodeError

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import FinishReason, Part, Usage, VendorState
from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects import faults, jsontools
from polyroute.dialects.openai import common
from polyroute.dialects.vendor_error import error_of
from polyroute.mesh.errors import MeshError

RESPONSES: Final = "openai.responses"
# The extension that holds every member of an answer that has no place of its own; most of them repeat the request.
ECHO: Final = RESPONSES
LOGPROBS: Final = "message.output_text.logprobs"  # the word in `include` that asks for log probabilities
SEPARATOR: Final = "\n\n"  # between the paragraphs of one reasoning item, which clients of other dialects read as one

# State of another dialect inside `encrypted_content`, the one member that every client returns as it got it.
_CARRIED: Final = "polyroute.v1."
_INCOMPLETE: Final[Mapping[str, FinishReason.ValueType]] = {
    "max_output_tokens": pb.FINISH_REASON_LENGTH,
    "content_filter": pb.FINISH_REASON_CONTENT_FILTER,
}
_INCOMPLETE_WORD: Final = {reason: word for word, reason in _INCOMPLETE.items()}
# Reasons of an incomplete answer that the contract has no word for, and states of one that is still being made.
_OTHER_INCOMPLETE: Final = frozenset({"max_messages", "steered"})
UNFINISHED: Final = frozenset({"queued", "in_progress"})
_USAGE_MEMBERS: Final = frozenset(
    {"input_tokens", "output_tokens", "total_tokens", "input_tokens_details", "output_tokens_details"}
)
_READ_FROM_DETAILS: Final = frozenset(
    {"cached_tokens", "cache_write_tokens", "reasoning_tokens", "audio_tokens", "image_tokens"}
)
_MAX_COUNT: Final = 1 << 62


def unsupported(message: str, param: str) -> MeshError:
    """Content that this dialect cannot express."""
    return MeshError.upstream(errors_pb2.FAULT_UNSUPPORTED, message, param=param)


def bad_answer(message: str) -> MeshError:
    """A vendor's answer that cannot be read."""
    return MeshError.upstream(errors_pb2.FAULT_BAD_ANSWER, message)


def objects(value: object) -> Iterator[dict[str, Any]]:
    """The objects of what should be a list of them."""
    return (item for item in value if isinstance(item, dict)) if isinstance(value, list) else iter(())


def told(value: Mapping[str, Any], *known: str) -> dict[str, Any]:
    """The members that are not `known` and say something."""
    return {name: item for name, item in value.items() if name not in known and item is not None}


def text_of(value: object) -> str:
    """Text, or nothing where something else stands."""
    return value if isinstance(value, str) else ""


def arguments_of(value: object) -> str:
    """Arguments as text; a few vendors send the object itself."""
    if isinstance(value, str):
        return value
    return "" if value is None else jsontools.dumps(value).decode()


def made_id(prefix: str, *seed: object) -> str:
    """An id for an item that came without one: the same for the same answer, new for every other."""
    return f"{prefix}_" + hashlib.blake2b(repr(seed).encode(), digest_size=12).hexdigest()


def own_state(part: Part) -> dict[str, Any] | None:
    """The state of this dialect that a part carries, decoded; None when it has none or another dialect's."""
    if part.state.dialect != RESPONSES:
        return None
    try:
        value = jsontools.loads(part.state.data)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def state_of(kind: str, data: Mapping[str, Any]) -> VendorState:
    """State of this dialect."""
    return VendorState(dialect=RESPONSES, kind=kind, data=jsontools.dumps(data))


def carry(part: Part) -> str:
    """`encrypted_content` with another dialect's state, and what that belongs to: reasoning, text, picture or call."""
    kept = Part(state=part.state)
    if part.HasField("tool_call"):
        kept.tool_call.id = part.tool_call.id
    elif part.HasField("text"):
        kept.text.SetInParent()
    elif part.HasField("image"):
        kept.image.SetInParent()
    else:
        kept.reasoning.redacted = part.reasoning.redacted
    return _CARRIED + jsontools.packed(kept.SerializeToString())


def carried(encrypted_content: object) -> Part | None:
    """What `carry` put in; None for a vendor's own content."""
    if not isinstance(encrypted_content, str) or not encrypted_content.startswith(_CARRIED):
        return None
    try:
        return Part.FromString(jsontools.unpacked(encrypted_content[len(_CARRIED) :]))
    except (ValueError, DecodeError):
        return Part(reasoning=pb.ReasoningPart())  # it is of ours and damaged: no vendor could read it


def check_answer(value: Mapping[str, Any]) -> None:
    """Refuses an error in place of an answer, by its own class, and whatever is no answer.

    Raises:
        MeshError: the fault of the error, FAULT_BAD_ANSWER when it is none.
    """
    status = text_of(value.get("status"))
    if value.get("error") and status not in ("completed", "incomplete"):
        raise faults.fault_in({"error": value["error"]})
    if status == "failed":
        raise MeshError.upstream(errors_pb2.FAULT_SERVER, "the provider failed and did not say why")
    if status == "cancelled":
        raise MeshError.upstream(errors_pb2.FAULT_SERVER, "the provider cancelled the answer")
    if not isinstance(value.get("output"), list) and status not in UNFINISHED:
        error = error_of(value)
        if error.message and error.codes:
            raise faults.classified(200, error, {})
        raise bad_answer("the provider's answer has no output")


def finish_of(status: object, details: object, *, calls: bool) -> tuple[FinishReason.ValueType, str]:
    """The finish reason and the vendor's word for it, from `status` and `incomplete_details`.

    An answer that asks for tools is `completed` like any other; whoever waits for tool results must learn of it.
    """
    word = text_of(details.get("reason")) if isinstance(details, Mapping) else ""
    if status == "incomplete" or (word and status != "completed"):
        return _INCOMPLETE.get(word, pb.FINISH_REASON_OTHER), word or "incomplete"
    if isinstance(status, str) and status not in ("completed", ""):
        return pb.FINISH_REASON_OTHER, status
    reason = pb.FINISH_REASON_TOOL_CALLS if calls else pb.FINISH_REASON_STOP
    return reason, "completed"


def status_of(reason: FinishReason.ValueType, word: str) -> tuple[str, dict[str, str] | None]:
    """`status` and `incomplete_details` for a finish reason."""
    if reason in _INCOMPLETE_WORD:
        return "incomplete", {"reason": _INCOMPLETE_WORD[reason]}
    if reason == pb.FINISH_REASON_OTHER and word in _OTHER_INCOMPLETE:
        return "incomplete", {"reason": word}
    if reason == pb.FINISH_REASON_OTHER and word in UNFINISHED:
        return word, None
    return ("failed" if reason == pb.FINISH_REASON_ERROR else "completed"), None


def usage_from(value: object) -> Usage | None:
    """`usage` out of decoded JSON; None when it says nothing.

    Cached and cache-write tokens stand inside `input_tokens`, reasoning inside `output_tokens`, and `total_tokens` is
    the sum of the two: the arithmetic of the sibling dialect holds. Counts that it does not know are other units.
    """
    if not isinstance(value, Mapping):
        return None
    figures: dict[str, Any] = {
        "prompt_tokens": value.get("input_tokens"),
        "completion_tokens": value.get("output_tokens"),
        "total_tokens": value.get("total_tokens"),
    }
    for name, other in (("prompt_tokens_details", "input"), ("completion_tokens_details", "output")):
        if isinstance(value.get(f"{other}_tokens_details"), Mapping):
            figures[name] = value[f"{other}_tokens_details"]
    usage = common.usage_from({name: figure for name, figure in figures.items() if figure is not None})
    if usage:
        _note_units(value, usage)
    return usage


def _note_units(value: Mapping[str, Any], usage: Usage) -> None:
    for name, figure in value.items():
        if isinstance(figure, Mapping):
            for inner, count in figure.items():
                if inner not in _READ_FROM_DETAILS and _is_count(count):
                    usage.other[f"{name}.{inner}"] = count
        elif name not in _USAGE_MEMBERS and _is_count(figure):
            usage.other[name] = figure


def _is_count(figure: object) -> bool:
    return isinstance(figure, int) and not isinstance(figure, bool) and 0 < figure < _MAX_COUNT


def usage_json(usage: Usage) -> dict[str, Any]:
    """`usage` in this dialect's form, in which input and output hold the other buckets."""
    given = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
    made = usage.output_tokens + usage.reasoning_tokens
    details = {"cached_tokens": usage.cache_read_tokens, "cache_write_tokens": usage.cache_write_tokens}
    out: dict[str, Any] = {
        "input_tokens": given,
        "input_tokens_details": details,
        "output_tokens": made,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": given + made,
    }
    for name, count in usage.other.items():
        outer, _, inner = name.partition(".")
        if not inner:
            out.setdefault(outer, count)
        elif isinstance(out.setdefault(outer, {}), dict):
            out[outer].setdefault(inner, count)
    return out
