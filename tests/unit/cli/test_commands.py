"""What commands print and refuse; the roles they ask are fakes behind a channel of this process."""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from typing import Any

import grpc
import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner

from polyroute.api.auth.v1 import auth_pb2, auth_pb2_grpc
from polyroute.api.chat.v1.chat_pb2 import OPERATION_CHAT, OPERATION_EMBEDDING
from polyroute.api.metrics.v1 import metrics_pb2, metrics_pb2_grpc
from polyroute.api.providers.v1 import providers_pb2, providers_pb2_grpc
from polyroute.api.router.v1 import router_pb2, router_pb2_grpc
from polyroute.cli import admin, client, report, usage
from polyroute.cli import routing as questions
from polyroute.cli.commands import routing as route_words
from polyroute.cli.commands import usage as usage_words
from polyroute.cli.config import Config
from polyroute.cli.main import app
from polyroute.cli.welcome import Welcome
from polyroute.mesh.roles import ConfigError
from polyroute.providers.local.model import HINT
from polyroute.providers.registry import all_vendors
from tests.unit.edge.peers import local

Context = grpc.aio.ServicerContext[Any, Any]
CONFIG = Config()
OWN = "providers: {p: {vendor: openai_compatible, base_url: 'http://h/v1'}}"
ODD = "[/red] [bold]x"  # what a terminal library might take for a command


def test_words_are_those_of_the_contract() -> None:
    """The help of `route` and `usage` is there before the contract is loaded; it says what the contract says."""
    assert tuple(questions.OPERATIONS) == route_words.OPERATIONS
    assert tuple(questions.URGENCIES) == route_words.URGENCIES
    assert tuple(usage.DIMENSIONS) == usage_words.DIMENSIONS


def test_help_loads_nothing_heavy() -> None:
    """Every command's help, and each process of one role, would wait for it."""
    source = "import sys, polyroute.cli.main; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True).stdout.split()

    assert not {"grpc", "google", "pydantic", "sqlalchemy", "yaml"} & set(loaded)


class Roles(
    auth_pb2_grpc.AuthServiceServicer,
    metrics_pb2_grpc.MetricsServiceServicer,
    router_pb2_grpc.RouterServiceServicer,
    providers_pb2_grpc.ProvidersServiceServicer,
):
    """Every role that a command asks; `bound` is where the doors would be."""

    def __init__(self) -> None:
        self.rows: list[metrics_pb2.UsageRow] = []
        self.keys: list[auth_pb2.Key] = []
        self.models: list[router_pb2.Model] = []
        self.providers: list[list[providers_pb2.Provider]] = []
        self.asked: list[Any] = []
        self.bound = {"http": "http://h:1", "edge": "h:2"}

    def channel(self, role: str) -> grpc.aio.Channel:
        adders: dict[str, Callable[[Any, Any], None]] = {
            "auth": auth_pb2_grpc.add_AuthServiceServicer_to_server,
            "metrics": metrics_pb2_grpc.add_MetricsServiceServicer_to_server,
            "router": router_pb2_grpc.add_RouterServiceServicer_to_server,
            "providers": providers_pb2_grpc.add_ProvidersServiceServicer_to_server,
        }
        return local(adders[role], self)

    async def QueryUsage(
        self, request: metrics_pb2.QueryUsageRequest, context: Context
    ) -> metrics_pb2.QueryUsageResponse:
        self.asked.append(request)
        return metrics_pb2.QueryUsageResponse(rows=self.rows)

    async def ListKeys(self, request: auth_pb2.ListKeysRequest, context: Context) -> auth_pb2.ListKeysResponse:
        at = int(request.page_token or 0)
        following = str(at + 1) if at + 1 < len(self.keys) else ""
        return auth_pb2.ListKeysResponse(keys=self.keys[at : at + 1], next_page_token=following)

    async def CreateKey(self, request: auth_pb2.CreateKeyRequest, context: Context) -> auth_pb2.CreateKeyResponse:
        self.asked.append(request)
        return auth_pb2.CreateKeyResponse(key=auth_pb2.Key(id="key_1"), secret="pr-secret")

    async def ListModels(
        self, request: router_pb2.ListModelsRequest, context: Context
    ) -> router_pb2.ListModelsResponse:
        return router_pb2.ListModelsResponse(models=self.models, catalog_version="c1")

    async def WatchProviders(
        self, request: providers_pb2.WatchProvidersRequest, context: Context
    ) -> AsyncGenerator[providers_pb2.WatchProvidersResponse]:
        for providers in self.providers:
            yield providers_pb2.WatchProvidersResponse(providers=providers)
        await asyncio.Event().wait()


