"""What requests, answers and streams of `bedrock.converse` share: its name, finish reasons, usage."""

from collections.abc import Mapping
from typing import Any, Final

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import FinishReason, Usage

CONVERSE: Final = "bedrock.converse"
SIGNATURE: Final = "signature"  # kinds of `VendorState`
REDACTED: Final = "redactedContent"
BLOCKS: Final = "contentBlocks"  # extension of a message; see `reader`
SERVER_TOOL: Final = "server_tool_use"

# https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html, `stopReason`; the last two are
# words of models that pass through.
_FINISH: Final[Mapping[str, FinishReason.ValueType]] = {
    "end_turn": pb.FINISH_REASON_STOP,
    "stop_sequence": pb.FINISH_REASON_STOP,
    "max_tokens": pb.FINISH_REASON_LENGTH,
    "model_context_window_exceeded": pb.FINISH_REASON_LENGTH,
    "tool_use": pb.FINISH_REASON_TOOL_CALLS,
    "guardrail_intervened": pb.FINISH_REASON_CONTENT_FILTER,
    "content_filtered": pb.FINISH_REASON_CONTENT_FILTER,
    "malformed_model_output": pb.FINISH_REASON_ERROR,
    "malformed_tool_use": pb.FINISH_REASON_ERROR,
    "refusal": pb.FINISH_REASON_CONTENT_FILTER,
    "pause_turn": pb.FINISH_REASON_PAUSE,
}


def finish_of(word: str, *, tool_calls: bool) -> FinishReason.ValueType:
    """The finish reason for the vendor's word; calls decide over `end_turn`, for somebody must answer them."""
    reason = _FINISH.get(word, pb.FINISH_REASON_OTHER)
    return pb.FINISH_REASON_TOOL_CALLS if tool_calls and reason == pb.FINISH_REASON_STOP else reason


def usage_of(value: object) -> Usage | None:
    """The disjoint buckets of `usage`; None when it says nothing.

    This API counts cache reads and writes beside `inputTokens`: `totalTokens` is the sum of the four figures. Should
    the total show that they stand inside, they are taken out. Reasoning is part of `outputTokens` and never told apart.
    """
    if not isinstance(value, Mapping):
        return None
    entry = _count(value.get("inputTokens"))
    output = _count(value.get("outputTokens"))
    read = _count(value.get("cacheReadInputTokens")) or _count(value.get("cacheReadInputTokenCount"))
    write = _count(value.get("cacheWriteInputTokens")) or _count(value.get("cacheWriteInputTokenCount"))
    total = _count(value.get("totalTokens"))
    if not total and not any((entry, output, read, write)) and "inputTokens" not in value:
        return None
    if (read or write) and total == entry + output and entry >= read + write:
        entry -= read + write
    usage = Usage(input_tokens=entry, cache_read_tokens=read, cache_write_tokens=write, output_tokens=output)
    _note_other(usage, value)
    return usage


def _note_other(usage: Usage, value: Mapping[str, Any]) -> None:
    """Writes to the cache by their lifetime, which have prices of their own, and uses of the vendor's own tools."""
    details = value.get("cacheDetails")
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, dict) and isinstance(detail.get("ttl"), str) and _count(detail.get("inputTokens")):
            usage.other[f"ephemeral_{detail['ttl'][:16]}_input_tokens"] = _count(detail["inputTokens"])
    tools = value.get("serverToolUsage")
    for name, figure in tools.items() if isinstance(tools, dict) else ():
        if _count(figure):
            usage.other[name[:64]] = _count(figure)


def _count(figure: object) -> int:
    """A count of tokens; some models give fractions such as 12.0."""
    if isinstance(figure, bool) or not isinstance(figure, int | float):
        return 0
    return int(figure) if 0 < figure < 1 << 53 else 0
