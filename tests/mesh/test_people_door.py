"""People at the doors of a whole gateway: a browser's way through an identity provider, and the commands of people."""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import aiohttp
import orjson
import pytest
import pytest_asyncio
import typer
from structlog.testing import capture_logs
from typer.testing import CliRunner, Result

from bench.vendor import Vendor
from polyroute.cli import sessions
from polyroute.cli.commands import audit, keys, members, people, vendorkeys
from polyroute.cli.desk import Desk
from polyroute.providers.sealed import KEPT, SealedKeys
from tests.mesh.gateway import SECONDS, Answer, Gateway, deployment, keys_of, running, whole
from tests.rpc.auth.provider import Provider, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")
PASSWORD = "correct horse battery"
VENDOR_KEY = "sk-entered-at-run-time-canary"

program = typer.Typer()
program.add_typer(people.own)
for name, group in {
    "people": people.app,
    "members": members.app,
    "invitations": members.invitations,
    "keys": keys.app,
    "audit": audit.app,
    "vendor-keys": vendorkeys.app,
}.items():
    program.add_typer(group, name=name)


@dataclass
class Stage:
    """A gateway, its vendor, and the identity provider that its people come from."""

    gateway: Gateway
    vendor: Vendor
    provider: Provider

    async def go(self, path: str, **headers: str) -> Answer:
        """Where a browser goes; no redirection is followed."""
        async with self.gateway.session.get(
            self.gateway.url + path, headers=headers, allow_redirects=False
        ) as response:
            return await whole(response)

    async def operator(self, path: str, body: Any) -> Any:
        """What the operator creates."""
        secret = (self.gateway.process.config.data_dir / "auth.db.admin").read_text().strip()
        headers = {"authorization": f"Bearer {secret}"}
        async with self.gateway.session.post(self.gateway.url + path, json=body, headers=headers) as response:
            return (await whole(response)).json

    async def command(self, *arguments: str, given: str = "", ok: bool = True) -> str:
        """What a command prints, standard output alone."""
        result = await asyncio.to_thread(self._run, [*arguments, "--config", str(self.gateway.config)], given)
        assert ok == (result.exit_code == 0), (arguments, result.output, result.exception)
        return result.stdout if ok else str(result.exception)

    async def elsewhere(self, *arguments: str, given: str = "") -> str:
        """The same, over HTTP."""
        result = await asyncio.to_thread(self._run, [*arguments, "--address", self.gateway.url], given)
        assert 0 == result.exit_code, (arguments, result.output, result.exception)
        return result.stdout

    def _run(self, arguments: list[str], given: str) -> Result:
        return CliRunner().invoke(program, arguments, input=given)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(_elsewhere: None, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Stage]:
    """See `Stage`."""
    folder = tmp_path_factory.mktemp("people")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        patch.setattr(SealedKeys.follow, "__kwdefaults__", {"interval": 0.05})
        async with Vendor() as vendor, serving() as provider:
            corp = {"issuer": provider.url, "client_id": provider.client_id}
            back = {
                "corp": "https://gateway.example.com/behind/admin/v1/oidc/callback",
                "near": "http://127.0.0.1:8080/admin/v1/oidc/callback",
                "app": "https://app.example.com/signed-in",
            }
            settings = {
                "oidc": {name: {**corp, "redirect_uri": uri} for name, uri in back.items()},
                "password_memory": 8,
                "password_rounds": 1,
            }
            late = {"vendor": "openai_compatible", "base_url": vendor.url}
            models = {"m": {"deployments": [deployment("v")]}, "late": {"deployments": [deployment("late")]}}
            vendors: dict[str, Any] = {
                "v": {"vendor": "openai_compatible", "base_url": vendor.url, "keys": keys_of("v")},
                "late": late,
            }
            with capture_logs():
                async with running(folder, vendors, models, auth=settings) as gateway:
                    yield Stage(gateway, vendor, provider)


