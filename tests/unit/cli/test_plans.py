"""Plans on the command line."""

import pytest

from polyroute.api.auth.v1.auth_pb2 import PlanScope
from polyroute.api.auth.v1.billing_pb2 import Plan, PlanLimit
from polyroute.api.auth.v1.limits_pb2 import LIMIT_KIND_CONCURRENCY, LIMIT_KIND_REQUESTS, LIMIT_KIND_TOKENS
from polyroute.api.chat.v1.chat_pb2 import OPERATION_CHAT
from polyroute.cli.plans import limits, limits_of, opens, opens_of
from polyroute.mesh.roles import ConfigError

WRITTEN = ["requests=30:5@ollama/large:7b", "tokens=2000000", "concurrency=20"]


def test_limits_are_printed_as_they_are_written() -> None:
    """A kind, an amount, and a burst and a model where there are any."""
    found = limits(WRITTEN)

    assert [
        PlanLimit(kind=LIMIT_KIND_REQUESTS, amount=30, burst=5, model="ollama/large:7b"),
        PlanLimit(kind=LIMIT_KIND_TOKENS, amount=2_000_000),
        PlanLimit(kind=LIMIT_KIND_CONCURRENCY, amount=20),
    ] == found
    assert ", ".join(WRITTEN) == limits_of(Plan(limits=found))


@pytest.mark.parametrize(
    "text", ["requests", "calls=3", "requests=-1", "requests=1.5", "requests=1@", "tokens=99999999999999"]
)
def test_what_is_no_limit(text: str) -> None:
    """Is refused with how one is written."""
    with pytest.raises(ConfigError, match="such as requests=600"):
        limits([text])


def test_what_a_plan_opens() -> None:
    """In words; nothing said is everything."""
    found = opens(["small-*"], ["chat"], ["/v1/chat/*"])

    assert PlanScope(models=["small-*"], operations=[OPERATION_CHAT], routes=["/v1/chat/*"]) == found
    assert ("small-*, chat, /v1/chat/*", "") == (opens_of(Plan(opens=found)), opens_of(Plan()))
    assert None is opens([], [], [])
    with pytest.raises(ConfigError, match="is none of chat,"):
        opens([], ["talk"], [])
