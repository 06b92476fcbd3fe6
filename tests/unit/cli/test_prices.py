"""`polyroute prices`: what it prints, writes and refuses; the router is one that keeps its catalog in a text."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from structlog.testing import capture_logs

from polyroute.api.providers.v1.providers_pb2 import Provider
from polyroute.api.router.v1 import router_pb2 as pb
from polyroute.api.router.v1 import router_pb2_grpc
from polyroute.cli import catalogs, prices
from polyroute.cli.config import Config
from polyroute.mesh.roles import ConfigError
from polyroute.router.listing import price_list
from polyroute.router.snapshot import CatalogStore
from tests.fakes.catalogs import read
from tests.unit.edge.peers import local

Context = grpc.aio.ServicerContext[Any, Any]
CONFIG = Config()
NOW = 1_790_000_000.0
CATALOG = """\
models:
  m: {deployments: [p/large, p/small, {provider: p, model: own, price: {input: 7, output: 8}}]}
prices:
  models:
    # the contract of March
    p/large: {input: 2, output: 8}   # until they say otherwise
"""


class Router(router_pb2_grpc.RouterServiceServicer):
    """Puts in force what is applied."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.put(CATALOG)

    def put(self, text: str) -> None:
        self.text = text
        self.store = CatalogStore(read(text), clock=lambda: NOW)
        self.store.offer([Provider(name="p", price_book="openai")])

    def channel(self, role: str) -> grpc.aio.Channel:
        return local(router_pb2_grpc.add_RouterServiceServicer_to_server, self)

    async def ListPrices(self, request: pb.ListPricesRequest, context: Context) -> pb.ListPricesResponse:
        request.page_size = 2
        moment = request.time.ToSeconds() if request.HasField("time") else NOW
        return price_list(self.store.priced(moment), request, self.store.books)

    async def GetCatalogVersion(
        self, request: pb.GetCatalogVersionRequest, context: Context
    ) -> pb.GetCatalogVersionResponse:
        return pb.GetCatalogVersionResponse(version=pb.CatalogVersion(number=1, text=self.text))

    async def ApplyCatalog(self, request: pb.ApplyCatalogRequest, context: Context) -> pb.ApplyCatalogResponse:
        self.notes.append(request.note)
        self.put(request.text)
        return pb.ApplyCatalogResponse(changed=True, version=pb.CatalogVersion(number=2, version="v2"))

    @property
    def rows(self) -> dict[str, list[dict[str, Any]]]:
        """The operator's list as it was written."""
        models = read(self.text).prices.models
        return {
            name: [row.model_dump(mode="json", exclude_defaults=True) for row in rows] for name, rows in models.items()
        }


@pytest.fixture
def router(monkeypatch: pytest.MonkeyPatch) -> Iterator[Router]:
    """What the commands find instead of a gateway; its own logs are not the commands' output."""
    made = Router()  # type: ignore[abstract] # has what commands call

    def run(config: Config, work: Callable[[Any], Awaitable[Any]]) -> Any:
        return asyncio.run(_awaited(work(made)))

    for module in (prices, catalogs):
        monkeypatch.setattr(module, "run", run)
    with capture_logs():
        yield made


async def _awaited(work: Awaitable[Any]) -> Any:
    return await work


def put(name: str, *, force: bool = False, since: str = "", **figures: str) -> None:
    """`polyroute prices set`."""
    prices.put_row(CONFIG, name, prices.row_of(figures, {"effective_from": since}), force=force)


def test_every_page_is_shown(router: Router, capsys: pytest.CaptureFixture[str]) -> None:
    """With who says so; what nobody knows says that."""
    prices.show(CONFIG, pb.ListPricesRequest(), as_json=False)
    lines = capsys.readouterr().out.splitlines()

    assert ["deployment", "p/large", "p/small", "p/own"] == [line.split()[0] for line in lines]
    assert "prices p/large USD" in lines[1]
    assert "unknown" in lines[2]
    assert "catalog" in lines[3]


def test_for_programs(router: Router, capsys: pytest.CaptureFixture[str]) -> None:
    """Exact figures, nothing where nobody knows."""
    prices.show(CONFIG, pb.ListPricesRequest(), as_json=True)
    large, small, _ = json.loads(capsys.readouterr().out)

    assert {"input": 2 * 10**9, "output": 8 * 10**9} == large["nano_usd_per_million"]
    assert (None, "") == (small["nano_usd_per_million"], small["origin"])


def test_set_writes_a_row_and_leaves_the_rest(router: Router, capsys: pytest.CaptureFixture[str]) -> None:
    """The comments of other rows too; what changes is printed, and noted in the history."""
    put("p/small", input="0.5", output="2", cache_read="0.05")

    assert "# the contract of March" in router.text
    assert "0.5" == router.rows["p/small"][0]["input"]
    assert ["price of p/small"] == router.notes
    assert ["p/small", "input", "none", "0.5"] == capsys.readouterr().out.splitlines()[1].split()
    assert router.store.view.catalog.models[0].deployments[1].price is not None


def test_rows_of_other_dates_stay(router: Router) -> None:
    """A new price from a day on; saying it again replaces that row alone."""
    put("p/large", input="3", output="9", since="2026-12-01")
    put("p/large", input="4", output="9", since="2026-12-01")

    assert [("2", None), ("4", "2026-12-01")] == [
        (row["input"], row.get("effective_from")) for row in router.rows["p/large"]
    ]


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        ({"input": "-1", "output": "2"}, "out of range"),
        ({"input": "0.0000005", "output": "2"}, "is it meant per million"),
        ({"input": "2000", "output": "8"}, "input goes from 2 to 2000 USD per million, 1000 times or more"),
    ],
)
def test_nonsense_changes_nothing(router: Router, figures: dict[str, str], words: str) -> None:
    """What is wrong is told."""
    with pytest.raises(ConfigError, match=words):
        prices.put_row(CONFIG, "p/large", prices.row_of(figures, {}), force=False)

    assert CATALOG == router.text


