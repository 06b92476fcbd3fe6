"""Where the families of models differ in what this API takes of them.

Whatever is not in `inferenceConfig` rides in `additionalModelRequestFields`, whose members each family names its own
way, and refuses in another's. A family is told by the model's id, in which a profile may put a region before it.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import ChatRequest

Fields = dict[str, Any]  # of `additionalModelRequestFields`

MIN_BUDGET: Final = 1024  # https://docs.aws.amazon.com/bedrock/latest/userguide/claude-messages-extended-thinking.html
MAX_BUDGET: Final = 32_000  # beyond which the same page advises batch processing
# Part of the bound on the answer that may be thought, by effort, for models that take a budget:
# https://openrouter.ai/docs/use-cases/reasoning-tokens
_SHARES: Final[Mapping[str, float]] = {
    "minimal": 0.1,
    "low": 0.2,
    "medium": 0.5,
    "high": 0.8,
    "xhigh": 0.95,
    "max": 0.95,
}
_THREE: Final[Mapping[str, str]] = {
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "high",
    "max": "high",
}


@dataclass(slots=True)
class Thinking:
    """What a request to think becomes.

    Attributes:
        fields: Members of `additionalModelRequestFields`.
        displaced: Parameters that the model refuses beside them, by their names in `chat.v1`; they are left out.
        unused: Parts of the wish that could not be expressed: `effort`, `max_tokens`, `enabled`, `summary`.
    """

    fields: Fields = field(default_factory=dict)
    displaced: frozenset[str] = frozenset()
    unused: tuple[str, ...] = ()


Think = Callable[[ChatRequest], Thinking]


@dataclass(frozen=True, slots=True)
class Family:
    """Models that take the same members.

    Attributes:
        ids: Matches their ids.
        think: How they are asked to think; None when they cannot be.
        top_k: Where `top_k` stands, as a path of members; empty when they do not take it.
        cache: Where they take `cachePoint` blocks: `system`, `messages`, `tools`.
    """

    ids: re.Pattern[str]
    think: Think | None = None
    top_k: tuple[str, ...] = ()
    cache: frozenset[str] = frozenset()


def wish_of(request: ChatRequest) -> tuple[bool | None, str]:
    """Whether a request asks to think (None: it says nothing), and how hard (empty: it does not say)."""
    wish = request.reasoning
    if wish.effort == "none" or (wish.HasField("enabled") and not wish.enabled):
        return False, ""
    if wish.HasField("max_tokens") and not wish.max_tokens:
        return False, ""
    asked = wish.enabled or bool(wish.effort) or wish.HasField("max_tokens")
    return (True if asked else None), wish.effort


def _said(request: ChatRequest, *names: str) -> tuple[str, ...]:
    """Which of these parts of the wish are set."""
    given = {descriptor.name for descriptor, _ in request.reasoning.ListFields()}
    return tuple(name for name in names if name in given)


def _forced(request: ChatRequest) -> bool:
    return request.tool_choice.mode in (pb.ToolChoice.MODE_REQUIRED, pb.ToolChoice.MODE_NAMED)


def _budgeted(request: ChatRequest) -> Thinking:
    """`thinking` with a budget in tokens, less than the bound on the answer, and not beside a forced tool."""
    asked, effort = wish_of(request)
    if asked is False:
        return Thinking({"thinking": {"type": "disabled"}})
    most = request.max_output_tokens if request.HasField("max_output_tokens") else 0
    if _forced(request) or 0 < most <= MIN_BUDGET:
        return Thinking(unused=_said(request, "effort", "max_tokens", "enabled", "summary"))
    budget = request.reasoning.max_tokens or int((most or MAX_BUDGET) * _SHARES.get(effort, _SHARES["medium"]))
    budget = max(MIN_BUDGET, min(budget, MAX_BUDGET, most - 1 if most else MAX_BUDGET))
    return Thinking(
        {"thinking": {"type": "enabled", "budget_tokens": budget}}, frozenset({"temperature", "top_p", "top_k"})
    )


def _adaptive(request: ChatRequest) -> Thinking:
    """`thinking` that decides for itself, with an effort; its words are shown as a summary or not at all."""
    asked, effort = wish_of(request)
    if asked is False:
        return Thinking({"thinking": {"type": "disabled"}})
    if _forced(request):
        return Thinking(unused=_said(request, "effort", "max_tokens", "enabled", "summary"))
    thinking: Fields = {"type": "adaptive"} | ({"display": "summarized"} if request.reasoning.summary else {})
    fields: Fields = {"thinking": thinking}
    if effort:
        fields["output_config"] = {"effort": "low" if effort == "minimal" else effort}
    return Thinking(fields, frozenset({"temperature", "top_p", "top_k"}), _said(request, "max_tokens"))


def _three_levels(request: ChatRequest) -> Thinking:
    """`reasoningConfig` with one of three efforts, of which the highest lifts the bound on the answer.

    A bound that the caller set stands above an effort: beside it the highest becomes the second.
    """
    asked, effort = wish_of(request)
    unused = _said(request, "max_tokens", "summary")
    if asked is False:
        return Thinking({"reasoningConfig": {"type": "disabled"}}, unused=_said(request, "summary"))
    level = _THREE.get(effort, "medium")
    if level == "high" and request.HasField("max_output_tokens"):
        level = "medium"
    displaced = frozenset({"temperature", "top_p"}) if level == "high" else frozenset[str]()
    return Thinking({"reasoningConfig": {"type": "enabled", "maxReasoningEffort": level}}, displaced, unused)


def _flat_effort(request: ChatRequest) -> Thinking:
    """`reasoning_effort`, one of three; these models cannot be kept from thinking."""
    _, effort = wish_of(request)
    unused = _said(request, "max_tokens", "enabled", "summary")
    if effort not in _THREE:
        return Thinking(unused=(*_said(request, "effort"), *unused))
    return Thinking({"reasoning_effort": _THREE[effort]}, unused=unused)


def _nested_effort(request: ChatRequest) -> Thinking:
    """`reasoning` with an effort, `none` included, and a summary."""
    asked, effort = wish_of(request)
    reasoning: Fields = {"effort": "none" if asked is False else "low" if effort == "minimal" else effort}
    if request.reasoning.summary:
        reasoning["summary"] = request.reasoning.summary
    reasoning = {name: value for name, value in reasoning.items() if value}
    return Thinking({"reasoning": reasoning} if reasoning else {}, unused=_said(request, "max_tokens"))


def _word(request: ChatRequest) -> Thinking:
    """`reasoning_config` as a single word."""
    _, effort = wish_of(request)
    unused = _said(request, "max_tokens", "enabled", "summary")
    if effort not in _THREE:
        return Thinking(unused=(*_said(request, "effort"), *unused))
    return Thinking({"reasoning_config": _THREE[effort]}, unused=unused)


def think(family: Family, request: ChatRequest) -> Thinking:
    """What a request's wish to think becomes for a family; nothing when it wishes nothing."""
    asked, _ = wish_of(request)
    if asked is None and not request.reasoning.summary:
        return Thinking()
    if family.think is None or asked is None:
        return Thinking(unused=_said(request, "effort", "max_tokens", "enabled", "summary"))
    return family.think(request)


