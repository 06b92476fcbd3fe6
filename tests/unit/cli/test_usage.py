"""What `polyroute usage` asks, prints and writes; the metrics role is a fake behind a channel of this process."""

import asyncio
import csv
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import grpc
import orjson
import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner

from polyroute.api.chat.v1.chat_pb2 import Usage
from polyroute.api.errors.v1 import errors_pb2 as errors
from polyroute.api.metrics.v1 import metrics_pb2 as pb
from polyroute.api.metrics.v1 import metrics_pb2_grpc
from polyroute.cli import usage
from polyroute.cli.config import Config
from polyroute.cli.main import app
from polyroute.mesh.roles import ConfigError
from tests.unit.edge.peers import local
from tests.unit.metrics.records import attempt, call

CONFIG = Config()
ODD = "[/red] [bold]x"  # what a terminal library might take for a command


class Metrics(metrics_pb2_grpc.MetricsServiceServicer):
    """Answers with `rows`, and with `records` in pages of `page`, of which only the first works while `fails`."""

    def __init__(self) -> None:
        self.rows: list[pb.UsageRow] = []
        self.records: list[pb.CallRecord] = []
        self.page = 2
        self.fails = False
        self.asked: list[Any] = []

    async def QueryUsage(self, request: pb.QueryUsageRequest, context: Any) -> pb.QueryUsageResponse:
        self.asked.append(request)
        return pb.QueryUsageResponse(rows=self.rows)

    async def ListCalls(self, request: pb.ListCallsRequest, context: Any) -> pb.ListCallsResponse:
        asked = pb.ListCallsRequest()
        asked.CopyFrom(request)
        self.asked.append(asked)
        start = int(request.page_token or 0)
        if start and self.fails:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "told to")
        end = start + self.page
        return pb.ListCallsResponse(
            records=self.records[start:end], next_page_token=str(end) if end < len(self.records) else ""
        )

    async def Append(self, request_iterator: Any, context: Any) -> pb.AppendResponse:
        raise NotImplementedError

    async def GetExposition(self, request: pb.GetExpositionRequest, context: Any) -> pb.GetExpositionResponse:
        raise NotImplementedError

    def WatchStats(self, request: pb.WatchStatsRequest, context: Any) -> AsyncIterator[pb.WatchStatsResponse]:
        raise NotImplementedError


