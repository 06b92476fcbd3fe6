"""Administration over HTTP: what it answers and to whom; and the commands that use it."""

import asyncio
import hashlib
import io
import ipaddress
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
import pytest_asyncio
import yaml
from structlog.testing import capture_logs
from typer.testing import CliRunner, Result

from bench.vendor import Vendor
from polyroute.cli.main import app as program
from polyroute.edge.admin.gateway import Administration
from polyroute.edge.http.access import Access, Declared
from tests.mesh.gateway import Answer, Gateway, running, whole
from tests.mesh.samples import Sample, doors, of_admin, of_key

pytestmark = pytest.mark.asyncio(loop_scope="module")
ACCOUNTS = "/admin/v1/accounts"


Stranger = Callable[[Sample, str], Awaitable[Answer]]


@dataclass
class Stage:
    """A gateway and its administrator."""

    gateway: Gateway
    secret: str
    addresses: Iterator[int] = field(default_factory=lambda: count(2))

    async def ask(
        self, verb: str, path: str, body: Any = None, *, credential: str | None = None, **headers: str
    ) -> Answer:
        """A request of the administrator, or of whoever has that credential; an empty one is left out."""
        presented = self.secret if credential is None else credential
        sent = {**({"authorization": f"Bearer {presented}"} if presented else {}), **headers}
        data = body if body is None else io.BytesIO(body if isinstance(body, bytes) else orjson.dumps(body))
        async with self.gateway.session.request(verb, self.gateway.url + path, data=data, headers=sent) as response:
            return await whole(response)

    @asynccontextmanager
    async def stranger(self) -> AsyncGenerator[Stranger]:
        """Somebody at an address where nobody has tried anything."""
        address = str(ipaddress.ip_address("127.1.0.0") + next(self.addresses))
        connector = aiohttp.TCPConnector(local_addr=(address, 0))
        async with aiohttp.ClientSession(self.gateway.url, connector=connector) as session:

            async def ask(sample: Sample, credential: str) -> Answer:
                headers = {"content-type": sample.kind, "authorization": f"Bearer {credential}"}
                if not credential:
                    del headers["authorization"]
                data = sample.body or None
                async with session.request(sample.verb, sample.path, data=data, headers=headers) as response:
                    return await whole(response)

            yield ask

    async def command(self, *arguments: str) -> Result:
        """What `polyroute ARGUMENTS` prints."""
        with capture_logs():
            return await asyncio.to_thread(CliRunner().invoke, program, arguments)

    async def here(self, *arguments: str) -> str:
        """The output of a command that succeeds on this machine."""
        result = await self.command(*arguments, "--config", str(self.gateway.config))
        assert 0 == result.exit_code, (arguments, result.output, result.exception)
        return result.stdout

    async def elsewhere(self, *arguments: str) -> str:
        """The output of a command that succeeds over HTTP."""
        there = ("--address", self.gateway.url, "--admin-secret", self.secret)
        result = await self.command(*arguments, *there)
        assert 0 == result.exit_code, (arguments, result.output, result.exception)
        return result.stdout


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Stage]:
    """See `Stage`."""
    async with Vendor() as vendor, running(tmp_path_factory.mktemp("gateway"), {"v": vendor.url}) as gateway:
        secret = (gateway.process.config.data_dir / "auth.db.admin").read_text().strip()
        yield Stage(gateway, secret)


async def test_from_an_account_to_a_refusal(stage: Stage) -> None:
    """Account, project, key, limit and budget by HTTP alone; then a call that the budget cannot pay."""
    account = (await stage.ask("POST", ACCOUNTS, {"name": "team"})).json["account"]["id"]
    project = await stage.ask("POST", "/admin/v1/projects", {"account_id": account, "name": "search"})
    issued = await stage.ask("POST", "/admin/v1/keys", {"project_id": project.json["project"]["id"], "name": "ci"})
    key, secret = issued.json["key"]["id"], issued.json["secret"]
    limit = {"scope": key, "kind": "LIMIT_KIND_REQUESTS", "amount": 60}
    limited = await stage.ask("POST", "/admin/v1/limits", limit)
    budget = {"scope": key, "period": "PERIOD_MONTHLY", "amount_nanos": "1", "hard": True}
    bounded = await stage.ask("POST", "/admin/v1/budgets", budget)
    refused = await stage.gateway.chat(max_tokens=16, headers={"authorization": f"Bearer {secret}"})
    lifted = await stage.ask("DELETE", f"/admin/v1/budgets/{bounded.json['budget']['id']}")

    assert ("60", "0") == (limited.json["limit"]["amount"], limited.json["limit"]["burst"])
    assert (429, "insufficient_quota") == (refused.status, refused.error["code"])
    assert (200, {}) == (lifted.status, lifted.json)