def cookie_of(answer: Answer) -> Any:
    """The one cookie that an answer sets."""
    (cookie,) = SimpleCookie(answer.headers["set-cookie"]).values()
    return cookie


async def away(stage: Stage, provider: str = "corp") -> tuple[str, Mapping[str, str]]:
    """The cookie of a sign-in that has begun, and what the provider sends back with the browser."""
    begun = await stage.go(f"/admin/v1/oidc/{provider}/begin")
    assert 302 == begun.status, begun.body
    return cookie_of(begun).value, stage.provider.consent(begun.headers["location"])


async def back(stage: Stage, cookie: str, brought: Mapping[str, str], **headers: str) -> Answer:
    """The answer when the browser is back."""
    sent = {**({"cookie": f"theme=dark; polyroute-oidc={cookie}"} if cookie else {}), **headers}
    return await stage.go(f"/admin/v1/oidc/callback?{urlencode(brought)}", **sent)


async def test_browser_signs_in(stage: Stage) -> None:
    """There and back: the tokens are in the body, and the access token is who signed in."""
    begun = await stage.go("/admin/v1/oidc/corp/begin", **{"sec-fetch-mode": "navigate"})
    cookie, place = cookie_of(begun), urlsplit(begun.headers["location"])
    done = await back(stage, cookie.value, {**stage.provider.consent(begun.headers["location"]), "session_state": "x"})
    headers = {"authorization": f"Bearer {done.json['tokens']['access_token']}"}
    self = await stage.go("/admin/v1/self", **headers)

    assert (302, 200, 200) == (begun.status, done.status, self.status)
    assert f"{stage.provider.url}/authorize" == place._replace(query="").geturl()
    assert {"response_type", "client_id", "redirect_uri", "scope", "state", "nonce", "code_challenge"} < set(
        parse_qs(place.query)
    )
    assert done.json["person"] == self.json["person"]
    assert ["no-store", "no-referrer"] == [done.headers[name] for name in ("cache-control", "referrer-policy")]


async def test_cookie_is_for_the_way_back_alone(stage: Stage) -> None:
    """No script, no other path, no plain connection, no other site's request; ten minutes; gone when it is used."""
    secure = cookie_of(await stage.go("/admin/v1/oidc/corp/begin"))
    near = cookie_of(await stage.go("/admin/v1/oidc/near/begin"))
    spent = cookie_of(await back(stage, *await away(stage)))

    assert (True, True, "Lax", "600") == tuple(secure[name] for name in ("httponly", "secure", "samesite", "max-age"))
    assert ["/behind/admin/v1/oidc/callback", "/admin/v1/oidc/callback"] == [secure["path"], near["path"]]
    assert not near["secure"]
    assert ("", "0") == (spent.value, spent["max-age"])


async def test_sign_in_that_somebody_else_began_is_refused(stage: Stage) -> None:
    """Without the cookie, with another's, with two, with another state or issuer, twice."""
    cookie, brought = await away(stage)
    other, _ = await away(stage)
    answers = [
        await back(stage, "", brought),
        await back(stage, other, brought),
        await back(stage, f"{other}; polyroute-oidc={cookie}", brought),
        await back(stage, cookie, {**brought, "state": "another"}),
        await back(stage, cookie, {**brought, "iss": "https://evil.example.com"}),
        await stage.go(f"/admin/v1/oidc/callback?{urlencode([*brought.items(), *brought.items()])}"),
    ]
    good = await back(stage, cookie, {**brought, "iss": stage.provider.url})
    again = await back(stage, cookie, brought)

    assert 200 == good.status
    assert {401} == {answer.status for answer in (*answers, again)}
    assert {True} == {"begin again" in answer.error["message"] for answer in (*answers, again)}