@pytest.fixture
def roles(monkeypatch: pytest.MonkeyPatch) -> Iterator[Roles]:
    """Roles that commands find instead of a gateway; their own logs are not the commands' output."""
    made = Roles()  # type: ignore[abstract] # has what commands call

    def run(config: Config, work: Callable[[Any], Awaitable[Any]]) -> Any:
        return asyncio.run(_awaited(work(made)))

    for module in (report, admin):
        monkeypatch.setattr(module, "run", run)
    with capture_logs():
        yield made


async def _awaited(work: Awaitable[Any]) -> Any:
    return await work


class TestKeys:
    def test_secret_is_the_only_output(self, roles: Roles, capsys: pytest.CaptureFixture[str]) -> None:
        """So that a script can take it."""
        admin.create_key(CONFIG, "n", "", ["m"], 2)
        printed = capsys.readouterr()

        assert ("pr-secret\n", True) == (printed.out, "key_1" in printed.err)
        assert (172_800, ["m"]) == (roles.asked[0].lifetime.seconds, list(roles.asked[0].models))

    def test_key_without_an_end(self, roles: Roles, capsys: pytest.CaptureFixture[str]) -> None:
        """0 days is for ever."""
        admin.create_key(CONFIG, "", "", [], 0)

        assert not roles.asked[0].HasField("lifetime")

    def test_every_page_is_listed(self, roles: Roles, capsys: pytest.CaptureFixture[str]) -> None:
        """Whatever the keys are called."""
        revoked = auth_pb2.Key(id="key_2", prefix="pr-b")
        revoked.revoke_time.FromSeconds(1_800_000_000)
        roles.keys = [auth_pb2.Key(id="key_1", prefix="pr-a", name=ODD), revoked]
        admin.list_keys(CONFIG, ended=True)
        printed = capsys.readouterr().out

        assert ODD in printed
        assert re.search(r"key_1 .*works", printed)
        assert re.search(r"key_2 .*revoked 2027-01-15 08:00:00Z", printed)