async def test_changes(stage: Stage) -> None:
    """A mask says which fields; what else the body holds stays as it is."""
    made = await stage.ask("POST", ACCOUNTS, {"name": "before"})
    path = f"{ACCOUNTS}/{made.json['account']['id']}"
    body = {"name": "after", "billing_mode": "BILLING_MODE_PREPAID"}
    changed = await stage.ask("PATCH", f"{path}?update_mask=name", body)

    assert ("after", "BILLING_MODE_POSTPAID") == tuple(
        changed.json["account"][name] for name in ("name", "billing_mode")
    )
    assert changed.json == (await stage.ask("GET", path)).json


async def test_pages_and_filters(stage: Stage) -> None:
    """As https://google.aip.dev/158 and https://google.aip.dev/160 have them."""
    for _ in range(3):
        await stage.ask("POST", ACCOUNTS, {"name": "paged"})
    found: list[str] = []
    token = ""
    while True:
        query = f'?page_size=2&filter=name="paged"&page_token={token}'
        page = (await stage.ask("GET", ACCOUNTS + query)).json
        found += [account["id"] for account in page["accounts"]]
        token = page["next_page_token"]
        if not token:
            break

    oldest = await stage.ask("GET", ACCOUNTS + '?filter=name="paged"&order_by=create_time')

    assert 3 == len(set(found)) == len(found)
    assert sorted(found, reverse=True) == found
    assert sorted(found) == [account["id"] for account in oldest.json["accounts"]]


@pytest.mark.parametrize("path", [ACCOUNTS, "/admin/v1/keys", "/admin/v1/ledger/entries", "/admin/v1/audit/events"])
async def test_both_orders(stage: Stage, path: str) -> None:
    """Page by page, the one is the other backwards."""
    for number in range(2):
        account = (await stage.ask("POST", ACCOUNTS, {"name": "ordered"})).json["account"]["id"]
        await stage.ask("POST", "/admin/v1/keys", {"name": f"ordered {number}"})
        await stage.ask("POST", f"{ACCOUNTS}/{account}:credit", {"amount_nanos": "1", "request_id": account})

    async def listed(order: str, size: int) -> list[str]:
        found, token = [], ""
        while True:
            page = (await stage.ask("GET", f"{path}?order_by={order}&page_size={size}&page_token={token}")).json
            token = page.pop("next_page_token")
            (things,) = page.values()
            found += [thing["id"] for thing in things]
            if not token:
                return found

    newest, oldest = await listed("create_time%20desc", 1000), await listed("create_time", 3)

    assert len(newest) >= 2
    assert newest[::-1] == oldest


@pytest.mark.parametrize(
    ("verb", "path", "body", "status", "code", "message"),
    [
        ("GET", f"{ACCOUNTS}/acc_none", None, 404, "NOT_FOUND", "there is no such account"),
        ("GET", "/admin/v1/nothing", None, 404, "NOT_FOUND", "there is nothing at /admin/v1/nothing"),
        ("GET", f"{ACCOUNTS}?filter=x", None, 400, "INVALID_ARGUMENT", "filter: expected one of"),
        ("GET", f"{ACCOUNTS}?order_by=name", None, 400, "INVALID_ARGUMENT", "create_time or create_time desc"),
        ("GET", f"{ACCOUNTS}?page_token=WzFd", None, 400, "INVALID_ARGUMENT", "not one that this service gave"),
        ("POST", ACCOUNTS, {"nmae": "x"}, 400, "INVALID_ARGUMENT", "did you mean 'name'?"),
        ("POST", ACCOUNTS, {}, 400, "INVALID_ARGUMENT", "name: must be at least 1 character"),
        ("POST", ACCOUNTS, b"\xff", 400, "INVALID_ARGUMENT", "the body is not JSON"),
        ("POST", ACCOUNTS, b"0" * 1_100_000, 413, "RESOURCE_EXHAUSTED", "larger than"),
        ("GET", "/admin/v1/keys/%ff", None, 400, "INVALID_ARGUMENT", "the path: is not UTF-8"),
        ("DELETE", ACCOUNTS, None, 405, "INVALID_ARGUMENT", "DELETE is not possible here"),
        ("POST", "/admin/v1/openapi.json", {}, 405, "INVALID_ARGUMENT", "POST is not possible here"),
    ],
)
async def test_errors(stage: Stage, verb: str, path: str, body: Any, status: int, code: str, message: str) -> None:
    """Each is one shape: google.rpc.Status as JSON, with the id of the request."""
    answer = await stage.ask(verb, path, body)
    error = answer.error
    (about,) = [one for one in error["details"] if one["@type"].endswith("google.rpc.RequestInfo")]

    assert (status, status, code) == (answer.status, error["code"], error["status"])
    assert message in error["message"]
    assert answer.headers["x-request-id"] == about["requestId"]


