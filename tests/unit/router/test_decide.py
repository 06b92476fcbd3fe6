"""Which deployments a plan holds, in which order, and what the record says of it."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyroute.api.chat.v1.chat_pb2 import (
    CAPABILITY_TOOLS,
    CAPABILITY_VISION,
    OPERATION_EMBEDDING,
)
from polyroute.api.errors.v1.errors_pb2 import REASON_MODEL_NOT_FOUND, REASON_NO_DEPLOYMENT
from polyroute.api.providers.v1.providers_pb2 import Provider
from polyroute.api.router.v1.router_pb2 import DecideResponse, DecisionRecord
from polyroute.mesh.errors import MeshError
from polyroute.router.config import CatalogConfig
from polyroute.router.decide import decide
from polyroute.router.snapshot import CatalogStore, Prepared
from tests.fakes.catalogs import NOW, ask, opened
from tests.unit.router.live import live, window

PAIR = "{models: {m: {deployments: [{provider: p, model: a, weight: 3}, q/b]}}}"


def planned(response: DecideResponse) -> list[str]:
    """The deployments of a plan, in order."""
    return [attempt.deployment for attempt in response.plan.attempts]


def explained(store: CatalogStore, model: str, request_id: str = "r-1", **facts: Any) -> DecideResponse:
    """A decision with its full record."""
    request = ask(model, request_id, **facts)
    request.explain = True
    return decide(request, store.view, NOW)


def refusal(store: CatalogStore, model: str, **facts: Any) -> MeshError:
    """Why there is no plan."""
    with pytest.raises(MeshError) as caught:
        decide(ask(model, **facts), store.view)
    return caught.value


def verdicts(record: DecisionRecord) -> dict[str, list[tuple[str, bool, str]]]:
    """What the filters said of each candidate."""
    return {
        candidate.deployment: [(one.filter, one.passed, one.observed) for one in candidate.verdicts]
        for candidate in record.candidates
    }


def test_plan_and_record_of_a_call() -> None:
    """A plan says all that an attempt needs; the record says why."""
    store = opened(
        """
        models:
          m:
            deployments:
              - {provider: p, model: a, region: us, price: {input: "0.2", output: 1}, capabilities: [vision, tools],
                 context: 1000, timeouts: {first_token: 300}}
              - {provider: q, model: b, context: 100}
        """,
        "p",
        "q",
    )
    store.measure(live(7, p__a=window(0.9)))

    response = explained(store, "M", needs=[CAPABILITY_VISION], input_tokens_estimate=90, max_output_tokens=20)

    assert ["p/a"] == planned(response)
    attempt = response.plan.attempts[0]
    assert ("p", "a", "us") == (attempt.provider, attempt.upstream_model, attempt.region)
    assert (200_000_000, 1_000_000_000) == (attempt.price.input, attempt.price.output)
    assert [CAPABILITY_TOOLS, CAPABILITY_VISION] == list(attempt.capabilities)
    assert ("m", 3, 300, 600) == (
        response.plan.model,
        response.plan.max_attempts,
        response.plan.timeouts.first_token.seconds,
        response.plan.timeouts.total.seconds,
    )
    record = response.record
    assert ("r-1", "M", "m", 7, "default", store.view.catalog.version) == (
        record.request_id,
        record.requested_model,
        record.resolved_model,
        record.stats_version,
        record.policy,
        record.catalog_version,
    )
    assert [("p/a", 1), ("q/b", 0)] == [(one.deployment, one.position) for one in record.candidates]
    assert {
        "p/a": [
            ("operation", True, "chat"),
            ("capability", True, "has vision"),
            ("context", True, "needs 110 of 1000"),
            ("provider", True, ""),
        ],
        "q/b": [("operation", True, "chat"), ("context", False, "needs 110 of 100"), ("provider", True, "")],
    } == verdicts(record)
    terms = {term.name: term.value for term in record.candidates[0].terms}
    assert [
        "priority",
        "recent_success_rate",
        "weight",
        "price_factor",
        "reliability_factor",
        "speed_factor",
        "share",
    ] == [*terms]
    assert (0, 0.9, 1, 0.9) == tuple(terms[name] for name in (*[*terms][:3], "reliability_factor"))
    assert int(NOW) == record.decide_time.seconds


def test_number_of_tokens_is_each_calls_own() -> None:
    """Calls that share what was prepared still have their own numbers in their records."""
    store = opened("{models: {m: {deployments: [{provider: p, model: a, context: 5000}]}}}", "p")

    records = [explained(store, "m", input_tokens_estimate=tokens).record for tokens in (1234, 4321, 17, 5000)]

    seen = [verdicts(record)["p/a"][1][2] for record in records]
    assert [f"needs {tokens} of 5000" for tokens in (1234, 4321, 17, 5000)] == seen
    assert "needs 5001 tokens" in refusal(store, "m", input_tokens_estimate=5001).message


def test_filters_name_whom_they_removed() -> None:
    """A refusal says which filter removed whom, in words and in metadata."""
    store = opened(
        """
        models:
          m:
            deployments:
              - {provider: p, model: a, capabilities: [tools]}
              - {provider: q, model: b, context: 100}
              - z/c
        """,
        "p",
        "q",
        Provider(name="z", unavailable="no key"),
    )

    error = refusal(store, "m", needs=[CAPABILITY_VISION], input_tokens_estimate=200)

    assert REASON_NO_DEPLOYMENT == error.reason
    assert {"model": "m", "needs": "chat, vision, 200 tokens"} == error.metadata
    assert (
        "no deployment of 'm' can serve this call: capability (lacks vision) rules out p/a; "
        "context (needs 200 tokens) rules out q/b; provider (no key) rules out z/c"
    ) == error.message


def test_wrong_operation_is_refused() -> None:
    """A model of conversations makes no vectors, and says what it does."""
    error = refusal(opened(PAIR, "p", "q"), "m", operation=OPERATION_EMBEDDING)

    assert "operation (serves chat, completion) rules out p/a, q/b" in error.message


def test_unknown_needs_of_a_newer_peer_are_told_by_number() -> None:
    """A capability that this version does not know filters and explains like any other."""
    store = opened("{models: {m: {deployments: [{provider: p, model: a, capabilities: []}]}}}", "p")

    assert "lacks 31" in refusal(store, "m", needs=[31]).message


def test_missing_provider_is_filtered() -> None:
    """A provider that went away is not tried; before any was heard, all are believed in."""
    store = opened(PAIR)
    before = planned(decide(ask("m"), store.view))
    store.offer([Provider(name="q")])
    after = planned(decide(ask("m"), store.view))

    assert {"p/a", "q/b"} == set(before)
    assert ["q/b"] == after


def test_unknown_model_suggests_close_names() -> None:
    """A misspelt model is answered with at most three that were perhaps meant."""
    models = ", ".join(f"gpt-6-{name}: {{deployments: [p/x]}}" for name in ("sol", "sole", "solo", "sola", "luna"))
    store = opened(f"{{models: {{{models}}}}}", "p")

    error = refusal(store, "gpt-6-sool")

    assert REASON_MODEL_NOT_FOUND == error.reason
    assert {"model": "gpt-6-sool"} == error.metadata
    assert error.message.startswith("unknown model 'gpt-6-sool', did you mean 'gpt-6-sol")
    assert 2 == error.message.count(" or ")
    assert "unknown model 'zzz'" == refusal(store, "zzz").message


def test_alias_is_followed_and_recorded() -> None:
    """The record says by which way an alias led to the model; the plan names the model."""
    store = opened(
        "{models: {m: {deployments: [p/m]}, n: {deployments: [p/n]}}, aliases: {fast: {m: 90, n: 10}, quick: fast}}",
        "p",
    )

    response = decide(ask("quick"), store.view)

    share = {"m": 90, "n": 10}[response.plan.model]
    assert f"quick -> fast -> {response.plan.model} ({share} of 100)" == response.record.alias
    assert "quick" == response.record.requested_model
    assert "" == decide(ask("m"), store.view).record.alias


@pytest.mark.parametrize(
    ("name", "models", "expected"),
    [
        ("m", [], []),
        ("m:floor", [], []),
        ("M", [], ["M"]),
        ("p/m", [], []),
        ("p/m:floor", [], ["p/m"]),
        ("fast:floor", [], ["fast"]),
        ("quick", [], ["quick", "fast"]),
        ("m", ["quick", "n"], ["quick", "fast"]),
        ("auto:quality_first", [], ["auto"]),
    ],
)
def test_plan_names_what_led_to_it(name: str, models: list[str], expected: list[str]) -> None:
    """Whatever is no model of the plan, without what a name may say beside it."""
    store = opened(
        "{models: {m: {deployments: [p/m]}, n: {deployments: [p/n]}}, aliases: {fast: m, quick: fast},"
        " routing: {auto: {models: [m]}}}",
        "p",
    )
    request = ask(name)
    if models:
        request.preferences.models.extend(models)

    assert expected == list(decide(request, store.view).plan.names)


def test_alias_weights_converge() -> None:
    """A canary of ten in a hundred gets about that much."""
    store = opened("{models: {m: {deployments: [p/m]}, n: {deployments: [p/n]}}, aliases: {fast: {m: 90, n: 10}}}", "p")

    share = sum("n" == decide(ask("fast", f"r-{i}"), store.view).plan.model for i in range(3000)) / 3000

    assert 0.08 < share < 0.12


def test_nested_aliases_draw_apart() -> None:
    """The draw of an alias says nothing about the draw of the one behind it."""
    store = opened(
        """
        models: {m: {deployments: [p/m]}, n: {deployments: [p/n]}, o: {deployments: [p/o]}}
        aliases: {outer: {inner: 1, o: 1}, inner: {m: 1, n: 1}}
        """,
        "p",
    )

    seen = Counter(decide(ask("outer", f"r-{i}"), store.view).plan.model for i in range(2000))

    assert all(0.2 < seen[model] / 2000 < 0.3 for model in "mn")


def test_weights_converge() -> None:
    """Who is first is drawn by weight among equals."""
    store = opened(PAIR, "p", "q")

    first = Counter(planned(decide(ask("m", f"r-{i}"), store.view))[0] for i in range(4000))

    assert 0.72 < first["p/a"] / 4000 < 0.78


def test_second_place_is_drawn_by_weight_too() -> None:
    """Whoever fails, those that are left share by their weights."""
    text = (
        "{models: {m: {deployments: [{provider: p, model: a, weight: 100}, {provider: p, model: b, weight: 4}, p/c]}}}"
    )
    store = opened(text, "p")

    plans = [planned(decide(ask("m", f"r-{i}"), store.view)) for i in range(4000)]
    second = Counter(plan[1] for plan in plans if plan[0] == "p/a")

    assert 0.77 < second["p/b"] / (second["p/b"] + second["p/c"]) < 0.83


def test_failing_deployment_goes_last_in_its_tier() -> None:
    """Half of the last minute's attempts failed: tried after its equals, before the next tier, and never dropped."""
    text = "{models: {m: {deployments: [p/a, p/b, {provider: p, model: c, priority: 1}]}}}"
    store = opened(text, "p")
    store.measure(live(p__a=window(0.49), p__b=window(0.5)))

    plans = {tuple(planned(decide(ask("m", f"r-{i}"), store.view))) for i in range(50)}

    assert {("p/b", "p/a", "p/c")} == plans


