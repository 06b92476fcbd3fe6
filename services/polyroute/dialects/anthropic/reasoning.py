"""How much to think: the contract's options as `thinking` and `output_config.effort`.

This API has two dials. `thinking` says whether: `{type: adaptive}`, `{type: enabled, budget_tokens: n}` for older
models, `{type: disabled}`. `effort` (low, medium, high, xhigh, max; https://platform.claude.com/docs/en/build-with-claude/effort)
says how thoroughly to do everything, thinking included. Elsewhere one word says both, so a word that came in another
dialect is translated:

| word | adaptive | budget, as a share of the bound on the answer |
|---|---|---|
| none | disabled | disabled |
| minimal | adaptive, low | 10 % |
| low | adaptive, low | 20 % |
| medium | adaptive, medium | 50 % |
| high | adaptive, high | 80 % |
| xhigh, max | adaptive, the same word | 95 % |

The shares are those that https://openrouter.ai/docs/use-cases/reasoning-tokens publishes, so that callers who move see
the same; a budget is at least 1,024 tokens and less than the bound.
"""

from collections.abc import Mapping
from typing import Any, Final

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import ChatRequest
from polyroute.dialects.anthropic.common import MIN_BUDGET_TOKENS, NAME, Options

_SHARES: Final[Mapping[str, float]] = {
    "minimal": 0.1,
    "low": 0.2,
    "medium": 0.5,
    "high": 0.8,
    "xhigh": 0.95,
    "max": 0.95,
}
_FORCED: Final = ("any", "tool")


def write(request: ChatRequest, out: dict[str, Any], dropped: list[str], *, source: str, options: Options) -> None:
    """Adds `thinking` and `output_config.effort`, and names what was left out. `max_tokens` must be there already."""
    asked = request.reasoning
    if asked.summary and source != NAME:
        dropped.append("reasoning.summary")
    if source in ("", NAME):  # whose caller knows both dials
        if "thinking" not in request.extensions:
            _put(outright(asked), request, out)
        if asked.effort:
            _put_effort(asked.effort, out)
        return
    if out.get("tool_choice", {}).get("type") in _FORCED and _wants(asked):
        dropped.append("reasoning_effort")  # vendors refuse to think before a forced call
        return
    _translate(request, out, dropped, options)


def _wants(asked: pb.ReasoningOptions) -> bool:
    if asked.HasField("enabled") and not asked.enabled:
        return False
    return asked.effort not in ("", "none") or asked.enabled or asked.max_tokens > 0


def outright(asked: pb.ReasoningOptions) -> dict[str, Any] | None:
    """`thinking` for options that say it outright."""
    if asked.HasField("enabled") and not asked.enabled:
        return {"type": "disabled"}
    if asked.max_tokens:
        return {"type": "enabled", "budget_tokens": asked.max_tokens}
    return {"type": "adaptive"} if asked.enabled else None


def _translate(request: ChatRequest, out: dict[str, Any], dropped: list[str], options: Options) -> None:
    asked = request.reasoning
    said = outright(asked)
    if said is not None and (said["type"] != "adaptive" or not asked.effort):
        if said["type"] == "adaptive" and options.thinking == "budget":
            said = _budget("medium", request, out)
            dropped += [] if said else ["reasoning.enabled"]
        _put(said, request, out)
    elif asked.effort == "none":
        out["thinking"] = {"type": "disabled"}
    elif asked.effort not in _SHARES:
        dropped += ["reasoning_effort"] if asked.effort else []
    elif options.thinking == "adaptive":
        out["thinking"] = {"type": "adaptive"}
        _put_effort("low" if asked.effort == "minimal" else asked.effort, out)
    else:
        budget = _budget(asked.effort, request, out)
        _put(budget, request, out)
        dropped += [] if budget else ["reasoning_effort"]


def _budget(effort: str, request: ChatRequest, out: dict[str, Any]) -> dict[str, Any] | None:
    """A budget for a word; None when the bound on the answer leaves no room for one."""
    budget = max(MIN_BUDGET_TOKENS, int(out["max_tokens"] * _SHARES[effort]))
    if budget < out["max_tokens"] or not request.HasField("max_output_tokens"):
        return {"type": "enabled", "budget_tokens": budget}
    return None


def _put(thinking: dict[str, Any] | None, request: ChatRequest, out: dict[str, Any]) -> None:
    if thinking is None:
        return
    out["thinking"] = thinking
    budget = thinking.get("budget_tokens", 0)
    if budget >= out["max_tokens"] and not request.HasField("max_output_tokens"):
        out["max_tokens"] += budget  # the bound is ours, and must leave room for the answer


def _put_effort(effort: str, out: dict[str, Any]) -> None:
    out["output_config"] = out.get("output_config", {}) | {"effort": effort}
