"""The model `auto`: rules give a call a class of content, and the class says who serves it under which policy.

The first row that holds gives the class. The table is short, has no learned part, and the row is in the decision
record: whoever asks why a call was taken for what it was taken for can read it. An operator may replace the rows;
these stand otherwise:

    urgent      the caller says that the answer is wanted at once
    batch       the caller says that it can wait
    vision      there are pictures
    long        the prompt has at least 32,000 tokens
    agent       there are tools
    code        there is program code
    chat        everything else
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from polyroute.api.chat.v1.chat_pb2 import CAPABILITY_TOOLS, CAPABILITY_VISION, RequestFacts
from polyroute.api.router.v1 import router_pb2 as pb
from polyroute.router.policies import COST_FIRST, LATENCY_CRITICAL
from polyroute.router.policyconfig import AutoConfig, AutoRuleConfig

LONG_TOKENS: Final = 32_000
OTHER: Final = "chat"
RULES: Final = (
    AutoRuleConfig(name="urgent", urgency="high"),
    AutoRuleConfig(name="batch", urgency="low"),
    AutoRuleConfig(name="vision", vision=True),
    AutoRuleConfig(name="long", min_tokens=LONG_TOKENS),
    AutoRuleConfig(name="agent", tools=True),
    AutoRuleConfig(name="code", code=True),
)
# What plain `auto` ranks a class by when the operator does not say.
POLICIES: Final[Mapping[str, str]] = {"urgent": LATENCY_CRITICAL}

_URGENCIES: Final[Mapping[int, str]] = {
    pb.URGENCY_LOW: "low",
    pb.URGENCY_UNSPECIFIED: "normal",
    pb.URGENCY_NORMAL: "normal",
    pb.URGENCY_HIGH: "high",
}


class Class(NamedTuple):
    """What a call was taken for, and the row that said so, such as `tokens >= 32000`."""

    name: str
    rule: str


class Seen(NamedTuple):
    """What the rows of the table compare."""

    urgency: str
    code: bool
    tools: bool
    vision: bool
    tokens: int


def seen_in(facts: RequestFacts, hints: pb.Hints) -> Seen:
    """What is known of a call's content."""
    return Seen(
        urgency=_URGENCIES.get(hints.urgency, "normal"),
        code=hints.code,
        tools=hints.tools > 0 or CAPABILITY_TOOLS in facts.needs,
        vision=CAPABILITY_VISION in facts.needs,
        tokens=facts.input_tokens_estimate,
    )


def classified(seen: Seen, rules: Sequence[AutoRuleConfig]) -> Class:
    """The class of a call; `rules` are the operator's rows, none for the table above."""
    for rule in rules or RULES:
        if _holds(rule, seen):
            return Class(rule.name, _words(rule))
    return Class(OTHER, "no other rule")


def models_of(config: AutoConfig, name: str) -> tuple[str, ...]:
    """The models that a class may be served by, the best first."""
    chosen = config.classes.get(name)
    return chosen.models if chosen is not None and chosen.models else config.models


def policy_of(config: AutoConfig, name: str, mode: str) -> str:
    """What ranks the models of a class: what the caller's `auto:...` says, else what the operator says of the class."""
    chosen = config.classes.get(name)
    if mode != COST_FIRST:
        return mode
    if chosen is not None and chosen.policy is not None:
        return chosen.policy
    return POLICIES.get(name, COST_FIRST)


def _holds(rule: AutoRuleConfig, seen: Seen) -> bool:
    return (
        rule.urgency in {None, seen.urgency}
        and rule.code in {None, seen.code}
        and rule.tools in {None, seen.tools}
        and rule.vision in {None, seen.vision}
        and (rule.min_tokens is None or seen.tokens >= rule.min_tokens)
        and (rule.max_tokens is None or seen.tokens <= rule.max_tokens)
    )


def _words(rule: AutoRuleConfig) -> str:
    words = [
        f"{name}: {str(value).lower()}"
        for name in ("urgency", "code", "tools", "vision")
        if (value := getattr(rule, name)) is not None
    ]
    if rule.min_tokens is not None:
        words.append(f"tokens >= {rule.min_tokens}")
    if rule.max_tokens is not None:
        words.append(f"tokens <= {rule.max_tokens}")
    return ", ".join(words) or "always"
