"""Which policies are weighed, and that made-up traffic is routed by them."""

from pathlib import Path

import pytest

from bench.simulation import brownout, prices
from bench.vendors_sim import run
from polyroute.cli.config import Config
from polyroute.cli.simulate import candidates
from polyroute.cli.synthetic import Ruled
from polyroute.mesh.roles import ConfigError

CONFIG = Config.model_validate({"policies": {"mine": {"sort": "price"}}})


def test_candidates_by_name_and_file(tmp_path: Path) -> None:
    """The configuration's, the built-in ones, a file of one, a file of several."""
    one, several = tmp_path / "quick.yaml", tmp_path / "several.yaml"
    one.write_text("sort: latency\n")
    several.write_text("policies: {a: {sort: price}, b: {}}\nmodels: {}\n")

    found = candidates(CONFIG, ["mine", "cost_first", str(one), str(several)])

    assert ["mine", "cost_first", "quick", "a", "b"] == [policy.name for policy in found]


@pytest.mark.parametrize(
    ("text", "told"), [("sort: fastness\n", "sort"), ("policies: {a: {srt: price}}\n", "did you mean 'sort'")]
)
def test_bad_candidates(tmp_path: Path, text: str, told: str) -> None:
    """A file is checked as the configuration is."""
    path = tmp_path / "bad.yaml"
    path.write_text(text)

    with pytest.raises(ConfigError, match=told):
        candidates(CONFIG, [str(path)])
    with pytest.raises(ConfigError, match="there is no policy 'mien'"):
        candidates(CONFIG, ["mien"])


def test_made_up_traffic_follows_the_policy() -> None:
    """By price it costs less than by latency; in a brownout nearly nobody is lost."""
    cheap, quick = candidates(CONFIG, ["cost_first", "latency_critical"])
    by_price, by_latency = (
        run(prices(seconds=1800, rate=1), lambda scenario, clock, policy=policy: Ruled(policy, scenario, clock))  # type: ignore[misc]
        for policy in (cheap, quick)
    )
    through = run(brownout(seconds=60, rate=10), lambda scenario, clock: Ruled(cheap, scenario, clock))

    assert by_price.cost / by_price.served < 0.95 * by_latency.cost / by_latency.served
    assert 0.99 < through.success
