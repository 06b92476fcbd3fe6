"""A decision out of its record alone: the same plan byte for byte, or what another policy would have done."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyroute.api.router.v1 import router_pb2 as pb
from polyroute.mesh.errors import MeshError
from polyroute.router.config import CatalogConfig
from polyroute.router.decide import decide
from polyroute.router.explaining import replay
from polyroute.router.policies import compiled
from polyroute.router.policyconfig import PolicyConfig
from polyroute.router.snapshot import CatalogStore
from tests.fakes.catalogs import NOW, ask, opened
from tests.unit.router.live import live, spread, window

PRICES = st.none() | st.fixed_dictionaries({"input": st.integers(0, 9), "output": st.integers(0, 9)})
DEPLOYMENTS = st.lists(
    st.fixed_dictionaries(
        {
            "provider": st.sampled_from(["p", "q"]),
            "model": st.sampled_from("abc"),
            "priority": st.integers(0, 2),
            "weight": st.integers(1, 5),
            "price": PRICES,
            "context": st.none() | st.integers(1, 3000),
            "region": st.sampled_from(["", "cn", "eu"]),
            "data": st.fixed_dictionaries({"zdr": st.none() | st.booleans()}),
            "timeouts": st.fixed_dictionaries({"total": st.none() | st.floats(0.1, 900)}),
        }
    ),
    min_size=1,
    max_size=12,
)
POLICIES = st.fixed_dictionaries(
    {
        "sort": st.lists(st.sampled_from(["latency", "throughput", "price", "success_rate"]), max_size=3),
        "explore": st.sampled_from([0, 0.5]),
        "sticky": st.sampled_from(["none", "key", "user"]),
        "cache_affinity": st.sampled_from([0, 1]),
        "regions": st.sampled_from([[], ["eu"], "nearest"]),
        "tiers": st.sampled_from([[], [["q"]]]),
        "max_attempts": st.none() | st.integers(1, 5),
    }
)
FIGURES = st.dictionaries(
    st.sampled_from(["p__a", "p__b", "q__a", "q__c"]),
    st.tuples(st.floats(0, 1), st.floats(1, 5000), st.floats(1, 500)),
)
WISHES = st.builds(
    pb.Preferences,
    only=st.lists(st.sampled_from(["p", "q", "p/a"]), max_size=2),
    order=st.lists(st.sampled_from(["q/b", "p/cn"]), max_size=2),
    zdr=st.booleans(),
    sort=st.lists(st.builds(pb.SortKey, by=st.integers(1, 8)), max_size=2),
    latency_milliseconds=st.none() | st.builds(pb.DoubleRange, max=st.floats(1, 5000)),
    allow_fallbacks=st.none() | st.booleans(),
)


@settings(max_examples=150, deadline=None)
@given(DEPLOYMENTS, POLICIES, FIGURES, WISHES, st.integers(0, 99), st.integers(0, 4000))
def test_replay_is_the_same_plan(
    deployments: list[dict[str, Any]],
    policy: dict[str, Any],
    figures: dict[str, tuple[float, float, float]],
    wishes: pb.Preferences,
    number: int,
    tokens: int,
) -> None:
    """Whatever decided, the record that went over a wire decides the same."""
    tree = {
        "models": {"m": {"deployments": deployments}},
        "policies": {"x": policy},
        "routing": {"policy": "x"},
    }
    store = CatalogStore(CatalogConfig.model_validate(tree))
    windows = {name: window(rate, spread(late), spread(fast)) for name, (rate, late, fast) in figures.items()}
    store.measure(live(**windows))
    request = ask("m", f"r-{number}", input_tokens_estimate=tokens)
    request.preferences.CopyFrom(wishes)
    request.caller.key_id, request.sticky_key, request.explain = "key_1", "someone", True
    try:
        response = decide(request, store.view, NOW)
    except MeshError:
        return

    again = replay(pb.DecisionRecord.FromString(response.record.SerializeToString()))

    assert response.plan.SerializeToString(deterministic=True) == again.plan.SerializeToString(deterministic=True)
    for field in ("slate_id", "relaxed", "explored", "seat", "policy_version", "resolved_model"):
        assert getattr(response.record, field) == getattr(again.record, field)


PAIR = """
models:
  m:
    deployments:
      - {provider: p, model: a, price: {input: 1, output: 1}}
      - {provider: p, model: b, price: {input: 9, output: 9}}
"""


def recorded() -> pb.DecisionRecord:
    """The full record of a call that went where it is cheap, though that is slow."""
    store = opened(PAIR, "p")
    store.measure(live(p__a=window(latency=spread(900)), p__b=window(latency=spread(100))))
    request = ask("m")
    request.explain = True
    return decide(request, store.view, NOW).record


def test_replay_under_another_policy() -> None:
    """What a policy would have done with the figures of that moment."""
    quick = compiled("quick", PolicyConfig.model_validate({"sort": "latency"}))

    response = replay(recorded(), quick)

    assert ["p/b", "p/a"] == [attempt.deployment for attempt in response.plan.attempts]
    assert ("quick", quick.version) == (response.record.policy, response.record.policy_version)


def test_replay_under_a_policy_that_nobody_fits() -> None:
    """Such a policy would have refused the call."""
    none = compiled("none", PolicyConfig.model_validate({"only": "q"}))

    with pytest.raises(MeshError, match="under policy 'none' nobody may serve this call"):
        replay(recorded(), none)


def test_small_record_does_not_replay() -> None:
    """It names the slate that has the rest."""
    small = decide(ask("m"), opened(PAIR, "p").view, NOW).record

    with pytest.raises(MeshError, match="does not hold what a replay needs"):
        replay(small)
    assert (0, 12) == (len(small.candidates), len(small.slate_id))


def test_slate_id_names_the_inputs() -> None:
    """Calls of a kind share it; other figures, preferences or catalogs have another."""
    store = opened(PAIR, "p")
    first = decide(ask("m", "r-1"), store.view, NOW).record.slate_id
    same = decide(ask("m", "r-2"), store.view, NOW).record.slate_id
    wishing = ask("m")
    wishing.preferences.zdr = False
    wishing.preferences.only.append("p")
    other = decide(wishing, store.view, NOW).record.slate_id
    store.measure(live(2))
    later = decide(ask("m"), store.view, NOW).record.slate_id

    assert first == same
    assert 3 == len({first, other, later})