_EVERYWHERE: Final = frozenset({"system", "messages", "tools"})
_NO_TOOLS: Final = frozenset({"system", "messages"})

# The first that matches decides. Sources: the pages of "Inference parameters and responses for foundation models",
# https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters.html,
# https://docs.aws.amazon.com/bedrock/latest/userguide/prompt-caching.html and
# https://docs.aws.amazon.com/nova/latest/nova2-userguide/extended-thinking.html
FAMILIES: Final = (
    Family(
        re.compile(r"claude-(?:3-7-|(?:opus|sonnet|haiku)-4-(?:[0-5]-)?20\d{6})"),
        think=_budgeted,
        top_k=("top_k",),
        cache=_EVERYWHERE,
    ),
    Family(re.compile(r"claude-[a-z]+-(?:4-[6-9]|[5-9]|\d\d)"), think=_adaptive, top_k=("top_k",), cache=_EVERYWHERE),
    Family(re.compile(r"claude-3-5-"), top_k=("top_k",), cache=_EVERYWHERE),
    Family(re.compile(r"claude-"), top_k=("top_k",)),
    Family(re.compile(r"nova-(?:2|[3-9])-"), think=_three_levels, top_k=("inferenceConfig", "topK"), cache=_NO_TOOLS),
    Family(re.compile(r"nova-(?:micro|lite|pro|premier)"), top_k=("inferenceConfig", "topK"), cache=_NO_TOOLS),
    Family(re.compile(r"gpt-oss|kimi-k2"), think=_flat_effort),
    Family(re.compile(r"\bopenai\."), think=_nested_effort),
    Family(re.compile(r"qwen3"), think=_word),
)
OTHERS: Final = Family(re.compile(""))  # nothing beyond what every model takes


def family_of(model: str, families: tuple[Family, ...] = FAMILIES) -> Family:
    """The family of a model, by its id."""
    return next((family for family in families if family.ids.search(model)), OTHERS)
