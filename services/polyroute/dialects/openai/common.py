"""What the `openai.*` dialects share: parameters, finish reasons, usage, and the odd corners of both.

Vendors that follow this API count differently. The buckets of `Usage` never overlap, so each way is told apart by
arithmetic on `total_tokens`, never by who the vendor is.
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final, TypeGuard

import msgspec

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import FinishReason, Usage
from polyroute.dialects import faults

CHAT: Final = "openai.chat"
COMPLETIONS: Final = "openai.completions"
# How the next token is drawn: parameters that have the contract's own names.
SAMPLING: Final = (
    "temperature",
    "top_p",
    "frequency_penalty",
    "presence_penalty",
    "seed",
    "logprobs",
    "top_logprobs",
    "top_k",
)

_FINISH: Final[Mapping[str, FinishReason.ValueType]] = {
    "stop": pb.FINISH_REASON_STOP,
    "stop_sequence": pb.FINISH_REASON_STOP,
    "end_turn": pb.FINISH_REASON_STOP,
    "eos": pb.FINISH_REASON_STOP,
    "eos_token": pb.FINISH_REASON_STOP,
    "length": pb.FINISH_REASON_LENGTH,
    "max_tokens": pb.FINISH_REASON_LENGTH,
    "model_length": pb.FINISH_REASON_LENGTH,
    "tool_calls": pb.FINISH_REASON_TOOL_CALLS,
    "tool_call": pb.FINISH_REASON_TOOL_CALLS,
    "tool_use": pb.FINISH_REASON_TOOL_CALLS,
    "function_call": pb.FINISH_REASON_TOOL_CALLS,
    "content_filter": pb.FINISH_REASON_CONTENT_FILTER,
    "safety": pb.FINISH_REASON_CONTENT_FILTER,
    "sensitive": pb.FINISH_REASON_CONTENT_FILTER,
    "refusal": pb.FINISH_REASON_CONTENT_FILTER,
    "error": pb.FINISH_REASON_ERROR,
    "network_error": pb.FINISH_REASON_ERROR,
    "insufficient_system_resource": pb.FINISH_REASON_ERROR,
}
_FINISH_WORD: Final[Mapping[FinishReason.ValueType, str]] = {
    pb.FINISH_REASON_LENGTH: "length",
    pb.FINISH_REASON_TOOL_CALLS: "tool_calls",
    pb.FINISH_REASON_CONTENT_FILTER: "content_filter",
    pb.FINISH_REASON_ERROR: "error",
}


class PromptDetails(msgspec.Struct, gc=False):
    """`prompt_tokens_details`."""

    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_creation_tokens: int | None = None
    audio_tokens: int | None = None
    image_tokens: int | None = None


class CompletionDetails(msgspec.Struct, gc=False):
    """`completion_tokens_details`."""

    reasoning_tokens: int | None = None
    audio_tokens: int | None = None
    image_tokens: int | None = None
    accepted_prediction_tokens: int | None = None
    rejected_prediction_tokens: int | None = None


class WireUsage(msgspec.Struct, gc=False):
    """`usage` as vendors write it; the lower half are other names for the same figures."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None
    prompt_token_details: PromptDetails | None = None
    completion_token_details: CompletionDetails | None = None
    prompt_cache_hit_tokens: int | None = None
    num_cached_tokens: int | None = None
    cached_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    reasoning_tokens: int | None = None


_UUID7: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_NO_PROMPT_DETAILS: Final = PromptDetails()
_NO_COMPLETION_DETAILS: Final = CompletionDetails()


def finish_of(word: str | None, *, tool_calls: bool = False) -> FinishReason.ValueType:
    """The finish reason for a vendor's word, which may be missing, empty or the text `null`.

    Some vendors end a turn that holds tool calls with `stop` (a forced tool choice, a thin compatibility layer).
    Whoever waits for tool results must learn of it all the same, so tool calls decide over `stop`.
    """
    reason = _FINISH.get(word.lower(), pb.FINISH_REASON_OTHER) if is_finish(word) else pb.FINISH_REASON_UNSPECIFIED
    if tool_calls and reason in (pb.FINISH_REASON_STOP, pb.FINISH_REASON_UNSPECIFIED):
        return pb.FINISH_REASON_TOOL_CALLS
    return reason


def is_finish(word: object) -> TypeGuard[str]:
    """Whether a `finish_reason` says anything."""
    return isinstance(word, str) and word not in ("", "null")


def better_finish(old: str, new: str) -> str:
    """Which of two finish reasons of one choice stands: the later, but a plain `stop` does not undo a reason."""
    return old if old and finish_of(new) == pb.FINISH_REASON_STOP else new


def finish_word(reason: FinishReason.ValueType) -> str:
    """The finish reason in this API's words; it has none for those it does not know, and clients expect one."""
    return _FINISH_WORD.get(reason, "stop")


def usage_from(value: object) -> Usage | None:
    """`usage` out of decoded JSON, tolerant of wrong types; None when it says nothing."""
    if not isinstance(value, Mapping):
        return None
    return usage_of(msgspec.convert(_whole_numbers(value), WireUsage))