def test_force_takes_what_looks_like_a_mistake(router: Router) -> None:
    """But not what is one."""
    put("p/large", input="2000", output="8", force=True)

    assert "2000" == router.rows["p/large"][0]["input"]
    with pytest.raises(ConfigError, match="out of range"):
        put("p/large", input="-1", output="2", force=True)


def test_a_currency_needs_a_rate(router: Router) -> None:
    """Said before anything is written."""
    with pytest.raises(ConfigError, match=r"say it in prices.exchange"):
        prices.put_row(CONFIG, "p/large", {"input": "2", "output": "8", "currency": "EUR"}, force=False)

    assert CATALOG == router.text


def test_import_takes_what_the_catalog_has(router: Router, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By the account's name or the vendor's; all of it when asked."""
    file = tmp_path / "list.csv"
    file.write_text("model,input,output\np/large,2.5,9\nopenai/small,0.5,2\nother/model,1,1\n")
    prices.take(CONFIG, file, everything=False, force=False)
    printed = capsys.readouterr()

    assert ["openai/small", "p/large"] == sorted(router.rows)
    assert "3 models with a price, 2 taken" in printed.err
    prices.take(CONFIG, file, everything=True, force=False)
    assert "other/model" in router.rows


def test_import_of_nothing_is_refused(router: Router, tmp_path: Path) -> None:
    """A file of other models, and one that is no list."""
    file = tmp_path / "list.csv"
    file.write_text("model,input,output\nother/model,1,1\n")
    with pytest.raises(ConfigError, match="no deployment of the catalog is in it"):
        prices.take(CONFIG, file, everything=False, force=False)
    file.write_text("just words")
    with pytest.raises(ConfigError, match="no price list"):
        prices.take(CONFIG, file, everything=False, force=False)


def test_price_of_the_deployment_stands_above_the_list(router: Router, capsys: pytest.CaptureFixture[str]) -> None:
    """A row that nothing would be charged by is refused, with what wins and where; `--force` keeps it for later."""
    row = {"input": "6", "output": "7"}
    with pytest.raises(ConfigError) as refused:
        prices.put_row(CONFIG, "p/own", row, force=False)
    unchanged = router.notes
    prices.put_row(CONFIG, "p/own", row, force=True)
    forced = capsys.readouterr()

    assert (
        "p/own: deployment p/own of models.m has a `price` of its own (input 7, output 8), "
        "which stands above every list: change it there" in str(refused.value)
    )
    assert [] == unchanged[:-1]
    assert "warning: p/own: deployment p/own of models.m has a `price` of its own" in forced.err
    assert "no difference" in forced.out
    assert [{"input": "6", "output": "7"}] == router.rows["p/own"]


def test_rows_that_some_deployments_do_not_go_by(router: Router, capsys: pytest.CaptureFixture[str]) -> None:
    """A pattern that a price of a deployment and an exact row stand above: it is put, and who goes by it is said."""
    prices.put_row(CONFIG, "p/*", {"input": "6", "output": "7"}, force=True)
    found = capsys.readouterr()

    assert "warning: p/*: deployment p/own of models.m has a `price` of its own" in found.err
    assert "warning: p/*: prices.models.p/large stands above this row for deployment p/large of models.m" in found.err
    assert "p/small" not in found.err
    assert [["p/*", "input", "none", "6"], ["p/*", "output", "none", "7"]] == [
        line.split() for line in found.out.splitlines()[1:3]
    ]


def test_import_and_diff_say_which_deployments_have_their_own_price(
    router: Router, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The other rows are taken."""
    file = tmp_path / "list.yaml"
    file.write_text("p/own: {input: 6, output: 7}\np/large: {input: 3, output: 9}\n")
    prices.diff(CONFIG, file)
    compared = capsys.readouterr()
    prices.take(CONFIG, file, everything=False, force=False)
    taken = capsys.readouterr()

    said = "warning: p/own: deployment p/own of models.m has a `price` of its own (input 7, output 8)"
    assert said in compared.err
    assert said in taken.err
    assert "p/own" not in taken.out
    assert {"p/own", "p/large"} == set(router.rows)


def test_diff(router: Router, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Against a file and against the package; only where they differ."""
    file = tmp_path / "list.yaml"
    file.write_text("p/large: {input: 2, output: 9}\n")
    prices.diff(CONFIG, file)
    first = capsys.readouterr()
    router.put("{models: {m: {deployments: [{provider: p, model: gpt-4o-mini, price: {input: 1, output: 0.6}}]}}}")
    prices.diff(CONFIG, None)
    second = capsys.readouterr()

    assert ["p/large", "output", "8", "9"] == first.out.splitlines()[1].split()
    assert "1 of 3 deployments compared" in first.err
    assert ["p/gpt-4o-mini", "input", "1", "0.15"] == second.out.splitlines()[1].split()
    router.put("{models: {m: {deployments: [p/gpt-4o-mini]}}}")
    prices.diff(CONFIG, None)
    assert "no difference\n" == capsys.readouterr().out


def test_moments() -> None:
    """With an offset as written, without one in UTC."""
    assert "2026-03-02T09:00:00+08:00" == prices.moment_of("2026-03-02T09:00+08:00").isoformat()
    assert "2026-03-02T00:00:00+00:00" == prices.moment_of("2026-03-02").isoformat()
    with pytest.raises(ConfigError, match="is not a moment"):
        prices.moment_of("monday")
