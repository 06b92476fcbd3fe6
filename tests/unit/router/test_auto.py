"""The model `auto`: which class a call is taken for, and what serves it."""

from typing import Any

import pytest

from polyroute.api.chat.v1.chat_pb2 import CAPABILITY_TOOLS, CAPABILITY_VISION
from polyroute.api.errors.v1.errors_pb2 import REASON_MODEL_NOT_FOUND
from polyroute.api.router.v1 import router_pb2 as pb
from polyroute.mesh.errors import MeshError
from polyroute.router.auto import Class, Seen, classified
from polyroute.router.decide import decide
from polyroute.router.policyconfig import AutoRuleConfig
from tests.fakes.catalogs import NOW, ask, opened
from tests.unit.router.live import live, spread, window

CATALOG = """
models:
  large: {deployments: [{provider: p, model: a, price: {input: 9, output: 9}}]}
  small: {deployments: [{provider: p, model: b, price: {input: 1, output: 1}}]}
  coder: {deployments: [{provider: p, model: c, price: {input: 5, output: 5}}]}
policies: {dear: {sort: {by: price, order: desc}}}
routing: {auto: {models: [large, small], classes: {code: {models: [coder]}, long: {policy: dear}}}}
"""


def decided(model: str = "auto", text: str = CATALOG, hints: pb.Hints | None = None, **facts: Any) -> pb.DecideResponse:
    """A decision about a call whose model is left to the gateway."""
    store = opened(text, "p")
    store.measure(live(p__a=window(latency=spread(10)), p__b=window(latency=spread(500))))
    request = ask(model, **facts)
    if hints is not None:
        request.hints.CopyFrom(hints)
    return decide(request, store.view, NOW)


def summary(response: pb.DecideResponse) -> tuple[list[str], str, str]:
    """The models in order, the policy and the class."""
    return [one.model for one in response.plan.attempts], response.record.policy, response.record.content_class


@pytest.mark.parametrize(
    ("model", "hints", "facts", "expected"),
    [
        ("auto", pb.Hints(), {}, (["small", "large"], "cost_first", "chat")),
        ("auto", pb.Hints(code=True), {}, (["coder"], "cost_first", "code")),
        ("auto", pb.Hints(urgency=pb.URGENCY_HIGH), {}, (["large", "small"], "latency_critical", "urgent")),
        ("auto", pb.Hints(urgency=pb.URGENCY_LOW, code=True), {}, (["small", "large"], "cost_first", "batch")),
        ("auto", pb.Hints(), {"input_tokens_estimate": 32_000}, (["large", "small"], "dear", "long")),
        ("auto", pb.Hints(tools=2, code=True), {}, (["small", "large"], "cost_first", "agent")),
        ("auto", None, {"needs": [CAPABILITY_TOOLS]}, (["small", "large"], "cost_first", "agent")),
        ("auto", None, {"needs": [CAPABILITY_VISION]}, (["small", "large"], "cost_first", "vision")),
        ("auto:quality_first", pb.Hints(), {}, (["large", "small"], "quality_first", "chat")),
        ("auto:latency_critical", pb.Hints(), {}, (["large", "small"], "latency_critical", "chat")),
        ("auto:cost_first", pb.Hints(code=True), {}, (["coder"], "cost_first", "code")),
    ],
)
def test_class_decides(
    model: str, hints: pb.Hints | None, facts: dict[str, Any], expected: tuple[list[str], str, str]
) -> None:
    """The class gives the models, the mode or the class gives the policy."""
    assert expected == summary(decided(model, hints=hints, **facts))


def test_record_says_class_and_rule() -> None:
    """Whoever asks why reads the row of the table."""
    record = decided(hints=pb.Hints(), input_tokens_estimate=40_000).record

    assert ("auto", "long", "tokens >= 32000", "class long") == (
        record.requested_model,
        record.content_class,
        record.class_rule,
        record.policy_reason,
    )


def test_operators_rows_stand_instead() -> None:
    """The operator's table replaces the built-in one, row by row in its order."""
    rules = (
        AutoRuleConfig(name="brief", max_tokens=100, vision=False),
        AutoRuleConfig(name="brief-picture", max_tokens=100),
    )

    def seen(tokens: int, vision: bool) -> Class:
        return classified(Seen("high", False, False, vision, tokens), rules)

    assert Class("brief", "vision: false, tokens <= 100") == seen(100, False)
    assert Class("brief-picture", "tokens <= 100") == seen(100, True)
    assert Class("chat", "no other rule") == seen(101, True)


def test_policy_of_the_same_name_stands_instead() -> None:
    """An operator may say what cost first means."""
    text = CATALOG.replace("policies: {", "policies: {cost_first: {sort: {by: price, order: desc}}, ")

    assert ["large", "small"] == summary(decided(text=text))[0]


def test_without_models_there_is_no_auto() -> None:
    """A gateway that was told of no models to choose from does not guess."""
    with pytest.raises(MeshError, match=r"routing\.auto names no models") as caught:
        decided(text="{models: {m: {deployments: [p/a]}}}")

    assert REASON_MODEL_NOT_FOUND == caught.value.reason


def test_permitted_models_bound_the_choice() -> None:
    """A key that may use one of them gets that one."""
    request = ask("auto")
    request.permitted_models.append("large")

    response = decide(request, opened(CATALOG, "p").view, NOW)

    assert ["large"] == [one.model for one in response.plan.attempts]
