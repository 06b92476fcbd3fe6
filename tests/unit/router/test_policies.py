"""What the operator's policies, rules, schedules and aliases do to a plan."""

from collections import Counter
from typing import Any

import pytest

from polyroute.api.router.v1 import router_pb2 as pb
from polyroute.mesh.errors import MeshError
from polyroute.router.build import build
from polyroute.router.catalog import CatalogError
from polyroute.router.decide import decide
from polyroute.router.ruling import previewed
from polyroute.router.snapshot import CatalogStore
from tests.fakes.catalogs import NOW, ask, opened, read
from tests.unit.router.live import live, spread, window

THREE = """
models:
  m:
    deployments:
      - {provider: p, model: a, region: cn, price: {input: 1, output: 1}}
      - {provider: p, model: b, region: eu, price: {input: 2, output: 2, cache_read: 0}}
      - {provider: q, model: c, region: us, price: {input: 4, output: 4}}
"""
DAY = 86_400


def made(policy: str = "{}", more: str = "") -> CatalogStore:
    """Three deployments under a policy."""
    return opened(f"{THREE}\npolicies: {{x: {policy}}}\nrouting: {{policy: x}}\n{more}", "p", "q")


def decided(store: CatalogStore, request_id: str = "r-1", **fields: Any) -> pb.DecideResponse:
    """A decision; `fields` are those of the request."""
    request = ask("m", request_id)
    request.MergeFrom(pb.DecideRequest(**fields))
    return decide(request, store.view, NOW)


def plan(response: pb.DecideResponse) -> str:
    """The last letters of the plan's deployments."""
    return "".join(attempt.deployment[-1] for attempt in response.plan.attempts)


def firsts(store: CatalogStore, calls: int = 3000, **fields: Any) -> Counter[str]:
    """Who was first, over many calls."""
    return Counter(plan(decided(store, f"r-{i}", **fields))[0] for i in range(calls))


def test_default_gives_shares_by_the_inverse_square_of_the_price() -> None:
    """Half the price gets about four times the share, and nobody gets nothing."""
    seen = firsts(opened(THREE, "p", "q"), 6000)

    assert 3.4 < seen["a"] / seen["b"] < 4.4
    assert 3.2 < seen["b"] / seen["c"] < 4.8


def test_default_considers_reliability_and_speed() -> None:
    """At the same price, who fails more or answers later gets less."""
    store = opened("{models: {m: {deployments: [p/a, p/b, p/c]}}}", "p")
    store.measure(
        live(p__a=window(latency=spread(100)), p__b=window(latency=spread(400)), p__c=window(0.8, latency=spread(100)))
    )
    seen = firsts(store)

    assert 1.7 < seen["a"] / seen["b"] < 2.3  # the square root of four
    assert 1.7 < seen["a"] / seen["c"] < 2.3  # 0.8 to the third is about a half


def test_unknown_price_gains_nothing() -> None:
    """It counts as the dearest; a free one gets nearly everything."""
    store = opened(
        """
        models:
          m:
            deployments:
              - {provider: p, model: a, price: {input: 0, output: 0}}
              - {provider: p, model: b, price: {input: 4, output: 4}}
              - p/c
        """,
        "p",
    )

    seen = firsts(store)

    assert seen["a"] > 2990


def test_sort_of_the_policy_and_of_the_caller() -> None:
    """The caller's sort stands instead of the policy's, unless the policy is final; filters of both hold."""
    dear = pb.Preferences(sort=[pb.SortKey(by=pb.SORT_BY_INPUT_PRICE, order=pb.SORT_ORDER_DESCENDING)])

    assert "abc" == plan(decided(made("{sort: input_price}")))
    assert "cba" == plan(decided(made("{sort: input_price}"), preferences=dear))
    assert "abc" == plan(decided(made("{sort: input_price, final: true}"), preferences=dear))
    assert "ba" == plan(decided(made("{max_price: {input: 2}}"), preferences=dear))


def test_prices_of_pictures_and_sound_are_bounded_as_the_callers_are() -> None:
    """USD per picture and per minute; a price that is its own bound, however it is rounded, is within it."""
    text = """
    models:
      m:
        deployments:
          - {provider: p, model: a, price: {image: "0.04"}}
          - {provider: p, model: b, price: {input: 1, output: 1, image: "0.01", audio_minute: "0.1000001"}}
    policies:
      default: {max_price: %s}
    """

    def left(bound: str) -> str:
        return "".join(sorted(plan(decided(opened(text % bound, "p")))))

    assert ("b", "ab") == (left('{image: "0.02"}'), left('{image: "0.04"}'))
    assert ("a", "ab") == (left('{audio: "0.1"}'), left('{audio: "0.1000001"}'))


def test_filter_of_the_policy_is_named_as_such() -> None:
    """The record tells the operator's filters from the caller's."""
    with pytest.raises(MeshError, match=r"policy\.zdr \(zero retention unknown\) rules out p/a, p/b, q/c"):
        decided(made("{zdr: true}"))


