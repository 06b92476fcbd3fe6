"""What the dashboard and the alerts of deploy/monitoring ask for is there, and of few enough series."""

import json
import re
from collections.abc import AsyncGenerator, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio
import yaml
from prometheus_client.parser import text_string_to_metric_families

from bench.vendor import Vendor
from tests.mesh.gateway import Gateway, running

pytestmark = pytest.mark.asyncio(loop_scope="module")
MONITORING: Final = Path(__file__).resolve().parents[2] / "deploy" / "monitoring"
_NAME: Final = re.compile(r"\bpolyroute_\w+")
_SELECTED: Final = re.compile(r"(\bpolyroute_\w+)\{([^}]*)\}")
_SUFFIXES: Final[Mapping[str, tuple[str, ...]]] = {
    "counter": ("_total",),
    "histogram": ("_bucket", "_sum", "_count"),
    "gauge": ("",),
}
# Those that ecosystems of monitoring expect of every gateway.
PROMISED: Final = frozenset(
    f"polyroute_{name}"
    for name in (
        "requests_total",
        "request_duration_seconds_bucket",
        "time_to_first_token_seconds_bucket",
        "inter_token_latency_seconds_bucket",
        "tokens_total",
        "cost_usd_total",
        "upstream_attempts_total",
        "fallbacks_total",
        "rate_limited_total",
        "budget_remaining_usd",
        "circuit_state",
        "inflight",
        "build_info",
    )
)
SECRET_LABELS: Final = frozenset({"key", "key_id", "key_prefix", "user", "account", "request_id", "tag"})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def told(_elsewhere: None, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Mapping[str, set[str]]]:
    """Sample name -> names of its labels, as a gateway exposes them that has answered a call."""
    folder = tmp_path_factory.mktemp("gateway")
    sections: dict[str, Any] = {"edge": {"max_calls": 10}, "router": {"health": True}}
    async with Vendor() as vendor, running(folder, {"v": vendor.url}, **sections) as gateway:
        await gateway.recorded(await gateway.chat(stream=True))
        yield _exposed(await _page(gateway))


async def _page(gateway: Gateway) -> str:
    return (await gateway.get("/metrics", headers={})).body.decode()


def _exposed(page: str) -> Mapping[str, set[str]]:
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(page):
        for suffix in _SUFFIXES[family.type]:
            found.setdefault(family.name + suffix, set())
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def alerts() -> list[dict[str, Any]]:
    """The rules of all groups."""
    tree = yaml.safe_load((MONITORING / "alerts.yaml").read_text(encoding="utf-8"))
    return [rule for group in tree["groups"] for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    """The dashboard."""
    tree: dict[str, Any] = json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))
    return tree


def questions() -> dict[str, list[str]]:
    """Every expression of both files."""
    panels = [target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", ())]
    variables = [one["definition"] for one in dashboard()["templating"]["list"] if "definition" in one]
    return {"dashboard": panels + variables, "alerts": [rule["expr"] for rule in alerts()]}


def _names(expressions: Iterable[str]) -> set[str]:
    return {name for expression in expressions for name in _NAME.findall(expression)}


async def test_what_is_promised_is_exposed(told: Mapping[str, set[str]]) -> None:
    """Before the first refusal, fallback or budget too: a rate needs a beginning."""
    assert PROMISED <= told.keys()


async def test_everything_asked_for_is_exposed(told: Mapping[str, set[str]]) -> None:
    """Every metric that either file names."""
    for where, expressions in questions().items():
        assert expressions
        assert set() == _names(expressions) - told.keys(), where


async def test_labels_are_there(told: Mapping[str, set[str]]) -> None:
    """What an expression selects by is a label of that metric."""
    for expressions in questions().values():
        for expression in expressions:
            for name, selected in _SELECTED.findall(expression):
                labels = set(re.findall(r"(\w+)\s*[=!]", selected))
                assert not told[name] or labels <= told[name], expression  # some have no sample until they are needed


async def test_no_label_says_who_called(told: Mapping[str, set[str]]) -> None:
    """Neither keys nor users, whose number nobody bounds."""
    assert not {label for labels in told.values() for label in labels} & SECRET_LABELS


async def test_the_dashboard_shows_everything_that_is_exposed_of_calls(told: Mapping[str, set[str]]) -> None:
    """A figure that nobody looks at is none: all but those that the library keeps of durations."""
    shown = _names(questions()["dashboard"])
    counted = {re.sub("_(sum|count)$", "_bucket", name) for name in told if name.startswith("polyroute_")}

    assert {"polyroute_rpc_duration_seconds_bucket"} == {
        name for name in counted - shown if name + "_total" not in told
    }


async def test_files_are_whole() -> None:
    """Alerts have a summary and a severity, panels a place of their own and a description; names are not doubled."""
    names = [rule["alert"] for rule in alerts()]
    panels = dashboard()["panels"]
    numbers = [panel["id"] for panel in panels]

    assert len(names) == len(set(names))
    assert all(rule["labels"]["severity"] in ("info", "warning", "critical") for rule in alerts())
    assert all(rule["annotations"]["summary"] for rule in alerts())
    assert len(numbers) == len(set(numbers))
    assert all(panel["description"] for panel in panels if panel["type"] != "row")
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)