async def test_refusals_can_be_read(stage: Stage) -> None:
    """By a person, as JSON of one shape; nothing that the address says is repeated."""
    refused = await stage.go("/admin/v1/oidc/callback?error=access_denied&error_description=%3Cscript%3E&state=x")
    odd = await stage.go("/admin/v1/oidc/callback?error=%3Cscript%3E")
    cookie, brought = await away(stage)
    framed = await back(stage, cookie, brought, **{"sec-fetch-mode": "no-cors"})
    nobody = await stage.go("/admin/v1/oidc/nobody/begin")
    app = await stage.go("/admin/v1/oidc/app/begin")
    async with stage.gateway.session.post(f"{stage.gateway.url}/admin/v1/oidc/callback") as response:
        posted = response.status

    assert [403, 403, 403, 404, 400, 405] == [
        *(answer.status for answer in (refused, odd, framed, nobody, app)),
        posted,
    ]
    assert "the identity provider did not sign you in: access_denied" == refused.error["message"]
    assert b"script" not in refused.body + odd.body
    assert "redirect_uri" in app.error["message"]


async def test_from_an_operator_to_somebody_who_works(stage: Stage) -> None:
    """Created by an operator though nobody may register; sets a password, signs in, works, signs out; over the mesh."""
    code = (await stage.command("people", "create", "carol@example.com", "--name", "Carol")).strip()
    await stage.command("set-password", "--code", given=f"{code}\n{PASSWORD}\n")
    twice = await stage.command("set-password", "--code", given=f"{code}\n{PASSWORD}\n", ok=False)
    signed = await stage.command("sign-in", "carol@example.com", given=f"{PASSWORD}\n")
    listed = await stage.command("people", "list", ok=False)
    secret = (await stage.command("keys", "create", "--name", "hers")).strip()
    shown = orjson.loads(await stage.command("keys", "list", "--json"))
    await stage.command("set-password", given=f"{PASSWORD}\n{PASSWORD} 2\n")
    await stage.command("sign-out")
    [person] = orjson.loads(await stage.command("people", "list", "--email", "Carol@example.com", "--json"))
    await stage.command("people", "disable", "carol@example.com")
    out = await stage.command("sign-in", "carol@example.com", given=f"{PASSWORD} 2\n", ok=False)

    assert code.startswith("pw-")
    assert "the credential is not valid" in twice
    assert f"carol@example.com ({person['id']})\nowner of acc_" == signed[: signed.index("acc_") + 4]
    assert "this is for operators" in listed
    assert secret.startswith("pr-")
    assert {"hers", "default"} == {key["name"] for key in shown}
    assert "the credential is not valid" in out


async def test_members_come_and_go(stage: Stage) -> None:
    """Added, narrowed, changed and removed by their addresses; invitations are made and withdrawn."""
    account = (await stage.operator("/admin/v1/accounts", {"name": "team"}))["account"]["id"]
    project = (await stage.operator("/admin/v1/projects", {"account_id": account, "name": "p"}))["project"]["id"]
    await stage.command("people", "create", "bob@example.com")
    bob = ("members", "role", account, "bob@example.com")
    added = await stage.command("members", "add", account, "bob@example.com", "--role", "admin")
    narrowed = await stage.command(*bob, "--project", f"{project}=viewer")
    changed = await stage.command(*bob, "member")
    lifted = await stage.command(*bob, "--project", f"{project}=")
    await stage.command("members", "remove", account, "bob@example.com")
    left = await stage.command("members", "list", account)
    code = (await stage.command("invitations", "create", "eve@example.com", "--account", account)).strip()
    [invitation] = orjson.loads(await stage.command("invitations", "list", "--account", account, "--json"))
    await stage.command("invitations", "delete", invitation["id"])

    roles = [text.split("role", 1)[1].split()[0] for text in (added, narrowed, changed, lifted)]
    assert ["admin", "admin", "member", "member"] == roles
    assert [True, True, False] == [f"{project}=viewer" in text for text in (narrowed, changed, lifted)]
    assert "" == left
    assert code.startswith("pi-")
    assert "[]\n" == await stage.command("invitations", "list", "--account", account, "--json")