@pytest.fixture
def metrics(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Metrics]:
    """What commands find instead of a gateway."""
    made = Metrics()

    class Node:
        def channel(self, role: str) -> Any:
            return local(metrics_pb2_grpc.add_MetricsServiceServicer_to_server, made)

    def run(config: Config, work: Callable[[Any], Awaitable[Any]]) -> Any:
        async def awaited() -> Any:
            return await work(Node())

        return asyncio.run(awaited())

    monkeypatch.setattr(usage, "run", run)
    monkeypatch.chdir(tmp_path)
    for name in ("POLYROUTE_CONFIG", "POLYROUTE_ADMIN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))  # where nobody is signed in
    with capture_logs():  # the role's own logs are not the commands' output
        yield made


def row(*values: str, cost: int = 0, unpriced: int = 0, charged: int | None = None) -> pb.UsageRow:
    used = Usage(input_tokens=1000, cache_write_tokens=1, cache_read_tokens=5, output_tokens=7)
    made = pb.UsageRow(values=values, calls=3, failed_calls=1, usage=used, cost_nanos=cost, unpriced_calls=unpriced)
    made.charged_nanos = cost if charged is None else charged
    return made


def polyroute(*words: str) -> str:
    """What a command prints."""
    done = CliRunner().invoke(app, ["usage", *words], catch_exceptions=False)
    assert 0 == done.exit_code, done.output
    return done.stdout


class TestQuestion:
    @pytest.mark.parametrize(
        ("since", "seconds"), [("30m", 1800), ("12h", 43_200), ("7d", 604_800), ("0d", 0), ("1000d", 86_400_000)]
    )
    def test_span(self, metrics: Metrics, since: str, seconds: int) -> None:
        """Counts back from now."""
        polyroute("--since", since)

        assert abs(time.time() - seconds - metrics.asked[0].start_time.seconds) < 5

    @pytest.mark.parametrize("since", ["", "7", "d", "-7d", "7w", "1.5h", "7d "])
    def test_what_is_no_span(self, metrics: Metrics, since: str) -> None:
        """Is refused before anything is asked."""
        with pytest.raises(ConfigError, match="--since"):
            usage.show_usage(usage.Operator(CONFIG), "day", since)

        assert [] == metrics.asked

    def test_dimensions(self, metrics: Metrics) -> None:
        """In the order given, tags by name."""
        polyroute("--by", "workflow, tag:team,hour,tag:x:y,")
        dimensions = (
            pb.USAGE_DIMENSION_WORKFLOW,
            pb.USAGE_DIMENSION_TAG,
            pb.USAGE_DIMENSION_HOUR,
            pb.USAGE_DIMENSION_TAG,
        )

        assert [*dimensions] == list(metrics.asked[0].group_by)
        assert ["team", "x:y"] == list(metrics.asked[0].tag_names)

    def test_no_dimensions(self, metrics: Metrics) -> None:
        """One sum in all."""
        polyroute("--by", "")

        assert [] == list(metrics.asked[0].group_by)

    @pytest.mark.parametrize("name", ["modle", "tag", "tag:"])
    def test_unknown_dimension(self, metrics: Metrics, name: str) -> None:
        """Is named, with those that there are."""
        with pytest.raises(ConfigError, match=rf"--by: unknown '{name}' \(known: day, project, key, .* tag:NAME"):
            usage.show_usage(usage.Operator(CONFIG), f"day,{name}", "1d")

    def test_filters(self, metrics: Metrics) -> None:
        """Every one of them is asked for, of sums and of calls."""
        words = ["--project", "p", "--key", "k", "--model", "m", "--deployment", "d", "--provider", "v", "--user", "u"]
        words += ["--workflow", "w", "--node", "n", "--account", "a", "--tag", "team=x", "--tag", "y=1=2"]
        polyroute(*words)
        polyroute("export", "--calls", "--fault", "rate", *words)
        sums, calls = metrics.asked
        names = [
            "project_id",
            "key_id",
            "model",
            "deployment",
            "provider",
            "user",
            "workflow_id",
            "node_id",
            "account_id",
        ]

        for request in (sums, calls):
            assert list("pkmdvuwna") == [getattr(request, name) for name in names]
            assert {"team": "x", "y": "1=2"} == dict(request.tags)
        assert errors.FAULT_RATE == calls.fault

    @pytest.mark.parametrize(
        "words",
        [
            ["--tag", "team"],
            ["--format", "xlsx"],
            ["export", "--format", "table"],
            ["export", "--fault", "rate"],
        ],
    )
    def test_wrong_use(self, metrics: Metrics, words: list[str]) -> None:
        """Is told, and nothing is asked."""
        assert 2 == CliRunner().invoke(app, ["usage", *words]).exit_code
        assert [] == metrics.asked


class TestSums:
    def test_json(self, metrics: Metrics) -> None:
        """Exact integers, for programs; both ways of asking."""
        metrics.rows = [row("2026-01-01", "m", cost=123_456_789_012, charged=185_185_183_518, unpriced=1)]
        [found] = orjson.loads(polyroute("--by", "day,model", "--json"))

        assert [found] == orjson.loads(polyroute("--by", "day,model", "--format", "json"))
        assert ("2026-01-01", "m", 3, 1, 123_456_789_012, 1) == tuple(
            found[name] for name in ("day", "model", "calls", "failed_calls", "cost_nanos", "unpriced_calls")
        )
        assert 185_185_183_518 == found["charged_nanos"]

    def test_table(self, metrics: Metrics) -> None:
        """To the nano-dollar, for people; names are shown as they are."""
        metrics.rows = [row(ODD, cost=2**62 + 1)]
        metrics.rows += [row("y", cost=1_000_000_001, unpriced=2)]
        printed = polyroute("--by", "model")

        assert ODD in printed
        assert "1,001" in printed
        assert "4611686018.427387905" in printed
        assert "1.000000001 + 2 unpriced" in printed

    def test_table_says_what_is_charged(self, metrics: Metrics) -> None:
        """And not what vendors ask for it."""
        metrics.rows = [row("m", cost=2_000_000_000, charged=3_000_000_000)]
        printed = polyroute("--by", "model")

        assert (True, False) == ("3.000000000" in printed, "2.000000000" in printed)

    def test_csv(self, metrics: Metrics) -> None:
        """Values with commas and quotes survive."""
        metrics.rows = [row('a,"b"', "", cost=5)]
        found = list(csv.DictReader(StringIO(polyroute("--by", "user,tag:team", "--format", "csv"))))

        assert [('a,"b"', "", "3", "5", "false")] == [
            (one["user"], one["tag:team"], one["calls"], one["cost_nanos"], one["estimated"]) for one in found
        ]

    def test_parquet(self, metrics: Metrics, tmp_path: Path) -> None:
        """Typed columns, read back by pyarrow."""
        parquet = pytest.importorskip("pyarrow.parquet")
        metrics.rows = [row("a", cost=2**62), row("b")]
        polyroute("--by", "user", "--format", "parquet", "--out", "sums.parquet")
        [first, _] = parquet.read_table(tmp_path / "sums.parquet").to_pylist()

        assert ("a", 3, 2**62, False) == tuple(first[name] for name in ("user", "calls", "cost_nanos", "estimated"))

    def test_parquet_needs_its_library(self, metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> None:
        """The text says what to install, before anything is asked."""
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(ConfigError, match="pip install pyarrow"):
            usage.show_usage(usage.Operator(CONFIG), "day", "1d", form="parquet", out=Path("x.parquet"))
        with pytest.raises(ConfigError, match="pyarrow"):
            usage.export_calls(usage.Operator(CONFIG), "1d", form="parquet", out=Path("x.parquet"))

        assert [] == metrics.asked

    def test_parquet_needs_a_file(self, metrics: Metrics) -> None:
        """A terminal cannot show it."""
        pytest.importorskip("pyarrow")
        with pytest.raises(ConfigError, match="--out"):
            usage.show_usage(usage.Operator(CONFIG), "day", "1d", form="parquet")


class TestCalls:
    def test_csv_of_all_pages(self, metrics: Metrics, tmp_path: Path) -> None:
        """Each call is a line with all that is known of it; an unknown cost is empty."""
        failed = [attempt(fault=errors.FAULT_RATE), attempt(fault=errors.FAULT_STALL)]
        metrics.records = [call(str(number), workflow_id="w", node_id="n", charged_nanos=2250) for number in range(4)]
        metrics.records.append(call("5", cost_nanos=None, attempts=failed, outcome=pb.OUTCOME_FAILED, tags={}))
        polyroute("export", "--calls", "--since", "1d", "--out", "calls.csv")
        found = list(csv.DictReader(StringIO((tmp_path / "calls.csv").read_text())))

        assert ["0", "1", "2", "3", "5"] == [one["request_id"] for one in found]
        assert 3 == len(metrics.asked)
        first, last = found[0], found[-1]
        assert ("prj", "w", "n", "u-1", '{"team":"search"}') == tuple(
            first[name] for name in ("project_id", "workflow_id", "node_id", "user", "tags")
        )
        assert ("chat", "completed", "stop", "1500", "10") == tuple(
            first[name] for name in ("operation", "outcome", "finish_reason", "cost_nanos", "input_tokens")
        )
        assert ("2250", "") == (first["charged_nanos"], last["charged_nanos"])
        assert ("failed", "rate stall", "2", "", "") == tuple(
            last[name] for name in ("outcome", "faults", "attempts", "cost_nanos", "tags")
        )
        assert {"calls.csv"} == {path.name for path in tmp_path.iterdir()}

    def test_parquet(self, metrics: Metrics, tmp_path: Path) -> None:
        """A row group for each page: no more than one is in memory."""
        parquet = pytest.importorskip("pyarrow.parquet")
        metrics.records = [call(str(number), cost_nanos=None if number else 7) for number in range(5)]
        polyroute("export", "--calls", "--format", "parquet", "--out", "calls.parquet")
        file = parquet.ParquetFile(tmp_path / "calls.parquet")

        assert (5, 3) == (file.metadata.num_rows, file.num_row_groups)
        for name in ("cost_nanos", "charged_nanos"):
            assert [7, None, None, None, None] == file.read().column(name).to_pylist()

    def test_json(self, metrics: Metrics) -> None:
        """An object a line."""
        metrics.records = [call("a"), call("b")]
        lines = polyroute("export", "--calls", "--format", "json").splitlines()

        assert ["a", "b"] == [orjson.loads(line)["request_id"] for line in lines if line.startswith("{")]

    def test_a_file_is_there_when_it_is_whole(self, metrics: Metrics, tmp_path: Path) -> None:
        """What was there before stays until then, and nothing half-written is left."""
        place = tmp_path / "calls.csv"
        place.write_text("before")
        metrics.records = [call("a"), call("b")]
        metrics.page = 1
        metrics.fails = True
        with pytest.raises(grpc.aio.AioRpcError):
            usage.export_calls(usage.Operator(CONFIG), "1d", form="csv", out=place)

        assert "before" == place.read_text()
        assert [place] == list(tmp_path.iterdir())

    def test_unknown_fault(self, metrics: Metrics) -> None:
        """Is named, with those that there are."""
        with pytest.raises(ConfigError, match=r"--fault: unknown 'rates' .*rate"):
            usage.export_calls(usage.Operator(CONFIG), "1d", {"fault": "rates"}, form="csv", out=None)

    def test_no_such_folder(self, metrics: Metrics, tmp_path: Path) -> None:
        """Is said in a line."""
        with pytest.raises(ConfigError, match=r"--out .*no such file"):
            usage.export_calls(usage.Operator(CONFIG), "1d", form="csv", out=tmp_path / "none" / "x.csv")
