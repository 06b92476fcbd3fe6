"""Usage for an account's own people, over HTTP, gRPC and the commands: role x route x tenant, and what they see."""

import asyncio
import re
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import orjson
import pytest
import pytest_asyncio
from structlog.testing import capture_logs
from typer.testing import CliRunner, Result

from bench.vendor import Vendor
from polyroute.api.gateway.v1 import usage_pb2 as pb
from polyroute.api.gateway.v1.usage_pb2_grpc import UsageServiceStub
from polyroute.cli.main import app as program
from polyroute.edge.admin.bindings import Binding, bindings
from polyroute.edge.usage.desk import SERVICE
from polyroute.edge.usage.questions import MAX_PAGE_SIZE
from tests.mesh.gateway import SECONDS, Answer, Gateway, grpc_door, running, whole

pytestmark = pytest.mark.asyncio(loop_scope="module")
PASSWORD = "correct horse battery"
ROLES = ("owner", "admin", "member", "viewer", "billing")
ROUTES = [binding for binding in bindings([SERVICE]) if re.search(r"\{(account|project)_id\}", binding.template)]
ANYWHERE = [binding for binding in bindings([SERVICE]) if binding not in ROUTES]


@dataclass
class Tenant:
    """An account with a project, a key that calls, and two calls."""

    account: str
    project: str
    key: str
    secret: str
    calls: list[str] = field(default_factory=list)

    def path(self, binding: Binding, call: str = "") -> str:
        """A route about what is theirs."""
        names = {"account_id": self.account, "project_id": self.project, "request_id": call or self.calls[0]}
        return binding.template.format(**names)


@dataclass
class Stage:
    """A gateway with two tenants, and the people of the first."""

    gateway: Gateway
    secret: str
    ours: Tenant
    others: Tenant
    people: dict[str, str] = field(default_factory=dict)

    async def ask(self, verb: str, path: str, credential: str, body: Any = None) -> Answer:
        """A request of whoever has that credential."""
        headers = {"authorization": f"Bearer {credential}"} if credential else {}
        async with self.gateway.session.request(verb, self.gateway.url + path, json=body, headers=headers) as response:
            return await whole(response)

    async def get(self, path: str, who: str = "viewer") -> Answer:
        """What a person of the first tenant is answered."""
        return await self.ask("GET", path, self.people[who])

    async def person(self, role: str) -> str:
        """The access token of somebody new in the first tenant."""
        email = f"{role}@example.com"
        new = {"email": email, "account_id": self.ours.account, "role": f"MEMBER_ROLE_{role.upper()}"}
        made = (await self.ask("POST", "/admin/v1/people", self.secret, new)).json
        await self.ask("POST", "/admin/v1/self:resetPassword", "", {"code": made["code"], "new_password": PASSWORD})
        signed = await self.ask("POST", "/admin/v1/self:signIn", "", {"email": email, "password": PASSWORD})
        return str(signed.json["tokens"]["access_token"])

    async def command(self, *arguments: str, given: str | None = None) -> Result:
        """What a command does."""
        with capture_logs():
            return await asyncio.to_thread(CliRunner().invoke, program, arguments, input=given)


async def tenant(gateway: Gateway, secret: str, name: str) -> Tenant:
    """A tenant that has called."""

    async def made(path: str, body: Any) -> Any:
        headers = {"authorization": f"Bearer {secret}"}
        async with gateway.session.post(f"{gateway.url}/admin/v1/{path}", json=body, headers=headers) as response:
            return (await whole(response)).json

    account = (await made("accounts", {"name": name}))["account"]["id"]
    project = (await made("projects", {"account_id": account, "name": name}))["project"]["id"]
    issued = await made("keys", {"project_id": project, "name": name})
    found = Tenant(account, project, issued["key"]["id"], issued["secret"])
    for workflow in ("invoices", "mail"):
        headers = {"authorization": f"Bearer {found.secret}", "x-polyroute-workflow": workflow}
        answer = await gateway.chat(headers={**headers, "x-polyroute-tags": f"team={name}"}, user="ann")
        assert 200 == answer.status, answer.body
        found.calls.append((await gateway.recorded(answer)).request_id)
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Stage]:
    """See `Stage`."""
    folder = tmp_path_factory.mktemp("usage")
    settings = {"password_memory": 8, "password_rounds": 1}
    with pytest.MonkeyPatch.context() as patch, capture_logs():
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        patch.delenv("POLYROUTE_ADMIN", raising=False)
        async with Vendor() as vendor, running(folder, {"v": vendor.url}, auth=settings) as gateway:
            secret = (gateway.process.config.data_dir / "auth.db.admin").read_text().strip()
            ours, others = [await tenant(gateway, secret, name) for name in ("ours", "others")]
            made = Stage(gateway, secret, ours, others)
            for role in ROLES:
                made.people[role] = await made.person(role)
            yield made