def test_every_tier_gets_an_attempt() -> None:
    """A crowded first tier does not use up the attempts that lower ones are there for."""
    deployments = [{"provider": "p", "model": f"m{i}", "priority": i // 5} for i in range(15)]
    config = CatalogConfig.model_validate(
        {"models": {"m": {"deployments": deployments}}, "router": {"max_attempts": 5}}
    )
    view = CatalogStore(config).view

    tiers = {tuple(int(name[3:]) // 5 for name in planned(decide(ask("m", f"r-{i}"), view))) for i in range(50)}

    assert {(0, 0, 0, 1, 2)} == tiers


def test_only_as_many_attempts_are_planned_as_are_allowed() -> None:
    """A plan and a small record do not grow with the number of deployments."""
    sizes: list[int] = []
    for count in (3, 300):
        deployments = [{"provider": "p", "model": f"m{i:03}"} for i in range(count)]
        view = CatalogStore(CatalogConfig.model_validate({"models": {"m": {"deployments": deployments}}})).view
        sizes.append(decide(ask("m"), view, NOW).ByteSize())

    assert sizes[0] == sizes[1] < 600


WORDS = {1: "tools", 2: "vision", 8: "files"}
CAPABLE = st.none() | st.lists(st.sampled_from(sorted(WORDS.values())), unique=True)
DEPLOYMENTS = st.lists(
    st.fixed_dictionaries(
        {
            "provider": st.sampled_from(["p", "q", "gone"]),
            "model": st.sampled_from(["a", "b", "c"]),
            "priority": st.integers(0, 3),
            "weight": st.integers(1, 5) | st.just(1_000_000),
            "capabilities": CAPABLE,
            "context": st.none() | st.integers(1, 3000),
            "price": st.none() | st.fixed_dictionaries({"input": st.integers(0, 9), "output": st.integers(0, 9)}),
        }
    ),
    min_size=1,
    max_size=40,
)


def tried(
    deployments: Sequence[dict[str, Any]], needs: list[int], tokens: int, request_id: str, most: int = 10
) -> DecideResponse:
    """A decision over deployments, with provider `gone` not there."""
    config = CatalogConfig.model_validate(
        {"models": {"m": {"deployments": deployments}}, "router": {"max_attempts": most}}
    )
    store = CatalogStore(config)
    store.offer([Provider(name="p"), Provider(name="q"), Provider(name="gone", unavailable="away")])
    store.measure(live(p__a=window(0.1), q__b=window(1.0)))
    return explained(store, "m", request_id, needs=needs, input_tokens_estimate=tokens)


@settings(max_examples=60, deadline=None)
@given(
    DEPLOYMENTS,
    st.lists(st.sampled_from(sorted(WORDS))),
    st.integers(0, 3000),
    st.text("abc", min_size=1),
    st.integers(1, 10),
)
def test_plan_is_of_those_that_passed(
    deployments: list[dict[str, Any]], needs: list[int], tokens: int, request_id: str, most: int
) -> None:
    """Of those that passed, each once, tier after tier, as many as may be tried; the same call gives the same plan."""

    def passes(one: dict[str, Any]) -> bool:
        able = one["capabilities"] is None or {WORDS[need] for need in needs} <= set(one["capabilities"])
        return able and one["provider"] != "gone" and (not one["context"] or tokens <= one["context"])

    try:
        response = tried(deployments, needs, tokens, request_id, most)
    except MeshError:
        assert not any(map(passes, deployments))
        return

    plan, candidates = planned(response), response.record.candidates
    names = {candidate.deployment: one for candidate, one in zip(candidates, deployments, strict=True)}
    passed = [name for name, one in names.items() if passes(one)]
    assert passed == [one.deployment for one in candidates if all(verdict.passed for verdict in one.verdicts)]
    assert set(plan) <= set(passed)
    assert len(set(plan)) == len(plan) == min(most, len(passed))
    assert {name: place for place, name in enumerate(plan, 1)} == {
        one.deployment: one.position for one in candidates if one.position
    }
    tiers = [names[name]["priority"] for name in plan]
    assert sorted(tiers) == tiers
    assert sorted({names[name]["priority"] for name in passed})[:most] == sorted(set(tiers))
    assert all(bool(one.terms) == (one.deployment in passed) for one in candidates)
    assert response == tried(deployments, needs, tokens, request_id, most)


@settings(max_examples=40, deadline=None)
@given(st.permutations(["a", "b", "c", "d", "e"]), st.integers(0, 1000))
def test_order_in_the_catalog_changes_no_plan(models: list[str], number: int) -> None:
    """Moving lines of the catalog does not move traffic."""
    plans = [
        planned(tried([{"provider": "q", "model": model} for model in order], [], 0, f"r-{number}"))
        for order in (models, sorted(models))
    ]

    assert plans[0] == plans[1]


def test_memory_does_not_grow_with_names_that_are_passed_on() -> None:
    """A caller may think of any number of names at a provider that takes anything."""
    store = opened("{}", Provider(name="hub", open_ended=True))
    decide(ask("hub/model"), store.view)
    before = len(store.view.prepared)

    plans = [planned(decide(ask(f"hub/model-{i}"), store.view)) for i in range(20)]

    assert ["hub/model-7"] == plans[7]
    assert before == len(store.view.prepared)


def test_memory_does_not_grow_with_wishes() -> None:
    """A caller may think of any number of preferences, and of long ones."""
    store = opened(PAIR, "p", "q")
    request = ask("m")
    for i in range(400):  # of 63 KB each
        request.preferences.ignore[:] = [f"{i}-{j}-{'x' * 240}" for j in range(256)]
        decide(request, store.view)

    assert 0 < len(store.view.prepared) < 350


def test_what_is_prepared_has_bounds() -> None:
    """What does not fit empties the rest; what never fits is not kept."""
    small = Prepared(room=3)
    sizes: list[int] = []
    for size in (1, 2, 2, 4):
        small.keep(len(sizes), "something", size)
        sizes.append(len(small))

    assert [1, 2, 1, 0] == sizes
