"""What the `gemini.*` dialects share: names of members, finish reasons, usage, opaque state, base64.

https://ai.google.dev/api/generate-content. It is protobuf's JSON: members in camelCase (snake_case is read as well),
64-bit numbers perhaps as text, bytes as base64 in either alphabet, one object where a list is due.
"""

import binascii
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypeGuard

import msgspec

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import FinishReason, Usage, VendorState
from polyroute.dialects import jsontools
from polyroute.dialects.asking import count_in, object_in, objects_in
from polyroute.dialects.jsontools import invalid

NAME: Final = "gemini.generate"
SIGNATURE: Final = "thoughtSignature"
# Kind of a state that is a whole part of a kind that the contract does not know (code that ran at the vendor).
PART: Final = "part"
# Members of a message that are no members of a content; see `stream_reader`.
MESSAGE_MEMBERS: Final = frozenset({"audioMimeType", "annotations"})

# How a state of another dialect travels as a signature: base64 of this word and of JSON. A client that sends back what
# it got returns it intact, be it in the other alphabet of base64, in which these letters are the same.
_CARRIER: Final = b"polyroute"
CARRIED: Final = jsontools.packed(_CARRIER)
_SNAKE: Final = re.compile(r"[a-z]+[a-z0-9]*(?:_[a-z0-9]+)+")
_TO_STANDARD: Final = str.maketrans("-_", "+/")

# https://ai.google.dev/api/generate-content#FinishReason and the wider list of the v1beta1 API on the cloud
_FINISH: Final[Mapping[str, FinishReason.ValueType]] = {
    "STOP": pb.FINISH_REASON_STOP,
    "MAX_TOKENS": pb.FINISH_REASON_LENGTH,
    "SAFETY": pb.FINISH_REASON_CONTENT_FILTER,
    "RECITATION": pb.FINISH_REASON_CONTENT_FILTER,
    "BLOCKLIST": pb.FINISH_REASON_CONTENT_FILTER,
    "PROHIBITED_CONTENT": pb.FINISH_REASON_CONTENT_FILTER,
    "SPII": pb.FINISH_REASON_CONTENT_FILTER,
    "MODEL_ARMOR": pb.FINISH_REASON_CONTENT_FILTER,
    "IMAGE_SAFETY": pb.FINISH_REASON_CONTENT_FILTER,
    "IMAGE_PROHIBITED_CONTENT": pb.FINISH_REASON_CONTENT_FILTER,
    "IMAGE_RECITATION": pb.FINISH_REASON_CONTENT_FILTER,
    "MALFORMED_FUNCTION_CALL": pb.FINISH_REASON_ERROR,
    "MALFORMED_RESPONSE": pb.FINISH_REASON_ERROR,
    "UNEXPECTED_TOOL_CALL": pb.FINISH_REASON_ERROR,
    "TOO_MANY_TOOL_CALLS": pb.FINISH_REASON_ERROR,
    "MISSING_THOUGHT_SIGNATURE": pb.FINISH_REASON_ERROR,
}
_FINISH_WORD: Final[Mapping[FinishReason.ValueType, str]] = {
    pb.FINISH_REASON_LENGTH: "MAX_TOKENS",
    pb.FINISH_REASON_CONTENT_FILTER: "SAFETY",
    pb.FINISH_REASON_ERROR: "OTHER",
    pb.FINISH_REASON_OTHER: "OTHER",
}
_MODALITIES: Final = {"AUDIO": "audio", "IMAGE": "image", "VIDEO": "video", "DOCUMENT": "document"}
_COUNTS: Final = (
    "promptTokenCount",
    "candidatesTokenCount",
    "thoughtsTokenCount",
    "toolUsePromptTokenCount",
    "cachedContentTokenCount",
    "totalTokenCount",
)
_TOOL_USE: Final = "tool_use_input_tokens"