def cells(stage: Stage) -> Iterator[tuple[str, int]]:
    """Every route about a place, and how it is answered: theirs, the other tenant's, and the other's call as theirs."""
    for binding in ROUTES:
        yield stage.ours.path(binding), 200
        yield stage.others.path(binding), 404
        if "request_id" in binding.variables:
            yield stage.ours.path(binding, stage.others.calls[0]), 404


@pytest.mark.parametrize("role", ROLES)
async def test_every_route_and_tenant(stage: Stage, role: str) -> None:
    """Each role sees its account's and its project's usage; another tenant's is not there, nor anything of it shown."""
    wrong = []
    for path, status in cells(stage):
        answer = await stage.get(path, role)
        shown = [name for name in vars(stage.others).values() if str(name).encode() in answer.body and status == 200]
        if answer.status != status or shown:
            wrong.append((path, answer.status, answer.body[:200]))

    assert [] == wrong
    assert 6 == len(ROUTES)
    assert {"/admin/v1/usage", "/admin/v1/calls", "/admin/v1/calls/{request_id}", "/admin/v1/models/live"} == {
        binding.template for binding in ANYWHERE
    }


async def test_a_key_is_shown_its_project(stage: Stage) -> None:
    """And not the account; a key that administers nothing is shown nothing."""
    body = {"key": {"project_id": stage.ours.project, "name": "r", "scope": {"admin_role": "MEMBER_ROLE_VIEWER"}}}
    reporting = (await stage.ask("POST", "/admin/v1/keys", stage.secret, body["key"])).json["secret"]
    answers = {
        path: (await stage.ask("GET", f"/admin/v1/{path}/usage", reporting)).status
        for path in (f"projects/{stage.ours.project}", f"accounts/{stage.ours.account}")
    }
    anywhere = await stage.ask("GET", "/admin/v1/usage?group_by=project", reporting)
    calling = await stage.ask("GET", f"/admin/v1/projects/{stage.ours.project}/usage", stage.ours.secret)

    assert [200, 403] == list(answers.values())
    assert [[stage.ours.project]] == [row["values"] for row in anywhere.json["rows"]]
    assert 403 == calling.status


async def test_sums(stage: Stage) -> None:
    """By dimensions and filters, with the page after; operators see everybody's, or one account's."""
    path = f"/admin/v1/accounts/{stage.ours.account}/usage"
    by = (await stage.get(f"{path}?group_by=workflow,user&group_by=tag:team&page_size=1")).json
    rest = (await stage.get(f"{path}?group_by=workflow,user,tag:team&page_token={by['next_page_token']}")).json
    one = (await stage.get(f'{path}?filter=workflow_id = "mail" AND tags.team=ours AND operation=chat')).json
    none = (await stage.get(f"{path}?end_time=2020-01-01T00:00:00Z")).json
    everybody = (await stage.ask("GET", "/admin/v1/usage?group_by=account", stage.secret)).json
    theirs = (await stage.ask("GET", f"{path}?group_by=account", stage.secret)).json
    alone = (await stage.get("/admin/v1/usage?group_by=account")).json

    assert [["invoices", "ann", "ours"], ["mail", "ann", "ours"]] == [
        row["values"] for page in (by, rest) for row in page["rows"]
    ]
    assert "" == rest["next_page_token"]
    assert ["1"] == [row["calls"] for row in one["rows"]]
    assert [] == [row for row in none["rows"] if row["calls"] != "0"]
    assert {stage.ours.account: "2", stage.others.account: "2"} == {
        row["values"][0]: row["calls"] for row in everybody["rows"]
    }
    assert [[stage.ours.account]] == [row["values"] for row in theirs["rows"]]
    assert theirs == alone


