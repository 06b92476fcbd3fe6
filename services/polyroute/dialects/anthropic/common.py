"""What the pieces of `anthropic.messages` share: names, finish reasons, usage, ids.

Source of the format: https://platform.claude.com/docs/en/api/messages and its pages on streaming, stop reasons, prompt
caching, compaction and token counting; API versions 2023-06-01 and 2026-10-21.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import FinishReason, Usage
from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects import jsontools
from polyroute.mesh.errors import MeshError

NAME: Final = "anthropic.messages"

# Every request must bound its answer. Where the caller does not, this stands in: every model on offer can write as
# much, and it is long enough for prose; a provider whose models write more says so in its `Options`.
DEFAULT_MAX_TOKENS: Final = 8192
MIN_BUDGET_TOKENS: Final = 1024  # the least that a thinking budget may be

_FINISH: Final[Mapping[str, FinishReason.ValueType]] = {
    "end_turn": pb.FINISH_REASON_STOP,
    "stop_sequence": pb.FINISH_REASON_STOP,
    "max_tokens": pb.FINISH_REASON_LENGTH,
    "model_context_window_exceeded": pb.FINISH_REASON_LENGTH,
    "tool_use": pb.FINISH_REASON_TOOL_CALLS,
    "refusal": pb.FINISH_REASON_CONTENT_FILTER,
    "pause_turn": pb.FINISH_REASON_PAUSE,
    "compaction": pb.FINISH_REASON_PAUSE,
}
_FINISH_WORD: Final[Mapping[FinishReason.ValueType, str]] = {
    pb.FINISH_REASON_LENGTH: "max_tokens",
    pb.FINISH_REASON_TOOL_CALLS: "tool_use",
    pb.FINISH_REASON_CONTENT_FILTER: "refusal",
    pb.FINISH_REASON_PAUSE: "pause_turn",
}
_PROMPT: Final = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
_FIGURES: Final = (*_PROMPT, "output_tokens")
_CALL_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,256}")


@dataclass(frozen=True, slots=True)
class Options:
    """How the hosts and models of this dialect differ in what they take; a provider sets what its models need.

    Attributes:
        max_tokens: Bound of the answer for a request that has none.
        sampling: `temperature`, `top_p` and `top_k` are taken. API version 2026-10-21 and the newer models under any
            version refuse them, whatever their value.
        thinking: How effort turns thinking on: `adaptive` lets the model decide how much, `budget` gives older models
            a number of tokens.
        system_messages: System messages may stand in the middle of the conversation; otherwise all go to the front.
        body_version: For hosts that take the version in the body (`anthropic_version`) and the model and the wish to
            stream in the address: the version. Empty for all others.
    """

    max_tokens: int = DEFAULT_MAX_TOKENS
    sampling: bool = True
    thinking: Literal["adaptive", "budget"] = "adaptive"
    system_messages: bool = False
    body_version: str = ""


def finish_of(word: object, *, tool_calls: bool = False) -> FinishReason.ValueType:
    """The finish reason for the vendor's word.

    Whoever waits for tool results must learn of it, so tool calls decide over a plain end, which thin compatibility
    layers report for both.
    """
    reason = pb.FINISH_REASON_UNSPECIFIED
    if isinstance(word, str) and word:
        reason = _FINISH.get(word, pb.FINISH_REASON_OTHER)
    if tool_calls and reason in (pb.FINISH_REASON_STOP, pb.FINISH_REASON_UNSPECIFIED):
        return pb.FINISH_REASON_TOOL_CALLS
    return reason


def finish_word(reason: FinishReason.ValueType, vendor_word: str) -> str:
    """`stop_reason` for a finish reason; the vendor's own word where it is one of this dialect's and says the same."""
    if vendor_word and _FINISH.get(vendor_word, pb.FINISH_REASON_OTHER) == reason:
        return vendor_word
    return _FINISH_WORD.get(reason, "end_turn")


class UsageTally:
    """Puts the figures of one answer together: a whole one's, or those that a stream tells at its begin and its end.

    `input_tokens` stands beside the cached and cache-write tokens, not around them; `output_tokens` holds the thinking.
    A stream's last figures are final: searches and fetches by the vendor itself add to the prompt meanwhile.
    """

    def __init__(self) -> None:
        self._told: dict[str, Any] = {}

    def note(self, value: object) -> None:
        """Takes a `usage` member, of any shape; later figures replace earlier ones.

        The prompt's figures are replaced together, and not by zeros: some vendors repeat them at the end, some leave
        them out, and some write zeros there.
        """
        if not isinstance(value, dict):
            return
        prompt = {name: value[name] for name in _PROMPT if _count(value.get(name)) or value.get(name) == 0}
        if any(prompt.values()):
            self._told |= prompt
        if _count(value.get("output_tokens")) or value.get("output_tokens") == 0:
            self._told["output_tokens"] = value["output_tokens"]  # at the begin of a stream a mere placeholder
        for name, item in value.items():
            if name not in _FIGURES and item is not None:
                self._told[name] = item

    def usage(self) -> Usage | None:
        """The disjoint buckets; None when no figure is above zero. Their sum is everything that is charged."""
        told = self._told
        write = _count(told.get("cache_creation_input_tokens"))
        kinds = told.get("cache_creation")
        if not write and isinstance(kinds, dict):
            write = sum(_count(item) for item in kinds.values())
        figures = [
            _count(told.get("input_tokens")),
            _count(told.get("cache_read_input_tokens")),
            write,
            _count(told.get("output_tokens")),
        ]
        extra = _compaction(told)
        if extra is not _NO_PASSES:
            figures = [one + other for one, other in zip(figures, extra, strict=True)]
        if not any(figures):
            return None
        details = told.get("output_tokens_details")
        thinking = _count(details.get("thinking_tokens")) if isinstance(details, dict) else 0
        thinking = min(thinking, figures[3])
        usage = Usage(
            input_tokens=figures[0],
            cache_read_tokens=figures[1],
            cache_write_tokens=figures[2],
            output_tokens=figures[3] - thinking,
            reasoning_tokens=thinking,
        )
        for name in ("cache_creation", "server_tool_use"):
            _note_other(usage, told.get(name))
        return usage

    def details(self) -> dict[str, bytes]:
        """What the buckets do not hold, as the extension `usage_details`; empty when there is nothing."""
        rest = {name: item for name, item in self._told.items() if name not in _FIGURES}
        return {"usage_details": jsontools.dumps(rest)} if rest else {}


def _count(value: object) -> int:
    """A figure as a number of tokens; anything that is none counts as zero."""
    if type(value) not in _NUMBERS:  # which leaves out true and false
        return 0
    return int(value) if 0 < value < _MOST else 0  # type: ignore[operator, call-overload] # a number, seen above


_NUMBERS: Final = frozenset({int, float})
_MOST: Final = 1 << 53
_NO_PASSES: Final = [0, 0, 0, 0]


def _compaction(told: Mapping[str, Any]) -> list[int]:
    """Prompt, cached, cache-write and output tokens of the passes that summed up the conversation.

    They are charged like the rest, but stand in `iterations` only, beside the totals
    (https://platform.claude.com/docs/en/build-with-claude/compaction).
    """
    iterations = told.get("iterations")
    if not iterations:
        return _NO_PASSES
    passes = [
        item
        for item in (iterations if isinstance(iterations, list) else ())
        if isinstance(item, dict) and item.get("type") == "compaction"
    ]
    return [sum(_count(item.get(name)) for item in passes) for name in _FIGURES]


def _note_other(usage: Usage, figures: object) -> None:
    for name, figure in figures.items() if isinstance(figures, dict) else ():
        if _count(figure):
            usage.other[name] = _count(figure)


def usage_json(usage: Usage, details: Mapping[str, Any]) -> dict[str, Any]:
    """`usage` in this API's form; `details` is what `UsageTally.details` kept."""
    told = [
        usage.input_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        usage.output_tokens + usage.reasoning_tokens,
    ]
    told = [max(0, one - other) for one, other in zip(told, _compaction(details), strict=True)]
    out: dict[str, Any] = dict(zip(_FIGURES, told, strict=True))
    out |= details
    if usage.reasoning_tokens:
        out.setdefault("output_tokens_details", {"thinking_tokens": usage.reasoning_tokens})
    return out


def extras(value: Mapping[str, Any], known: Iterable[str]) -> dict[str, bytes]:
    """The members that are not `known`, as JSON; null ones say nothing and are left out."""
    known = frozenset(known)
    if value.keys() <= known:
        return {}
    return {name: jsontools.dumps(item) for name, item in value.items() if name not in known and item is not None}


def put_extras(target: dict[str, Any], extensions: Mapping[str, bytes]) -> None:
    """Adds extensions to a JSON object, never over what it has."""
    if not extensions:  # most have none
        return
    for name, raw in extensions.items():
        if name not in target:
            target[name] = jsontools.loads(raw)


def text_or_empty(value: object) -> str:
    """A text member; empty when it is missing or of another type."""
    return value if isinstance(value, str) else ""


def made_call_id(*parts: object) -> str:
    """An id for a tool call that came without one: the same for the same answer, new for every other."""
    return "toolu_" + hashlib.blake2b(repr(parts).encode(), digest_size=12).hexdigest()


def fitting_call_id(call_id: str) -> str:
    """An id as vendors of this dialect take them: letters, digits, `_` and `-`. The same id gives the same result."""
    return call_id if _CALL_ID.fullmatch(call_id) else made_call_id(call_id)


def bad_answer(message: str) -> MeshError:
    """A vendor's answer that cannot be read."""
    return MeshError.upstream(errors_pb2.FAULT_BAD_ANSWER, message)


def unsupported(message: str, param: str) -> MeshError:
    """Content that this dialect cannot express."""
    return MeshError.upstream(errors_pb2.FAULT_UNSUPPORTED, message, param=param)


# What code that takes untrusted JSON apart may meet: a member of a type that nobody foresaw, or JSON nested too deep.
WRONG_SHAPE: Final = (TypeError, ValueError, AttributeError, LookupError, RecursionError)