async def test_nothing_is_for_browsers_or_caches(stage: Stage) -> None:
    """No answer is kept, and no page of another origin may read one, or ask whether it may."""
    answer = await stage.ask("GET", ACCOUNTS, origin="https://elsewhere.example")
    asked = await stage.ask(
        "OPTIONS", ACCOUNTS, **{"origin": "https://elsewhere.example", "access-control-request-method": "GET"}
    )

    assert ("no-store", "nosniff") == (answer.headers["cache-control"], answer.headers["x-content-type-options"])
    assert (405, "GET, POST") == (asked.status, asked.headers["allow"])
    assert not [name for one in (answer, asked) for name in one.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": "Bearer "},
        {"authorization": "Basic cGEteDp5"},
        {"authorization": "Bearer pa-wrong"},
        {"authorization": "Bearer pä-ß"},
        {"x-api-key": "{secret}"},
        {"api-key": "{secret}"},
        {"polyroute-admin": "{secret}"},
        {"cookie": "authorization={secret}"},
    ],
)
async def test_wrong_credentials(stage: Stage, headers: Mapping[str, str]) -> None:
    """There is one place for a credential; what is anywhere else is none."""
    sent = {name: value.replace("{secret}", stage.secret) for name, value in headers.items()}
    answer = await stage.ask("GET", ACCOUNTS, credential="", **sent)

    assert (401, "UNAUTHENTICATED") == (answer.status, answer.error["status"])
    assert 'Bearer realm="polyroute"' == answer.headers["www-authenticate"]


async def test_guessing_is_stopped(stage: Stage) -> None:
    """For the address that guesses; others, and the administrator behind the same address, come in."""
    address = "127.2.0.1"
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(local_addr=(address, 0))) as session:

        async def tried(credential: str) -> tuple[int, str]:
            headers = {"authorization": f"Bearer {credential}"}
            async with session.get(stage.gateway.url + ACCOUNTS, headers=headers) as response:
                return response.status, response.headers.get("retry-after", "")

        before = await tried(stage.secret)
        guesses = await asyncio.gather(*(tried(f"pa-{secrets.token_hex(16)}") for _ in range(60)))
        after = await tried(stage.secret)
    async with stage.stranger() as ask:
        elsewhere = await ask(Sample("GET", ACCOUNTS), stage.secret)

    assert (200, 200, 200) == (before[0], after[0], elsewhere.status)
    assert {401, 429} == {status for status, _ in guesses}
    assert 20 <= sum(status == 401 for status, _ in guesses) <= 22
    assert all(0 < int(wait) <= 60 for status, wait in guesses if status == 429)


@pytest.mark.parametrize("header", ["x-forwarded-for", "forwarded", "x-real-ip", "via"])
async def test_what_a_proxy_passes_on(stage: Stage, header: str) -> None:
    """Is not from this machine: where the operator said nothing, there is no administration for it."""
    answer = await stage.ask("GET", ACCOUNTS, **{header: "203.0.113.7"})

    assert 404 == answer.status


async def test_the_description(stage: Stage) -> None:
    """Needs no credential, and describes every path."""
    answer = await stage.ask("GET", "/admin/v1/openapi.json", credential="")

    assert (200, "3.1.0") == (answer.status, answer.json["openapi"])
    assert {ACCOUNTS, "/admin/v1/keys/{key}:rotate"} <= set(answer.json["paths"])


def sample_of(administration: Administration, declaration: Declared) -> Sample:
    for binding in administration.table.bindings:
        if (binding.verb, binding.template) == declaration[:2]:
            return of_admin(binding)
    return of_key(declaration)