def loads(data: bytes | str) -> Any:
    """Any JSON value, integers of any size exactly; NaN and lone surrogates refused.

    Raises:
        ValueError: it is not JSON, or nested too deep.
    """
    try:
        return msgspec.json.decode(data)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def camel(value: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """The members of one object under their camelCase names; null ones say nothing and are left out.

    Raises:
        MeshError: REASON_INVALID_REQUEST when a member stands there under both of its names.
    """
    out: dict[str, Any] = {}
    for name, item in value.items():
        if item is None:
            continue
        key = camel_name(name)
        if key in out:
            raise invalid(f"the member {key} stands twice, under both of its names", f"{where}.{key}".lstrip("."))
        out[key] = item
    return out


def camel_name(name: str) -> str:
    """A member's name in camelCase."""
    if "_" not in name or not _SNAKE.fullmatch(name):
        return name
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def is_finish(word: object) -> TypeGuard[str]:
    """Whether a `finishReason` says anything."""
    return isinstance(word, str) and word not in ("", "FINISH_REASON_UNSPECIFIED")


def finish_of(word: str | None, *, tool_calls: bool = False) -> FinishReason.ValueType:
    """The finish reason for a vendor's word; it has none of its own for tool calls, which end with STOP."""
    reason = _FINISH.get(word, pb.FINISH_REASON_OTHER) if is_finish(word) else pb.FINISH_REASON_UNSPECIFIED
    if tool_calls and reason in (pb.FINISH_REASON_STOP, pb.FINISH_REASON_UNSPECIFIED):
        return pb.FINISH_REASON_TOOL_CALLS
    return reason


def better_finish(old: str, new: str) -> str:
    """Which of two finish reasons of one candidate stands: the later, but a plain STOP does not undo a reason."""
    return old if old and new == "STOP" else new


def finish_word(reason: FinishReason.ValueType, vendor_word: str) -> str:
    """The finish reason in this API's words: the vendor's own where it is one of them."""
    if vendor_word in _FINISH and finish_of(vendor_word, tool_calls=reason == pb.FINISH_REASON_TOOL_CALLS) == reason:
        return vendor_word
    return _FINISH_WORD.get(reason, "STOP")


def usage_from(value: object) -> Usage | None:
    """The disjoint buckets of `usageMetadata`; None when it holds no figure.

    The prompt holds what was read from a cache; thoughts stand beside the candidates and what tools of the vendor added
    to the prompt beside the prompt, as the total shows. Where a total shows otherwise it is believed, so that the
    buckets sum up to it; what it holds beyond all figures is thinking that is counted nowhere else.
    """
    if not isinstance(value, Mapping):
        return None
    prompt, output, thoughts, tools, cached, total = (_count(value.get(name)) for name in _COUNTS)
    if not (prompt or output or thoughts or tools or total):
        return None
    beyond = total - prompt - output
    added = tools
    if tools and beyond == thoughts:
        added = 0
    elif total and thoughts and beyond in (0, tools):
        output -= min(thoughts, output)
        added = tools if beyond == tools else 0
    elif beyond > thoughts + tools:
        thoughts = beyond - tools
    cached = min(cached, prompt)
    usage = Usage(
        input_tokens=prompt - cached + added,
        cache_read_tokens=cached,
        output_tokens=output,
        reasoning_tokens=thoughts,
    )
    if added:
        usage.other[_TOOL_USE] = added
    _note_modalities(usage, value)
    return usage


def _count(value: object) -> int:
    """A count, which protobuf's JSON may write as text."""
    return count_in(int(value)) if isinstance(value, str) and value.isdecimal() and len(value) < 19 else count_in(value)


def _note_modalities(usage: Usage, value: Mapping[str, Any]) -> None:
    for member, side in (("promptTokensDetails", "input"), ("candidatesTokensDetails", "output")):
        for detail in objects_in(value.get(member)):
            kind = _MODALITIES.get(str(detail.get("modality")))
            figure = _count(detail.get("tokenCount"))
            if kind and figure:
                usage.other[f"{side}_{kind}_tokens"] += figure


def usage_extras(value: object) -> dict[str, Any]:
    """The members of `usageMetadata` that `Usage` does not model."""
    return {name: item for name, item in object_in(value).items() if name not in _COUNTS and item is not None}


def usage_json(usage: Usage, more: bytes = b"") -> dict[str, Any]:
    """`usageMetadata`; `more` is what `usage_extras` gave, as JSON."""
    prompt = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
    tools = min(usage.other.get(_TOOL_USE, 0), usage.input_tokens)
    out: dict[str, Any] = {"promptTokenCount": prompt - tools, "candidatesTokenCount": usage.output_tokens}
    others = {
        "thoughtsTokenCount": usage.reasoning_tokens,
        "cachedContentTokenCount": usage.cache_read_tokens,
        "toolUsePromptTokenCount": tools,
    }
    out |= {name: figure for name, figure in others.items() if figure}
    out["totalTokenCount"] = prompt + usage.output_tokens + usage.reasoning_tokens
    return out | ({name: item for name, item in jsontools.loads(more).items() if name not in out} if more else {})


def state_of(signature: str) -> VendorState:
    """The state that a signature is: this dialect's, or another's that was carried through."""
    if signature.startswith(CARRIED):
        try:
            carried = jsontools.loads(decoded(signature)[len(_CARRIER) :])
            data = jsontools.unpacked(carried["data"])
            return VendorState(dialect=carried["dialect"], kind=carried["kind"], data=data)
        except (ValueError, TypeError, KeyError):
            pass  # somebody's own signature that happens to begin like ours
    return VendorState(dialect=NAME, kind=SIGNATURE, data=signature.encode())


def signature_of(state: VendorState) -> str:
    """The signature for a client; see `state_of`."""
    if state.dialect == NAME:
        return state.data.decode("utf-8", "replace")
    carried = {"dialect": state.dialect, "kind": state.kind, "data": jsontools.packed(state.data)}
    return jsontools.packed(_CARRIER + jsontools.dumps(carried))


def decoded(text: str) -> bytes:
    """Bytes out of base64 in either alphabet, padded or not.

    Raises:
        ValueError: it is neither.
    """
    text = text.translate(_TO_STANDARD).rstrip("=\n")
    try:
        return jsontools.unpacked(text + "=" * (-len(text) % 4))
    except binascii.Error as error:
        raise ValueError("not base64") from error


def seconds_of(time: object) -> int:
    """`createTime` (RFC 3339) as seconds since 1970; 0 for anything else."""
    if not isinstance(time, str) or len(time) > 64:
        return 0
    try:
        parsed = datetime.fromisoformat(time)
    except ValueError:
        return 0
    seconds = (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
    return max(0, int(seconds))


def time_of(seconds: int) -> str:
    """Seconds since 1970 as RFC 3339; empty for what no calendar holds."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if 0 < seconds < 253402300800 else ""
