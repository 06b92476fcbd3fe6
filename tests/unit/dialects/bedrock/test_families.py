"""What a wish to think becomes, and what else the families of models take."""

from typing import Any

import pytest

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.dialects.bedrock.families import family_of, think

BUDGET = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
ADAPTIVE = "us.anthropic.claude-sonnet-5"
LEVELS = "us.amazon.nova-2-lite-v1:0"
FLAT = "openai.gpt-oss-120b-1:0"
NESTED = "global.openai.gpt-5.6-sol"
WORD = "qwen.qwen3-32b-v1:0"


def asked(model: str, most: int | None = None, forced: bool = False, **reasoning: Any) -> Any:
    """What a wish becomes."""
    request = pb.ChatRequest(max_output_tokens=most, reasoning=pb.ReasoningOptions(**reasoning))
    if forced:
        request.tool_choice.mode = pb.ToolChoice.MODE_REQUIRED
    return think(family_of(model), request)


@pytest.mark.parametrize(
    ("model", "most", "wish", "fields"),
    [
        (BUDGET, 10_000, {"effort": "low"}, {"thinking": {"type": "enabled", "budget_tokens": 2000}}),
        (BUDGET, 10_000, {"effort": "high"}, {"thinking": {"type": "enabled", "budget_tokens": 8000}}),
        (BUDGET, 2000, {"effort": "minimal"}, {"thinking": {"type": "enabled", "budget_tokens": 1024}}),
        (BUDGET, 2000, {"max_tokens": 5000}, {"thinking": {"type": "enabled", "budget_tokens": 1999}}),
        (BUDGET, None, {"enabled": True}, {"thinking": {"type": "enabled", "budget_tokens": 16_000}}),
        (BUDGET, None, {"effort": "max"}, {"thinking": {"type": "enabled", "budget_tokens": 30_400}}),
        (BUDGET, None, {"max_tokens": 90_000}, {"thinking": {"type": "enabled", "budget_tokens": 32_000}}),
        (BUDGET, None, {"effort": "none"}, {"thinking": {"type": "disabled"}}),
        (BUDGET, None, {"enabled": False}, {"thinking": {"type": "disabled"}}),
        (ADAPTIVE, None, {"effort": "xhigh"}, {"thinking": {"type": "adaptive"}, "output_config": {"effort": "xhigh"}}),
        (ADAPTIVE, None, {"effort": "none"}, {"thinking": {"type": "disabled"}}),
        (
            ADAPTIVE,
            None,
            {"enabled": True, "summary": "auto"},
            {"thinking": {"type": "adaptive", "display": "summarized"}},
        ),
        (LEVELS, None, {"effort": "xhigh"}, {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "high"}}),
        (LEVELS, 500, {"effort": "high"}, {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "medium"}}),
        (LEVELS, 500, {"effort": "minimal"}, {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "low"}}),
        (LEVELS, None, {"effort": "none"}, {"reasoningConfig": {"type": "disabled"}}),
        (FLAT, None, {"effort": "xhigh"}, {"reasoning_effort": "high"}),
        (FLAT, None, {"effort": "none"}, {}),
        (NESTED, None, {"effort": "none"}, {"reasoning": {"effort": "none"}}),
        (NESTED, None, {"effort": "high", "summary": "auto"}, {"reasoning": {"effort": "high", "summary": "auto"}}),
        (WORD, None, {"effort": "high"}, {"reasoning_config": "high"}),
        (ADAPTIVE, None, {}, {}),
        ("meta.llama3-1-8b-instruct-v1:0", None, {"effort": "high"}, {}),
        ("amazon.nova-pro-v1:0", None, {"effort": "high"}, {}),
    ],
)
def test_a_wish_is_put_in_the_familys_words(
    model: str, most: int | None, wish: dict[str, Any], fields: dict[str, Any]
) -> None:
    """Each family has members of its own for the same wish."""
    assert fields == asked(model, most, **wish).fields


@pytest.mark.parametrize(
    ("model", "most", "wish", "unused"),
    [
        (BUDGET, 1000, {"effort": "high"}, ("effort",)),
        (ADAPTIVE, None, {"effort": "high", "max_tokens": 9}, ("max_tokens",)),
        (FLAT, None, {"effort": "none", "max_tokens": 9}, ("effort", "max_tokens")),
        ("cohere.command-r-v1:0", None, {"effort": "low", "enabled": True}, ("effort", "enabled")),
    ],
)
def test_what_cannot_be_said_is_named(
    model: str, most: int | None, wish: dict[str, Any], unused: tuple[str, ...]
) -> None:
    """A wish that a family has no words for is not lost in silence."""
    assert unused == asked(model, most, **wish).unused


@pytest.mark.parametrize("model", [BUDGET, ADAPTIVE])
def test_a_forced_tool_stands_above_thinking(model: str) -> None:
    """These models refuse both together."""
    thinking = asked(model, forced=True, effort="high")

    assert {} == thinking.fields
    assert ("effort",) == thinking.unused


@pytest.mark.parametrize(
    ("model", "where", "top_k"),
    [
        ("anthropic.claude-3-5-haiku-20241022-v1:0", {"system", "messages", "tools"}, ("top_k",)),
        ("anthropic.claude-3-haiku-20240307-v1:0", set(), ("top_k",)),
        ("anthropic.claude-opus-4-6-v1", {"system", "messages", "tools"}, ("top_k",)),
        ("apac.amazon.nova-lite-v1:0", {"system", "messages"}, ("inferenceConfig", "topK")),
        ("mistral.mistral-large-2407-v1:0", set(), ()),
    ],
)
def test_families_are_told_by_the_models_id(model: str, where: set[str], top_k: tuple[str, ...]) -> None:
    """A region or a version around it does not matter."""
    family = family_of(model)

    assert where == family.cache
    assert top_k == family.top_k