async def test_calls(stage: Stage) -> None:
    """Newest first, a page at a time; one of them with why it went where it went."""
    path = f"/admin/v1/projects/{stage.ours.project}/calls"
    first = (await stage.get(f"{path}?page_size=1", "member")).json
    second = (await stage.get(f"{path}?page_size=1&page_token={first['next_page_token']}", "member")).json
    filtered = (await stage.get(f"{path}?filter=workflow_id=invoices", "member")).json
    async with asyncio.timeout(SECONDS):
        while not (one := (await stage.get(f"{path}/{stage.ours.calls[0]}", "member")).json).get("decision"):
            await asyncio.sleep(0.05)  # the journal writes what it keeps soon after

    assert stage.ours.calls[::-1] == [call["request_id"] for page in (first, second) for call in page["calls"]]
    assert stage.ours.calls[:1] == [call["request_id"] for call in filtered["calls"]]
    assert ("m", stage.ours.key) == (one["call"]["model"], one["call"]["caller"]["key_id"])
    assert [candidate["deployment"] for candidate in one["decision"]["candidates"]] == one["plan"] != []


@pytest.mark.parametrize("what", ["account_id", "project_id"])
async def test_a_filter_widens_nothing(stage: Stage, what: str) -> None:
    """It is looked at like a path: what it names must be theirs, and may not contradict what else is named."""
    theirs = {"account_id": stage.others.account, "project_id": stage.others.project}[what]
    alone = await stage.get(f"/admin/v1/usage?filter={what}={theirs}", "owner")
    queried = await stage.get(f"/admin/v1/calls?{what}={theirs}", "owner")
    beside = await stage.get(f"/admin/v1/accounts/{stage.ours.account}/calls?filter={what}={theirs}", "owner")

    assert (404, 404) == (alone.status, queried.status)
    assert (400 if what == "account_id" else 404) == beside.status


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("usage?group_by=colour", "group_by: no dimension is called 'colour'"),
        ("usage?group_by=tag:", "group_by: no dimension"),
        ("usage?filter=colour=red", "filter: cannot filter by colour"),
        ("usage?filter=modle=m", "did you mean 'model'?"),
        ("usage?filter=fault=rate", "filter: cannot filter by fault"),
        ("usage?filter=model=a AND model=b", "model is compared twice"),
        ("usage?filter=model>m", "joined by AND"),
        ('usage?filter=user=""', "what has no value"),
        ("usage?filter=operation=dance", "operation: 'dance' is none of chat"),
        ("usage?page_token=nonsense", "page_token: is not one of this list"),
        ("calls?page_token=nonsense", "page_token"),
        ("calls?filter=fault=dance", "fault: 'dance' is none of"),
        ("models/live?filter=tags.a=b", "filter: cannot filter by tags.a"),
    ],
)
async def test_what_cannot_be_asked(stage: Stage, query: str, said: str) -> None:
    """Is refused with its place."""
    answer = await stage.get(f"/admin/v1/{query}")

    assert (400, True) == (answer.status, said in answer.error["message"]), answer.error


async def test_live_figures(stage: Stage) -> None:
    """Of every deployment, for everybody who is signed in; neither keys nor how much others call."""
    answers = [(await stage.get("/admin/v1/models/live", role)) for role in ROLES]
    (one,) = answers[0].json["deployments"]
    strangers = [await stage.ask("GET", "/admin/v1/models/live", who) for who in ("", stage.ours.secret)]
    other = await stage.get("/admin/v1/models/live?filter=model=other")

    assert ("m", "v") == (one["model"], one["provider"])
    assert 1 == one["thirty_minutes"]["success_rate"]
    assert {"p50", "p90", "p99"} == set(one["thirty_minutes"]["total_milliseconds"])
    assert {200} == {answer.status for answer in answers}
    assert not [answer for answer in answers if b"sk-" in answer.body or b"attempts" in answer.body]
    assert [401, 403] == [answer.status for answer in strangers]
    assert [] == other.json["deployments"]