def test_tiers_regions_and_attempts() -> None:
    """Tiers of the policy stand instead of priorities; regions order what is in a tier."""
    assert "cab" == plan(decided(made("{tiers: [q, [p]], sort: price}")))
    assert "cba" == plan(decided(made("{regions: [us, eu]}")))
    assert 1 == len(plan(decided(made("{max_attempts: 1}"))))
    timeouts = decided(made("{timeouts: {first_token: 2.5}}")).plan.timeouts
    assert (2_500, 600_000) == (timeouts.first_token.ToMilliseconds(), timeouts.total.ToMilliseconds())


def test_nearest_region_is_the_quickest() -> None:
    """Regions go by the median of their live latencies; without figures they come last."""
    store = made("{regions: nearest}")
    store.measure(live(p__b=window(latency=spread(50)), q__c=window(latency=spread(20))))

    assert "cba" == plan(decided(store))


def test_sticky_calls_stay_together() -> None:
    """All calls of an end user go to one deployment; different users spread; without one each call is its own."""
    store = made("{sticky: user, score: {price: 0}}")
    seats = {
        user: {plan(decided(store, f"r-{i}", sticky_key=user))[0] for i in range(20)} for user in map(str, range(30))
    }

    assert all(len(seat) == 1 for seat in seats.values())
    assert set("abc") == set().union(*seats.values())
    assert set("abc") == set(firsts(store, 100))
    response = decided(store, sticky_key="7")
    assert response.record.seat == response.plan.attempts[0].deployment


def test_sticky_calls_move_when_their_seat_fails() -> None:
    """An outage breaks the habit, and only for those who sat there."""
    store = made("{sticky: user, score: {price: 0}}")
    before = {user: plan(decided(store, sticky_key=user))[0] for user in map(str, range(60))}
    store.measure(live(p__a=window(0.1)))
    after = {user: plan(decided(store, sticky_key=user))[0] for user in before}

    assert {"b", "c"} == set(after.values())


def test_cache_affinity_is_worth_what_it_saves() -> None:
    """A dearer deployment keeps its users when the vendor's cache saves more there than the cheapest one would."""
    keeps = made("{sort: price, sticky: user, cache_affinity: 1}")
    leaves = made("{sort: price, sticky: user, cache_affinity: 0.4}")

    def seats(store: CatalogStore) -> set[str]:
        return {plan(decided(store, sticky_key=user))[0] for user in map(str, range(60))}

    # of 512 prompt tokens at 2 USD per million all are saved, as much as b is dearer than a
    assert {"a", "b"} == seats(keeps)
    assert {"a"} == seats(leaves)
    request = ask("m")
    request.explain = True
    terms = {term.name: term.value for term in decide(request, keeps.view, NOW).record.candidates[1].terms}
    assert 512 * 2000 == terms["cache_saving"]


RULES = """
routing:
  policy: usual
  rules:
    - {policy: of_team, projects: [prj_1], models: [m]}
    - {policy: of_key, keys: [batch-key, key_9]}
    - {policy: of_alias, aliases: [fast]}
    - {policy: of_tag, tags: {purpose: batch, tier: low}}
policies: {usual: {}, of_team: {}, of_key: {}, of_alias: {}, of_tag: {}}
aliases: {fast: m}
"""


@pytest.mark.parametrize(
    ("model", "fields", "policy", "reason"),
    [
        ("m", {}, "usual", "no rule"),
        ("m", {"caller": {"project_id": "prj_1", "key_id": "key_9"}}, "of_team", "rule 0 (models, projects)"),
        ("m", {"caller": {"project_id": "prj_2", "key_id": "key_9"}}, "of_key", "rule 1 (keys)"),
        ("m", {"caller": {"key_name": "batch-key"}}, "of_key", "rule 1 (keys)"),
        ("fast", {}, "of_alias", "rule 2 (aliases)"),
        ("m", {"tags": {"purpose": "batch", "tier": "low", "more": "x"}}, "of_tag", "rule 3 (tags)"),
        ("m", {"tags": {"purpose": "batch"}}, "usual", "no rule"),
    ],
)
def test_first_rule_that_matches_rules(model: str, fields: dict[str, Any], policy: str, reason: str) -> None:
    """By model, alias, project, key or tag; the record says which rule it was."""
    store = opened(f"{THREE}\n{RULES}", "p", "q")
    request = ask(model)
    request.MergeFrom(pb.DecideRequest(**fields))

    record = decide(request, store.view, NOW).record

    assert (policy, reason) == (record.policy, record.policy_reason)
    assert store.view.catalog.policies[policy].version == record.policy_version


SCHEDULE = """
policies: {quick: {sort: latency}, cheap: {sort: price}, rush: {}}
routing:
  policy: office
  schedules:
    office:
      zone: Asia/Shanghai
      windows: [{days: mon-fri, start: "09:00", end: "18:00", policy: quick}]
      load: {above: 10, below: 5, policy: rush}
      otherwise: cheap
"""
MONDAY_NINE = 1_772_413_200.0  # 2026-03-02 09:00 in Shanghai


