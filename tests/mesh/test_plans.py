"""What a plan gives beside money, through the whole gateway: from the moment of subscribing until the end."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from itertools import count
from typing import Any

import orjson
import pytest
import pytest_asyncio
from structlog.testing import capture_logs
from typer.testing import CliRunner

from bench.vendor import Vendor
from polyroute.api.auth.v1 import auth_pb2
from polyroute.cli.main import app as program
from tests.mesh.gateway import SECONDS, Answer, Gateway, deployment, question, running, whole

pytestmark = pytest.mark.asyncio(loop_scope="module")
MODELS = {name: {"deployments": [deployment("v", name)]} for name in ("m", "small-1", "large")}
NUMBERS = count()
HEARD = 0.3  # seconds in which the edge hears of a change, which it does within one


@dataclass
class Team:
    """A project of its own and a key of it."""

    gateway: Gateway
    admin: str
    project: str
    key: str

    async def ask(self, verb: str, path: str, body: Any = None, *, status: int = 200) -> Any:
        """What the administrator is answered, with a status."""
        headers = {"authorization": f"Bearer {self.admin}", "content-type": "application/json"}
        data = None if body is None else orjson.dumps(body)
        url = f"{self.gateway.url}/admin/v1/{path}"
        async with self.gateway.session.request(verb, url, data=data, headers=headers) as response:
            answer = await whole(response)
        assert status == answer.status, answer.body
        return answer.json

    async def subscribe(self, scope: str = "", **terms: Any) -> Any:
        """A subscription to a plan of these terms, which never ends by itself."""
        name = f"p{next(NUMBERS)}"
        plan = {"name": name, "period": "PERIOD_TOTAL", "quota_nanos": "1000000000000", "overage": True, **terms}
        await self.ask("PUT", f"plans/{name}", plan)
        made = await self.ask("POST", "subscriptions", {"scope": scope or self.project, "plan": name})
        await asyncio.sleep(HEARD)
        return made["subscription"]

    async def cancel(self, subscription: Any) -> None:
        """Ends it."""
        await self.ask("POST", f"subscriptions/{subscription['id']}:cancel", {})
        await asyncio.sleep(HEARD)

    async def chat(
        self, model: str = "m", *, key: str = "", path: str = "/v1/chat/completions", text: str = "hello"
    ) -> Answer:
        """A call of the team."""
        headers = self.gateway.headers(authorization=f"Bearer {key or self.key}")
        return await self.gateway.post(path, question(text, model, max_tokens=8), headers=headers)

    async def statuses(self, *models: str) -> list[int]:
        """How calls for some models are answered."""
        return [(await self.chat(model)).status for model in models]

    async def narrow(self, *models: str) -> str:
        """A key of the project that may use only these models."""
        request = auth_pb2.CreateKeyRequest(project_id=self.project, models=models)
        return str((await self.gateway.auth().CreateKey(request, timeout=SECONDS)).secret)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(_elsewhere: None, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Gateway]:
    """With three models, before a vendor that takes its time."""
    async with Vendor() as vendor, running(tmp_path_factory.mktemp("gateway"), {"v": vendor.url}, MODELS) as started:
        yield started


@pytest_asyncio.fixture(loop_scope="module")
async def team(gateway: Gateway) -> Team:
    """A new one."""
    admin = (gateway.process.config.data_dir / "auth.db.admin").read_text().strip()
    made = Team(gateway, admin, "", "")
    account = (await made.ask("POST", "accounts", {"name": "team"}))["account"]["id"]
    made.project = (await made.ask("POST", "projects", {"name": "p", "account_id": account}))["project"]["id"]
    made.key = await made.narrow()
    return made


async def test_a_rate_and_what_it_says(team: Team) -> None:
    """Of all keys of the project together, from the next call on until the plan ends."""
    other = await team.narrow()
    before = await team.statuses("m", "m", "m")
    one = await team.subscribe(limits=[{"kind": "LIMIT_KIND_REQUESTS", "amount": "6", "burst": "2"}])
    answers = [await team.chat(key=key) for key in (team.key, other, team.key)]
    await team.cancel(one)

    assert [200, 200, 200] == before
    assert [200, 200, 429] == [answer.status for answer in answers]
    assert "6" == answers[0].headers["x-ratelimit-limit-requests"]
    assert "too many requests a minute for this plan" in answers[2].error["message"]
    assert [200, 200, 200] == await team.statuses("m", "m", "m")


@pytest.mark.parametrize(("own", "plans"), [(3, 2), (2, 3)])
async def test_the_tightest_limit_binds(team: Team, own: int, plans: int) -> None:
    """The operator's own, or the plan's."""
    rate = {"kind": "LIMIT_KIND_REQUESTS", "amount": "6"}
    await team.ask("POST", "limits", {"scope": team.project, **rate, "burst": str(own)})
    await team.subscribe(limits=[{**rate, "burst": str(plans)}])

    assert [200, 200, 429] == await team.statuses("m", "m", "m")


async def test_calls_at_once(team: Team) -> None:
    """Exactly as many as the plan says, of one model."""
    await team.subscribe(limits=[{"kind": "LIMIT_KIND_CONCURRENCY", "amount": "2", "model": "large"}])
    models = ["large"] * 4 + ["m"] * 2
    answers = await asyncio.gather(*(team.chat(model, text="[[first=500]]") for model in models))
    refused = [answer for answer in answers[:4] if answer.status != 200]

    assert [429, 429] == [answer.status for answer in refused]
    assert {"too many requests at once for this plan"} == {answer.error["message"] for answer in refused}
    assert [200, 200] == [answer.status for answer in answers[4:]] == await team.statuses("large", "large")


async def test_what_a_plan_opens(team: Team) -> None:
    """Models by patterns, in lists as well; kinds of work and paths; for a key that may do less, only that."""
    chats = {"models": ["m", "small-*"], "operations": ["OPERATION_CHAT"], "routes": ["/v1/chat/*", "/v1/models"]}
    key = await team.narrow("m", "large")
    one = await team.subscribe(opens=chats)
    answers = {model: await team.chat(model) for model in MODELS}
    narrow = {model: (await team.chat(model, key=key)).status for model in MODELS}
    listed = await team.gateway.get("/v1/models", headers=team.gateway.headers(authorization=f"Bearer {team.key}"))
    path = await team.chat(path="/v1/messages")
    await team.cancel(one)
    wide = await team.subscribe(opens={"models": ["m", "small-*"]})
    relayed = {model: (await team.chat(model, path="/passthrough/v/chat/completions")).status for model in MODELS}
    await team.cancel(wide)

    assert {"m": 200, "small-1": 200, "large": 403} == {model: answer.status for model, answer in answers.items()}
    assert ("not_permitted", "the plan of this key does not include large") == (
        answers["large"].error["code"],
        answers["large"].error["message"],
    )
    assert {"m": 200, "small-1": 403, "large": 403} == narrow
    assert {"m": 200, "small-1": 200, "large": 403} == relayed
    assert {"m", "small-1"} == {model["id"] for model in listed.json["data"]}
    assert (403, "the plan of this key does not include /v1/messages") == (path.status, path.error["message"])
    assert [200, 200, 200] == await team.statuses(*MODELS)


async def test_a_projects_own_plan_replaces_its_accounts(team: Team) -> None:
    """What it opens and what it limits, both ways."""
    account = (await team.ask("GET", f"projects/{team.project}"))["project"]["account_id"]
    closed = [{"kind": "LIMIT_KIND_REQUESTS", "amount": "0"}]
    await team.subscribe(account, opens={"models": ["m"]}, limits=closed)
    under_account = await team.chat()
    own = await team.subscribe(opens={"models": ["large"]})
    under_own = await team.statuses("m", "large")
    await team.cancel(own)

    assert 429 == under_account.status
    assert [403, 200] == under_own
    assert [429, 429] == await team.statuses("m", "large")


@pytest.mark.parametrize(
    "terms",
    [
        {"limits": [{"amount": "5"}]},
        {"limits": [{"kind": "LIMIT_KIND_REQUESTS", "amount": "-1"}]},
        {"limits": [{"kind": "LIMIT_KIND_REQUESTS"}, {"kind": "LIMIT_KIND_REQUESTS", "amount": "1"}]},
        {"opens": {"operations": ["OPERATION_UNSPECIFIED"]}},
        {"opens": {"models": [""]}},
        {"opens": {"routes": ["v1"]}},
    ],
)
async def test_terms_that_nobody_can_mean(team: Team, terms: Any) -> None:
    """Are the administrator's mistake."""
    await team.ask("PUT", "plans/wrong", {"period": "PERIOD_TOTAL", **terms}, status=400)


async def test_the_command_line(team: Team) -> None:
    """Sets all of it, and prints it in the words in which it is written."""

    async def run(*arguments: str) -> str:
        there = ("--address", team.gateway.url, "--admin-secret", team.admin)
        with capture_logs():
            result = await asyncio.to_thread(CliRunner().invoke, program, ["billing", "plans", *arguments, *there])
        assert 0 == result.exit_code, result.output
        return result.stdout

    limits = ("--limit", "requests=600", "--limit", "requests=30:5@large")
    opens = ("--model", "small-*", "--operation", "chat", "--route", "/v1/*")
    said = await run("set", "cli", "--price", "100", "--quota", "50USD", "--overage", *limits, *opens)
    [listed] = [line for line in (await run("list")).splitlines() if " cli " in line]
    plain = await run("set", "plain", "--quota", "50USD")

    terms = ("requests=600, requests=30:5@large", "small-*, chat, /v1/*")
    assert f"cli: 100.00 USD for 50.00 USD, {terms[0]}, {terms[1]}\n" == said
    assert all(one in listed for one in terms)
    assert "plain: 0.00 USD for 50.00 USD\n" == plain