async def test_session_of_a_browser_goes_on_in_commands(stage: Stage) -> None:
    """Its refresh token is handed over; from then on it is in one file that only this user reads, and is refreshed."""
    tokens = (await back(stage, *await away(stage, "near"))).json["tokens"]
    await stage.elsewhere("sign-in", "--provider", "near", given=f"{tokens['refresh_token']}\n")
    file = sessions.folder() / sessions.FILE
    kept = orjson.loads(file.read_bytes())
    file.write_bytes(orjson.dumps({name: {**one, "works_until": time.time()} for name, one in kept.items()}))
    desk = Desk(stage.gateway.process.config, stage.gateway.url)
    given = await asyncio.gather(*(asyncio.to_thread(sessions.token, desk) for _ in range(4)))
    said = await stage.elsewhere("whoami")
    fresh = orjson.loads(file.read_bytes())
    mode = file.stat().st_mode & 0o777
    await stage.elsewhere("sign-out")
    gone = orjson.loads(file.read_bytes())
    ended = await stage.go("/admin/v1/self", authorization=f"Bearer {fresh[stage.gateway.url]['access']}")

    assert [fresh[stage.gateway.url]["access"]] * 4 == given
    assert "per_" in said
    assert kept[stage.gateway.url]["refresh"] != fresh[stage.gateway.url]["refresh"]
    assert 0o600 == mode
    assert {} == gone
    assert 401 == ended.status


async def test_vendors_key_entered_at_run_time(stage: Stage) -> None:
    """Serves calls, also after the sealing key was changed and the old one forgotten; it is in no file and no log."""
    data = stage.gateway.process.config.data_dir
    with capture_logs() as logs:
        said = await stage.command("vendor-keys", "put", "late", "main", given=f"{VENDOR_KEY}\n")
        first = await served(stage)
        sealed = (data / KEPT).read_bytes()
        said += await stage.command("vendor-keys", "rotate", "--forget-old")
        async with asyncio.timeout(SECONDS):
            while (data / KEPT).read_bytes() == sealed:
                await asyncio.sleep(0.01)
        second = await served(stage)
        said += await stage.command("vendor-keys", "list") + await stage.command("audit", "list")
        files = [path for path in data.rglob("*") if path.is_file()]
        found = [path for path in files if VENDOR_KEY.encode() in path.read_bytes()]
        await stage.command("vendor-keys", "delete", "late", "main")

    assert f"Bearer {VENDOR_KEY}" == first == second
    assert "1 keys sealed anew, 0 old sealing keys kept" in said
    assert (1, True) == ((data / "vendor-keys.key").read_text().count("x25519:"), len(files) > 10)
    assert [] == found
    assert VENDOR_KEY not in said + str(logs)


async def served(stage: Stage) -> str:
    """With which credential the vendor is asked, once the model is served."""
    async with asyncio.timeout(SECONDS):
        while (await stage.gateway.chat(model="late")).status != 200 or "authorization" not in stage.vendor.seen[
            -1
        ].headers:
            await asyncio.sleep(0.02)
    return stage.vendor.seen[-1].headers["authorization"]


async def test_what_comes_along_with_an_open_request_proves_nothing(stage: Stage) -> None:
    """A guess is not called good because somebody could sign out with it, and is counted all the same."""
    guesses = [f"pa-guess-{number}" for number in range(30)]
    connector = aiohttp.TCPConnector(local_addr=("127.3.0.1", 0))
    async with aiohttp.ClientSession(stage.gateway.url, connector=connector) as session:
        statuses = []
        for guess in guesses:
            headers = {"authorization": f"Bearer {guess}"}
            async with session.post("/admin/v1/self:signOut", json={"refresh_token": "x"}, headers=headers) as open_one:
                assert 200 == open_one.status
            async with session.get("/admin/v1/accounts", headers=headers) as tried:
                statuses.append(tried.status)

    assert {401, 429} == set(statuses)