def batched(things: Sequence[Declared], size: int) -> Iterator[Sequence[Declared]]:
    return (things[start : start + size] for start in range(0, len(things), size))


async def test_every_cell_of_path_and_credential(stage: Stage) -> None:
    """Each path of the whole door x {nothing, an unknown key, a key, a revoked key, the admin secret}."""
    app, administration = doors()
    made = (await stage.ask("POST", "/admin/v1/keys", {"name": "ended"})).json
    await stage.ask("POST", f"/admin/v1/keys/{made['key']['id']}:revoke")
    credentials = {
        "nothing": "",
        "unknown": f"pr-{secrets.token_hex(32)}",
        "key": stage.gateway.key,
        "revoked": made["secret"],
        "admin": stage.secret,
    }
    bad: list[str] = []
    for some in batched(app.declared, 5):  # so few that nobody is stopped for guessing
        async with stage.stranger() as ask:
            with capture_logs():
                for declaration in some:
                    sample = sample_of(administration, declaration)
                    for name, credential in credentials.items():
                        answer = await ask(sample, credential)
                        if not right(declaration, name, answer):
                            bad.append(f"{sample.verb} {sample.path} {name}: {answer.status} {answer.body[:160]!r}")

    assert [] == bad, "\n".join(bad)


def right(declaration: Declared, who: str, answer: Answer) -> bool:
    """Whether an answer is what a path's declaration says."""
    refused = answer.status in (401, 403)
    match declaration.access:
        case Access.PUBLIC:
            return answer.status == 200 or b"CREDENTIAL_MISSING" not in answer.body  # which the description names
        case Access.KEY:
            return refused == (who != "key")
        case Access.ADMIN:
            personal = declaration.path.startswith("/admin/v1/self")  # only somebody who has signed in has one
            return refused == (who != "admin" or personal)


async def test_commands_over_the_mesh_and_over_http(stage: Stage) -> None:
    """The same words, and the same answers but for what they made."""
    for run in (stage.here, stage.elsewhere):
        account = (await run("accounts", "create", "--name", "desk")).strip()
        project = (await run("projects", "create", "--name", "p", "--account", account)).strip()
        issued = orjson.loads(await run("keys", "create", "--project", project, "--route", "/v1/*", "--json"))
        key = issued["key"]["id"]
        budget = (await run("budgets", "set", project, "--amount", "0.000123456USD", "--period", "daily")).strip()
        set_limit = await run("limits", "set", key, "requests", "60", "--model", "m")
        listed = await run("budgets", "list", "--scope", project)
        await run("budgets", "set", "--id", budget, "--amount", "0.5USD")
        changed = orjson.loads(await run("budgets", "list", "--scope", project, "--json"))
        await run("limits", "delete", key, "requests", "--model", "m")
        await run("budgets", "delete", budget)
        credit = await run("ledger", "credit", account, "--amount", "5.000000001", "--id", f"inv-{account}")
        taken = await run("ledger", "credit", account, "--amount=-1USD", "--note", "back")
        audit = await run("ledger", "audit")
        events = orjson.loads(await run("audit", "list", "--count", "200", "--json"))

        assert "prj_" == project[:4]
        assert ["/v1/*"] == issued["key"]["scope"]["routes"]
        assert f"requests of {key} for m: 60 a minute\n" == set_limit
        assert "0.000123456 USD" in listed
        assert "hard" in listed
        assert [("500000000", "PERIOD_DAILY", True)] == [
            (one["amount_nanos"], one["period"], one["hard"]) for one in changed
        ]
        assert "5.000000001 USD" in credit
        assert "1.00 USD" in taken
        assert "it adds up" in audit
        assert {account, project} & {event["resource"] for event in events}


async def test_commands_for_keys(stage: Stage) -> None:
    """A secret goes to standard output alone, whoever made it; a change is in the log of changes."""
    for run in (stage.here, stage.elsewhere):
        secret = (await run("keys", "create", "--name", "k")).strip()
        (key,) = [one for one in orjson.loads(await run("keys", "list", "--json")) if secret.startswith(one["prefix"])]
        rotated = (await run("keys", "rotate", key["id"], "--overlap", "0")).strip()
        old = await stage.gateway.chat(headers={"authorization": f"Bearer {secret}"})
        new = await stage.gateway.chat(headers={"authorization": f"Bearer {rotated}"})
        shown = await run("keys", "update", key["id"], "--model", "other", "--name", "changed")
        revoked = await run("keys", "revoke", key["id"])

        assert secret.startswith("pr-")
        assert (401, 200) == (old.status, new.status)
        assert "changed" in shown
        assert "other" in shown
        assert revoked.startswith(f"revoked {key['id']}")