_FIGURES: Final = frozenset({int, float})
_MOST: Final = 1 << 62


def _whole_numbers(value: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of a usage object that can be tokens, details included."""
    kept: dict[str, Any] = {}
    for name, figure in value.items():
        if type(figure) in _FIGURES:  # which leaves out true and false
            if -_MOST < figure < _MOST:
                kept[name] = int(figure)
        elif isinstance(figure, dict):
            kept[name] = _whole_numbers(figure) if name.endswith("_details") else None
    return kept


def usage_of(wire: WireUsage) -> Usage | None:
    """The disjoint buckets of a vendor's figures; None when all of them are zero or missing.

    Their sum is `total_tokens` wherever the vendor's own figures allow it:
    - cached and cache-write tokens stand inside the prompt (never more than it), unless the total shows them beside it;
    - reasoning stands inside the completion (never more than it), unless the total shows it beside it;
    - what the total holds beyond prompt and completion is sound of the prompt if that fits exactly, and else hidden
      reasoning, which some vendors count in the total only.
    """
    prompt_details = wire.prompt_tokens_details or wire.prompt_token_details or _NO_PROMPT_DETAILS
    details = wire.completion_tokens_details or wire.completion_token_details or _NO_COMPLETION_DETAILS
    prompt = max(0, wire.prompt_tokens or 0)
    completion = max(0, wire.completion_tokens or 0)
    total = max(0, wire.total_tokens or 0)
    if not prompt and not completion and not total:
        return None
    read = _cached(wire, prompt_details)
    write = _first(
        prompt_details.cache_write_tokens, prompt_details.cache_creation_tokens, wire.cache_creation_input_tokens
    )
    reasoning = _first(details.reasoning_tokens, wire.reasoning_tokens)
    beyond = max(0, total - prompt - completion)
    if beyond and beyond == reasoning:
        completion += reasoning
    elif beyond and beyond in (read + write, prompt_details.audio_tokens):
        prompt += beyond
    elif beyond:
        completion += beyond
        reasoning += beyond
    read = min(read, prompt)
    write = min(write, prompt - read)
    reasoning = min(reasoning, completion)
    usage = Usage(
        input_tokens=prompt - read - write,
        cache_read_tokens=read,
        cache_write_tokens=write,
        output_tokens=completion - reasoning,
        reasoning_tokens=reasoning,
    )
    _note_other(usage, prompt_details, details)
    return usage


def _cached(wire: WireUsage, details: PromptDetails) -> int:
    return _first(
        details.cached_tokens,
        wire.prompt_cache_hit_tokens,
        wire.num_cached_tokens,
        wire.cache_read_input_tokens,
        wire.cached_tokens,
    )


def _first(*figures: int | None) -> int:
    """The first figure that says something; several names may stand side by side, the unused ones zero."""
    return next((figure for figure in figures if figure and figure > 0), 0)


def _note_other(usage: Usage, prompt: PromptDetails, completion: CompletionDetails) -> None:
    if prompt is _NO_PROMPT_DETAILS and completion is _NO_COMPLETION_DETAILS:
        return
    for name, figure in (
        ("input_audio_tokens", prompt.audio_tokens),
        ("input_image_tokens", prompt.image_tokens),
        ("output_audio_tokens", completion.audio_tokens),
        ("output_image_tokens", completion.image_tokens),
        ("accepted_prediction_tokens", completion.accepted_prediction_tokens),
        ("rejected_prediction_tokens", completion.rejected_prediction_tokens),
    ):
        if figure:
            usage.other[name] = figure


def usage_json(usage: Usage) -> dict[str, Any]:
    """`usage` in this API's form, in which prompt and completion hold the other buckets."""
    prompt = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
    completion = usage.output_tokens + usage.reasoning_tokens
    prompt_details = {
        "cached_tokens": usage.cache_read_tokens,
        "audio_tokens": usage.other.get("input_audio_tokens", 0),
    }
    if usage.cache_write_tokens:
        prompt_details["cache_write_tokens"] = usage.cache_write_tokens
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": prompt_details,
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_tokens": usage.other.get("output_audio_tokens", 0),
            "accepted_prediction_tokens": usage.other.get("accepted_prediction_tokens", 0),
            "rejected_prediction_tokens": usage.other.get("rejected_prediction_tokens", 0),
        },
    }


def made_call_id(*parts: object) -> str:
    """An id for a tool call that came without one: the same for the same answer, new for every other."""
    return "call_" + hashlib.blake2b(repr(parts).encode(), digest_size=12).hexdigest()


def create_time(given: int, request_id: str) -> int:
    """When an answer was made: what the vendor said, else the time inside our UUIDv7 request id (RFC 9562, 5.7)."""
    if given:
        return given
    if not _UUID7.fullmatch(request_id):
        return 0
    return int(request_id[:8] + request_id[9:13], 16) // 1000


def check_event(chunk: object) -> None:
    """Refuses an event without choices that is an error, not one about the prompt or the usage."""
    if isinstance(chunk, dict) and "choices" not in chunk and "usage" not in chunk:
        faults.check_bare(chunk)
    else:
        faults.check_status(chunk)