async def test_by_grpc(stage: Stage) -> None:
    """The same at the gRPC door, for whom that of HTTP is there."""

    def metadata(credential: str, **more: str) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {credential}"), *((name.replace("_", "-"), it) for name, it in more.items()))

    async def status(request: pb.QueryUsageRequest, sent: Any) -> str:
        try:
            await stub.QueryUsage(request, timeout=SECONDS, metadata=sent)
        except grpc.aio.AioRpcError as error:
            return error.code().name
        return "OK"

    viewer, theirs = stage.people["viewer"], pb.QueryUsageRequest(account_id=stage.others.account)
    async with grpc_door(stage.gateway) as channel:
        stub = UsageServiceStub(channel)
        request = pb.ListCallsRequest(account_id=stage.ours.account, page_size=MAX_PAGE_SIZE)
        listed = await stub.ListCalls(request, timeout=SECONDS, metadata=metadata(viewer))
        statuses = [
            await status(theirs, metadata(viewer)),
            await status(theirs, metadata(stage.secret)),
            await status(theirs, metadata("pa-wrong")),
            await status(theirs, ()),
            await status(theirs, metadata(stage.secret, x_forwarded_for="203.0.113.7")),
            await status(pb.QueryUsageRequest(group_by=[""]), metadata(viewer)),
        ]
        guessed = [await status(theirs, metadata(f"pa-{number}")) for number in range(25)]

    assert stage.ours.calls[::-1] == [call.request_id for call in listed.calls]
    assert ["NOT_FOUND", "OK", "UNAUTHENTICATED", "UNAUTHENTICATED", "NOT_FOUND", "INVALID_ARGUMENT"] == statuses
    assert "RESOURCE_EXHAUSTED" == guessed[-1]


async def test_where_administration_is_for_nobody(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> None:
    """It is not at the gRPC door either."""
    folder = tmp_path_factory.mktemp("closed")
    with capture_logs():
        async with running(folder, {"v": "http://127.0.0.1:9/v1"}, edge={"http": {"admin": False}}) as gateway:
            secret = (gateway.process.config.data_dir / "auth.db.admin").read_text().strip()
            async with grpc_door(gateway) as channel:
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await UsageServiceStub(channel).QueryUsage(
                        pb.QueryUsageRequest(), timeout=SECONDS, metadata=(("authorization", f"Bearer {secret}"),)
                    )

    assert grpc.StatusCode.NOT_FOUND is refused.value.code()


async def test_it_is_described(stage: Stage) -> None:
    """With where to ask, and with an operation for each path of a method."""
    described = (await stage.get("/admin/v1/openapi.json")).json
    callers = (await stage.gateway.get("/openapi.json")).json

    assert {binding.template for binding in (*ROUTES, *ANYWHERE)} <= set(described["paths"])
    assert ["/"] == [server["url"] for server in described["servers"]] == [one["url"] for one in callers["servers"]]


async def test_commands(stage: Stage) -> None:
    """Where somebody is signed in, it is their usage; elsewhere by `--address`; else the operator's, as ever."""
    local, remote = ("--config", str(stage.gateway.config)), ("--address", stage.gateway.url)
    by = ("usage", "--by", "account", "--json")

    async def shown(*arguments: str) -> dict[str, int]:
        done = await stage.command(*arguments)
        assert 0 == done.exit_code, (arguments, done.output, done.exception)
        return {row["account"]: row["calls"] for row in orjson.loads(done.stdout)}

    operator = await shown(*by, *local)
    far = await shown(*by, *remote, "--admin-secret", stage.secret)
    for where in (local, remote):
        await stage.command("sign-in", "viewer@example.com", *where, given=f"{PASSWORD}\n")
        own = await shown(*by, *where)
        foreign = await stage.command(*by, "--account", stage.others.account, *where)
        calls = await stage.command("usage", "export", "--calls", "--format", "json", "--workflow", "mail", *where)
        why = await stage.command("explain", stage.ours.calls[0], "--json", *where)
        hidden = await stage.command("explain", stage.others.calls[0], *where)
        await stage.command("sign-out", *where)

        assert {stage.ours.account: 2} == own
        assert (1, "polyroute: there is no such account") == (foreign.exit_code, foreign.output.strip())
        assert stage.ours.calls[0] == orjson.loads(why.stdout)["decision"]["request_id"]
        assert "polyroute: there is no such call" == hidden.output.strip()
        assert stage.ours.calls[1:] == [orjson.loads(line)["request_id"] for line in calls.stdout.splitlines()]
    nobody = await stage.command(*by, *remote)

    assert {stage.ours.account: 2, stage.others.account: 2} == operator == far
    assert "sign in (polyroute sign-in)" in str(nobody.exception)