FOREIGN = "sk-an-application-has-this"
DIGEST = hashlib.sha256(FOREIGN.encode()).hexdigest()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("plain.txt", f"{FOREIGN}\n"),
        ("table.csv", f"token,key_alias,models,requests_per_minute\n{DIGEST},old,m,600\n"),
        ("list.json", f'[{{"sha256": "{DIGEST}", "name": "old", "models": ["m"], "requests_per_minute": 600}}]'),
    ],
)
async def test_keys_of_another_gateway(stage: Stage, tmp_path: Path, name: str, text: str) -> None:
    """Go on working as they are, whichever kind of file they come in; importing them again changes nothing."""
    (tmp_path / name).write_text(text)
    first = orjson.loads(await stage.here("keys", "import", str(tmp_path / name), "--json"))
    again = orjson.loads(await stage.elsewhere("keys", "import", str(tmp_path / name), "--json"))
    answer = await stage.gateway.chat(headers={"authorization": f"Bearer {FOREIGN}"})

    assert [DIGEST] == [one["sha256"] for one in first]
    assert (first[0]["key"]["id"], False) == (again[0]["key"]["id"], again[0]["created"])
    assert 200 == answer.status


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "there are no keys in it"),
        ("sha256,colour\n" + "0" * 64 + ",red\n", "row 1: a key has no colour"),
        ('{"rows": []}', "not an array of objects"),
        ("[{]", "not JSON"),
        ('[{"sha256": 5}]', "row 1: "),
    ],
)
async def test_files_that_hold_no_keys(stage: Stage, tmp_path: Path, text: str, said: str) -> None:
    """Are refused with the place; nothing of them is imported."""
    (tmp_path / "keys").write_text(text)
    result = await stage.command("keys", "import", str(tmp_path / "keys"), "--config", str(stage.gateway.config))

    assert 0 != result.exit_code
    assert said in str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("accounts", "get", "acc_none"), "there is no such account"),
        (("budgets", "set", "prj_1", "--amount", "5EUR"), "'5EUR' is not an amount"),
        (("budgets", "set", "--amount", "5USD"), "say whom it binds"),
        (("budgets", "set", "prj_1", "--amount", "5", "--period", "hourly"), "none of total, daily, weekly, monthly"),
        (("limits", "set", "key_1", "calls", "5"), "'calls' is none of requests, tokens, concurrency"),
        (("accounts", "update", "acc_1"), "say what is to change"),
        (("keys", "update", "key_1"), "say what is to change"),
        (("keys", "import", "/nowhere.csv"), "/nowhere.csv"),
        (("accounts", "list", "--address", "gateway:8080"), "is not an address such as"),
        (("accounts", "list", "--address", "http://127.0.0.1:9", "--admin-secret", "x"), "no gateway answers"),
        (("accounts", "list", "--address", "http://127.0.0.1:9"), "POLYROUTE_ADMIN"),
    ],
)
async def test_commands_that_fail(stage: Stage, arguments: tuple[str, ...], said: str) -> None:
    """Say in one line why, and end with another status than 0."""
    result = await stage.command(*arguments, "--config", str(stage.gateway.config))

    assert 0 != result.exit_code
    assert said in f"{result.output}{result.exception}"


async def test_nothing_to_list(stage: Stage) -> None:
    """Is said beside the output; a program gets an empty array."""
    told = await stage.command("limits", "list", "--scope", "key_none", "--config", str(stage.gateway.config))
    listed = await stage.here("limits", "list", "--scope", "key_none", "--json")

    assert ("", "there are no such limits\n") == (told.stdout, told.stderr)
    assert [] == orjson.loads(listed)


async def test_no_gateway_was_ever_here(stage: Stage, tmp_path: Path) -> None:
    """What is missing is named, and how to come by it."""
    config = tmp_path / "polyroute.yaml"
    config.write_text(yaml.safe_dump({"data_dir": str(tmp_path / "data")}))
    result = await stage.command("accounts", "list", "--config", str(config))

    assert 0 != result.exit_code
    assert "no admin secret" in str(result.exception)
