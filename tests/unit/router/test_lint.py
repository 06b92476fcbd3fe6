"""What is allowed in a catalog and yet probably a mistake."""

import pytest
import yaml

from polyroute.router.build import build
from polyroute.router.config import CatalogConfig

MODELS = "models: {m: {deployments: [{provider: p, model: a, region: cn-east}]}}"


def warned(text: str, models: str = MODELS) -> tuple[str, ...]:
    """The warnings of a catalog."""
    tree = {**yaml.safe_load(models), **yaml.safe_load(text)}
    return build(CatalogConfig.model_validate(tree), None).warnings


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        (
            "routing: {rules: [{policy: default, projects: [a, b]}, {policy: default, projects: [a], models: [m]}]}",
            "routing.rules[1]: can never rule: rule 0 matches whatever it matches",
        ),
        (
            "routing: {rules: [{policy: default}, {policy: default, tags: {a: b}}]}",
            "routing.rules[1]: can never rule: rule 0 matches whatever it matches",
        ),
        (
            "routing: {rules: [{policy: default, models: [n]}]}",
            "routing.rules[0].models: there is no model 'n'",
        ),
        (
            "routing: {rules: [{policy: default, aliases: [m]}]}",
            "routing.rules[0].aliases: there is no alias 'm'",
        ),
        (
            """
            routing:
              policy: s
              schedules:
                s:
                  windows:
                    - {days: mon-fri, policy: default}
                    - {days: tue, start: "09:00", end: "10:00", policy: default}
                  otherwise: default
            """,
            "routing.schedules.s.windows[1]: can never rule: earlier windows hold all of it",
        ),
        (
            "routing: {policy: s, schedules: {s: {windows: [{policy: default}], otherwise: default}}}",
            "routing.schedules.s.otherwise: can never rule: the windows hold the whole week",
        ),
        (
            "routing: {schedules: {s: {otherwise: default}}}",
            "routing.schedules.s: nothing names it",
        ),
        ("policies: {x: {}}", "policies.x: nothing names it"),
        (
            "{policies: {x: {only: pp}}, routing: {policy: x}}",
            "policies.x.only: 'pp' is no deployment, provider or provider/region",
        ),
        (
            "{policies: {x: {tiers: [p, zz]}}, routing: {policy: x}}",
            "policies.x.tiers[1]: 'zz' is no deployment, provider or provider/region",
        ),
        (
            "{policies: {x: {region: us}}, routing: {policy: x}}",
            "policies.x.region: no deployment runs in 'us'",
        ),
        (
            "{policies: {x: {tiers: [p, p/a, p/cn-east], max_attempts: 2}}, routing: {policy: x}}",
            "policies.x.tiers[2]: can never be tried: max_attempts is 2",
        ),
        (
            "{policies: {x: {sort: [price, price]}}, routing: {policy: x}}",
            "policies.x.sort[1]: can never matter: an earlier key is the same",
        ),
        (
            "{policies: {x: {sort: [{by: latency, tolerance: 0}, price]}}, routing: {policy: x}}",
            "policies.x.sort[1]: hardly ever matters: the key before it has no tolerance",
        ),
        (
            "{policies: {x: {cache_affinity: 1}}, routing: {policy: x}}",
            "policies.x.cache_affinity: does nothing without sticky",
        ),
        (
            "routing: {auto: {models: [m], classes: {cod: {}}}}",
            "routing.auto.classes.cod: no rule gives this class, did you mean 'code'?",
        ),
        (
            "routing: {auto: {rules: [{name: a, min_tokens: 5}, {name: b, min_tokens: 9, code: true}]}}",
            "routing.auto.rules[1]: can never hold: rule 0 holds whenever it does",
        ),
        (
            "routing: {auto: {rules: [{name: a, min_tokens: 5, max_tokens: 4}]}}",
            "routing.auto.rules[0]: can never hold: min_tokens is above max_tokens",
        ),
    ],
)
def test_warning_names_its_place(text: str, warning: str) -> None:
    """Each warning says what can never happen and why, and keeps nothing from coming into force."""
    assert (warning,) == tuple(one.partition(", did you mean 'm'")[0] for one in warned(text))


def test_priority_beyond_the_attempts() -> None:
    """A tier that no attempt is left for is told."""
    deployments = ", ".join(f"{{provider: p, model: a{i}, priority: {i}}}" for i in (0, 5, 7))
    expected = "models.m: priority 7 can never be tried: there are 3 priorities and router.max_attempts is 2"

    assert (expected,) == warned("router: {max_attempts: 2}", f"models: {{m: {{deployments: [{deployments}]}}}}")


@pytest.mark.parametrize(
    "text",
    [
        "routing: {rules: [{policy: default, projects: [a]}, {policy: default, projects: [a, b]}]}",
        "routing: {rules: [{policy: default, projects: [a], tags: {x: y}}, {policy: default, projects: [a]}]}",
        "{policies: {x: {region: cn, only: [p, P/A, p/CN-east], sort: [latency, throughput]}}, routing: {policy: x}}",
        """
        policies: {x: {}, y: {}}
        routing:
          policy: s
          schedules:
            s:
              load: {above: 2, below: 1, policy: y}
              windows: [{days: fri, start: "22:00", end: "06:00", policy: x}]
              otherwise: default
        """,
        "routing: {auto: {models: [m], classes: {code: {}, chat: {}}}}",
    ],
)
def test_sound_catalog_has_no_warnings(text: str) -> None:
    """Nobody reads a linter that cries wolf."""
    assert () == warned(text)