def test_models(roles: Roles, capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown price says so; a known one is in dollars, by its unit; where deployments differ with the range."""
    price = router_pb2.Price(input=150_000_000, output=600_000_000)
    dear = router_pb2.Price(input=3 * 10**8, output=9 * 10**8, request=2 * 10**12)
    picture = router_pb2.Price(other={"images": 4 * 10**13, "audio_milliseconds": 10**8})
    roles.models = [
        router_pb2.Model(
            name="m",
            operations=[OPERATION_CHAT],
            providers=["p"],
            context_tokens=128_000,
            price=price,
            first_price=dear,
            highest_price=dear,
        ),
        router_pb2.Model(name="i", first_price=picture, price=picture, highest_price=picture),
        router_pb2.Model(name=ODD, operations=[OPERATION_EMBEDDING], alias_of=["m"]),
    ]
    report.models(CONFIG)
    printed = capsys.readouterr().out
    report.models(CONFIG, as_json=True)
    listed = json.loads(capsys.readouterr().out)

    assert re.search(r"m +chat +p +128,000 +0\.3 / 0\.9, 0\.002 per call +0\.15 / 0\.6 - 0\.3 / 0\.9, 0\.002", printed)
    assert re.search(r"i +0\.04 per picture, 0\.006 per minute of sound ", printed)
    assert ["m", "i", ODD] == [one["name"] for one in listed]
    assert "300000000" == str(listed[0]["first_price"]["input"])
    assert ODD in printed
    assert "unknown" in printed


class TestFailures:
    @pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED])
    def test_no_gateway(self, code: grpc.StatusCode) -> None:
        """Says how to start one."""
        with pytest.raises(SystemExit, match=r"no gateway answers here.*polyroute up"):
            client.finish(failing(code, "gone"))

    def test_refusal(self) -> None:
        """In its own words."""
        with pytest.raises(SystemExit, match="polyroute: no such key"):
            client.finish(failing(grpc.StatusCode.NOT_FOUND, "no such key"))


async def failing(code: grpc.StatusCode, details: str) -> None:
    raise grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details=details)


class TestWelcome:
    async def greeted(self, roles: Roles, *, key: str = "") -> None:
        welcome = Welcome(CONFIG)
        if key:
            welcome.key(key)
        async with asyncio.timeout(2):
            await welcome.greet(roles)  # type: ignore[arg-type] # what of a node is used

    async def test_ready(self, roles: Roles, capsys: pytest.CaptureFixture[str]) -> None:
        """Where it is, and a command that works as it stands."""
        roles.providers = [[providers_pb2.Provider(name="p")]]
        roles.models = [
            router_pb2.Model(name="v", operations=[OPERATION_EMBEDDING]),
            router_pb2.Model(name="m", operations=[OPERATION_CHAT]),
        ]
        await self.greeted(roles, key="pr-1")
        printed = capsys.readouterr().out

        assert "ready     http://h:1/v1   gRPC h:2" in printed
        assert "curl -N http://h:1/v1/chat/completions" in printed
        assert "Bearer pr-1" in printed
        assert '"model":"m"' in printed

    async def test_key_that_was_shown_before(self, roles: Roles, capsys: pytest.CaptureFixture[str]) -> None:
        """Is not known any more: the command says where it goes."""
        roles.providers = [[providers_pb2.Provider(name="p")]]
        roles.models = [router_pb2.Model(name="m", operations=[OPERATION_CHAT])]
        await self.greeted(roles)
        printed = capsys.readouterr().out

        assert "polyroute keys create" in printed
        assert '"authorization: Bearer $POLYROUTE_KEY"' in printed

    async def test_model_that_is_being_fetched(self, roles: Roles, capsys: pytest.CaptureFixture[str]) -> None:
        """Each state is told once, then it is ready."""
        loading = [providers_pb2.Provider(name="local", unavailable="loading [1/2]")]
        roles.providers = [loading, loading, [providers_pb2.Provider(name="local")]]
        await self.greeted(roles)
        printed = capsys.readouterr().out

        assert 1 == printed.count("loading [1/2]")
        assert "ready" in printed

    async def test_nothing_to_ask(self, roles: Roles, capsys: pytest.CaptureFixture[str]) -> None:
        """Without the embedded model and without a vendor: how to get either, and the doors are open all the same."""
        roles.providers = [[providers_pb2.Provider(name="local", unavailable=HINT)]]
        await self.greeted(roles)
        printed = capsys.readouterr().out

        assert 'pip install "polyroute[local]"' in printed
        assert "OPENAI_API_KEY" in printed
        assert "ready     http://h:1/v1" in printed
        assert "curl" not in printed

    def test_progress_in_steps(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Not a line per packet."""
        welcome = Welcome(CONFIG)
        for done in range(0, 200_000_001, 1_000_000):
            welcome.progress("fetching", done, 200_000_000)
        lines = capsys.readouterr().out.splitlines()

        assert 11 == len(lines)
        assert ("0 %" in lines[0], "100 % of 200 MB" in lines[-1]) == (True, True)

    def test_progress_of_unknown_length(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Breaks nothing."""
        Welcome(CONFIG).progress("fetching", 5, 0)

        assert "0 %" in capsys.readouterr().out


class TestProgram:
    @pytest.mark.parametrize(
        "command", [[], ["up"], ["serve"], ["keys", "create"], ["usage"], ["config", "check"], ["chat"]]
    )
    def test_help(self, command: list[str]) -> None:
        """Every command has one."""
        shown = CliRunner().invoke(app, [*command, "--help"])

        assert (0, True) == (shown.exit_code, "Usage" in shown.output)

    @pytest.mark.parametrize("command", [["nothing"], ["up", "--workers", "-1"], ["keys", "create", "--days", "-1"]])
    def test_wrong_use(self, command: list[str]) -> None:
        """Is told, and nothing is started."""
        assert 2 == CliRunner().invoke(app, command).exit_code

    def test_check_without_a_file(self, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """There is nothing to check."""
        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv("POLYROUTE_CONFIG", raising=False)

        assert isinstance(CliRunner().invoke(app, ["config", "check"]).exception, ConfigError)

    @pytest.mark.parametrize(
        ("text", "outcome"),
        [
            (f"{OWN}\nmodels: {{m: {{deployments: [p/x]}}}}", "good"),
            (f"{OWN}\nmodels: {{m: {{deployments: [q/x]}}}}", "unknown provider 'q'"),
            ("models: {m: {deployments: [local/x]}}", "good"),
            ("providers: {openai: {}}", "openai needs a key"),
        ],
    )
    def test_check(self, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, text: str, outcome: str) -> None:
        """Builds what a start would build: what that would refuse is refused here."""
        for vendor in all_vendors().values():
            for name in vendor.key_env:
                monkeypatch.delenv(name, raising=False)
        path = tmp_path / "f.yaml"
        path.write_text(text)
        shown = CliRunner().invoke(app, ["config", "check", "--config", str(path)])

        assert (outcome == "good") == ("good; " in shown.output)
        assert outcome in f"{shown.output}{shown.exception}"