def test_calendar_switches_at_its_boundary() -> None:
    """The same view decides otherwise a moment later; the record says by which window."""
    store = opened(f"{THREE}\n{SCHEDULE}", "p", "q")

    records = [
        decide(ask("m"), store.view, MONDAY_NINE + after).record for after in (-0.001, 0, 9 * 3600 - 1, 9 * 3600)
    ]

    assert ["cheap", "quick", "quick", "cheap"] == [record.policy for record in records]
    assert "no rule, schedule office (mon-fri 09:00-18:00 Asia/Shanghai)" == records[1].policy_reason
    assert "no rule, schedule office (otherwise)" == records[3].policy_reason


def test_load_switches_policies() -> None:
    """A busy minute brings the load's policy; a calm one ends it."""
    store = opened(f"{THREE}\n{SCHEDULE}", "p", "q")
    policies = []
    for calls in (0, 601, 301, 299):
        store.measure(live(p__a=window(count=calls)))
        policies.append(decide(ask("m"), store.view, MONDAY_NINE).record.policy)

    assert ["quick", "rush", "rush", "quick"] == policies


def test_preview() -> None:
    """What would rule at 09:00 on Monday in Shanghai, with no call made."""
    catalog = opened(f"{THREE}\n{SCHEDULE}", "p", "q").view.catalog

    assert ("quick", MONDAY_NINE + 9 * 3600) == previewed(catalog, "office", MONDAY_NINE, None)[::2]
    assert "rush" == previewed(catalog, "", MONDAY_NINE, 11).policy
    assert ("cheap", "always", None) == previewed(catalog, "cheap", MONDAY_NINE, None)
    with pytest.raises(MeshError, match="no schedule or policy 'offise', did you mean 'office'"):
        previewed(catalog, "offise", 0, None)


CANARY = """
models: {m: {deployments: [p/a]}, n: {deployments: [p/b]}}
aliases: {smart: {targets: {m: %d, n: %d}, sticky: %s}}
"""


def canary(share: int, sticky: str, **fields: Any) -> dict[str, str]:
    """Where a hundred keys or users are led."""
    store = opened(CANARY % (100 - share, share, sticky), "p")
    seen = {}
    for i in range(200):
        request = ask("smart", f"r-{i}")
        request.caller.key_id = f"key-{i // 2}"
        request.sticky_key = f"user-{i // 2}"
        seen[f"{i}"] = decide(request, store.view, NOW).plan.model
    return seen


@pytest.mark.parametrize("sticky", ["key", "user"])
def test_sticky_canary(sticky: str) -> None:
    """Two calls of the same key or user meet the same model; whoever meets the new one keeps it as its share grows."""
    some, more = canary(20, sticky), canary(40, sticky)

    assert all(some[f"{i}"] == some[f"{i + 1}"] for i in range(0, 200, 2))
    assert 0.1 < sum(model == "n" for model in some.values()) / 200 < 0.3
    assert all(more[call] == "n" for call, model in some.items() if model == "n")


def test_canary_without_an_owner_goes_by_call() -> None:
    """Who sends no end user is drawn call by call, and the record says so."""
    store = opened(CANARY % (50, 50, "user"), "p")

    trails = {decide(ask("smart", f"r-{i}"), store.view, NOW).record.alias for i in range(50)}

    assert {"smart -> m (50 of 100)", "smart -> n (50 of 100)"} == trails


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("routing: {policy: nobody}", "routing.policy: unknown policy 'nobody'"),
        (
            "{policies: {quick: {}}, routing: {rules: [{policy: quik}]}}",
            "routing.rules[0].policy: unknown policy 'quik', did you mean 'quick'?",
        ),
        ("routing: {schedules: {s: {otherwise: t}}}", "routing.schedules.s: unknown policy 't'"),
        ("routing: {schedules: {default: {otherwise: default}}}", "routing.schedules.default: is the name of a policy"),
        ("routing: {auto: {models: [mm]}}", "routing.auto.models: unknown model 'mm'"),
        (
            "routing: {auto: {classes: {code: {models: [zz], policy: x}}}}",
            "routing.auto.classes.code.models: unknown model 'zz'",
        ),
    ],
)
def test_names_that_lead_nowhere_are_refused(text: str, problem: str) -> None:
    """A catalog that would fail at its first call does not come into force."""
    with pytest.raises(CatalogError) as caught:
        build(read(text), ())

    assert any(one.startswith(problem) for one in caught.value.problems)


def test_policies_are_part_of_the_version() -> None:
    """Whatever changes a decision changes the catalog's version."""
    versions = {
        build(read(text), None).version
        for text in (
            "{}",
            "policies: {x: {}}",
            "policies: {x: {explore: 0}}",
            "routing: {rules: [{policy: default, models: [m]}]}",
            "routing: {schedules: {s: {otherwise: default}}}",
            "routing: {auto: {rules: [{name: code, code: true}]}}",
        )
    }

    assert 6 == len(versions)
