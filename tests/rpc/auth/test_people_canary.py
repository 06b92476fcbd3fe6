"""Every secret that administration handles is in no log line, no metric, no file, no dump and no error."""

import logging
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from pydantic import SecretStr

from polyroute.api.auth.v1 import admin_pb2, auth_pb2, auth_pb2_grpc
from polyroute.api.auth.v1 import people_pb2 as pb
from polyroute.api.auth.v1.auth_pb2 import MEMBER_ROLE_ADMIN, CreateKeyRequest, KeyScope
from polyroute.auth.config import AuthConfig
from polyroute.auth.people.config import OidcConfig
from polyroute.auth.wiring import Auth, assembled
from polyroute.mesh.config import MeshConfig
from polyroute.mesh.node import Node
from polyroute.providers.config import ProviderConfig
from polyroute.providers.roster import check
from polyroute.providers.sealed import KEPT, KeyFile, SealedKeys
from tests.databases import prepare
from tests.rpc.auth.cast import ADMIN, bearer, call

PEOPLE = pb.DESCRIPTOR.services_by_name["PeopleService"]
PASSWORD, NEW, RESET = "canary-password-1", "canary-password-2", "canary-password-3"
VENDOR, FOREIGN = "sk-canary-vendor-key", "sk-canary-foreign-key-00"
CLIENT = "canary-client-secret"


class Asker:
    """Asks everything, and remembers what was said about what went wrong."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self.errors: list[str] = []

    async def __call__(self, method: str, by: Any = (), **fields: Any) -> Any:
        service = PEOPLE if method in PEOPLE.methods_by_name else ADMIN
        descriptor = service.methods_by_name[method]
        module: Any = next(one for one in (pb, admin_pb2) if hasattr(one, descriptor.input_type.name))
        try:
            return await call(self._channel, descriptor, getattr(module, descriptor.input_type.name)(**fields), by)
        except grpc.aio.AioRpcError as error:
            self.errors.append(f"{error.details()} {error.trailing_metadata()}")
            return None


@pytest.fixture
async def auth(tmp_path: Path) -> AsyncGenerator[Auth]:
    """A role that knows a client's secret as well."""
    secret = SecretStr(CLIENT)
    places = {"issuer": "https://127.0.0.1:1", "redirect_uri": "https://g.example.com/c"}
    corp = OidcConfig(client_id="c", client_secret=secret, **places)  # type: ignore[arg-type] # texts, all of them
    config = AuthConfig(registration="open", oidc={"corp": corp}, password_memory=8, password_rounds=1)
    async with assembled(config, data_dir=prepare(tmp_path / "data")) as role:
        yield role
    assert CLIENT not in f"{config!r} {config.model_dump_json()}"


async def drive(ask: Asker, admin: Any, folder: Path, channel: Any) -> list[str]:
    """Every flow that has a secret, well and badly; the secrets."""
    secrets = [PASSWORD, NEW, RESET, VENDOR, FOREIGN, admin[0][1]]
    email = "ann@example.com"
    done = await ask("Register", email=email, password=PASSWORD)
    signed = await ask("SignIn", email=email, password=PASSWORD)
    fresh = await ask("RefreshTokens", refresh_token=done.tokens.refresh_token)
    by = bearer(signed.tokens.access_token)
    for method, fields in (
        ("SignIn", {"email": email, "password": NEW}),
        ("RefreshTokens", {"refresh_token": done.tokens.refresh_token}),
        ("ChangePassword", {"password": NEW, "new_password": RESET}),
        ("AcceptInvitation", {"code": "canary-code-00"}),
        ("ResetPassword", {"code": "canary-code-00", "new_password": RESET}),
        ("FinishOidc", {"code": "canary-code-00", "state": "s", "state_cookie": "canary-code-00"}),
        ("BeginOidc", {"provider": "corp"}),
    ):
        await ask(method, by, **fields)
    await ask("ChangePassword", by, password=PASSWORD, new_password=NEW)
    reset = await ask("CreatePasswordReset", admin, person_id=done.person.id)
    await ask("ResetPassword", code=reset.code, new_password=RESET)
    invited = await ask("CreateInvitation", admin, account_id=done.account_id, email="b@example.com")
    await ask("Register", email="b@example.com", password=PASSWORD, invitation=invited.code)
    wanted = CreateKeyRequest(project_id=done.project_id, scope=KeyScope(admin_role=MEMBER_ROLE_ADMIN))
    issued = await ask("IssueKey", admin, key=wanted)
    rotated = await ask("RotateKey", bearer(issued.secret), key=issued.key.id)
    await ask("GetKey", bearer(rotated.secret), key=rotated.secret)
    await ask("ListProjects", bearer(rotated.secret))
    reader = SealedKeys(KeyFile(folder), channel, folder / KEPT)
    await ask("PutVendorKey", admin, provider="openai", name="main", secret=VENDOR)
    await ask("PutVendorKey", admin, provider="nobody", name="main", secret=VENDOR)
    await reader.fetch()
    accounts = reader.joined(dict, lambda name, config: check(name, config, {}))()
    assert [VENDOR] == [key.get_secret_value() for key in accounts["openai"].keys]
    assert isinstance(accounts["openai"], ProviderConfig)
    assert VENDOR not in repr(accounts) + accounts["openai"].model_dump_json()
    tokens = [one.tokens for one in (done, signed, fresh)]
    secrets += [token.refresh_token for token in tokens] + [token.access_token for token in tokens]
    return [*secrets, reset.code, invited.code, done.secret, issued.secret, rotated.secret, "canary-code-00"]


async def test_no_secret_is_anywhere(
    auth: Auth, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """With every log turned up."""
    caplog.set_level(logging.DEBUG)
    registry = CollectorRegistry()
    node = Node(MeshConfig(drain_delay=0, drain_grace=0.2), frozenset({"auth"}), tmp_path / "run", registry=registry)
    admin = (("polyroute-admin", auth.admin_secret),)
    folder = tmp_path / "data"
    async with node.serve("auth", *auth.services):
        channel = node.channel("auth")
        ask = Asker(channel)
        secrets = await drive(ask, admin, folder, channel)
        stub = auth_pb2_grpc.AuthServiceStub(channel)
        await stub.Authorize(auth_pb2.AuthorizeRequest(credential=secrets[-4]), timeout=5)
        listed = [
            str(await ask(method, admin))
            for method in ("ListAuditEvents", "ListPeople", "SearchKeys", "ListVendorKeys", "ListInvitations")
        ]
    await node.close()

    printed = capsys.readouterr()
    own = {"auth.db.admin", "auth.db.tokens", "auth.db.pepper"}
    files = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name not in own)
    texts = [*ask.errors, *listed, printed.out, printed.err, caplog.text, generate_latest(registry).decode()]
    seen = "\n".join(texts).encode() + files
    assert b"ann@example.com" in files
    assert len(ask.errors) >= 7
    assert [] == [secret for secret in secrets if secret[9:].encode() in seen]
