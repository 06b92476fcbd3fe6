"""Vendors' keys entered at run time: sealed in auth, opened by the providers role and by nobody else."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import grpc
import pytest
from pydantic import SecretStr

from polyroute.api.auth.v1 import people_pb2 as pb
from polyroute.api.errors.v1.errors_pb2 import REASON_INVALID_REQUEST, REASON_NO_DEPLOYMENT
from polyroute.api.providers.v1 import providers_pb2, providers_pb2_grpc
from polyroute.auth.config import AuthConfig
from polyroute.auth.wiring import Auth, assembled
from polyroute.mesh.config import MeshConfig
from polyroute.mesh.errors import from_rpc
from polyroute.mesh.node import Node
from polyroute.mesh.roles import ConfigError
from polyroute.mesh.source import Source
from polyroute.providers import wiring
from polyroute.providers.config import ProviderConfig, ProvidersConfig
from polyroute.providers.roster import check
from polyroute.providers.sealed import KEPT, PRIVATE, PUBLIC, KeyFile, KeyFileError, SealedKeys
from tests.databases import prepare
from tests.rpc.auth.cast import ADMIN, call

pytestmark = pytest.mark.parametrize("kind", ["local"], indirect=True)

SECRET = "sk-vendor-secret-canary"
CONFIGURED = {"acme": ProviderConfig(vendor="openai", keys=(SecretStr("sk-configured"),))}


def usable(name: str, config: ProviderConfig) -> None:
    """As the providers role looks at an account."""
    check(name, config, {})


class Vault:
    """Both ends of the vault: the administrator's and the providers role's."""

    def __init__(self, channel: Any, secret: str, folder: Path) -> None:
        self.folder = folder
        self.files = KeyFile(folder)
        self.channel = channel
        self._admin = (("polyroute-admin", secret),)

    def reader(self) -> SealedKeys:
        """The providers role, as it starts."""
        return SealedKeys(self.files, self.channel, self.folder / KEPT)

    async def ask(self, method: str, **fields: Any) -> Any:
        """Asks AdminService."""
        request = getattr(pb, f"{method}Request")(**fields)
        return await call(self.channel, ADMIN.methods_by_name[method], request, self._admin)

    async def put(self, provider: str = "openai", name: str = "main", **fields: Any) -> Any:
        """Enters a key."""
        return (await self.ask("PutVendorKey", provider=provider, name=name, **fields)).vendor_key

    async def seen(self, reader: SealedKeys) -> dict[str, list[str]]:
        """The keys that the providers role uses after it has asked."""
        await reader.fetch()
        accounts = reader.joined(lambda: CONFIGURED, usable)()
        return {name: [key.get_secret_value() for key in one.keys] for name, one in accounts.items()}


@pytest.fixture
async def auth(tmp_path: Path) -> AsyncGenerator[Auth]:
    """The role."""
    async with assembled(AuthConfig(), data_dir=prepare(tmp_path / "data")) as role:
        yield role


@pytest.fixture
def vault(auth: Auth, channel: Any, tmp_path: Path) -> Vault:
    """The vault of that role."""
    return Vault(channel, auth.admin_secret, tmp_path / "data")


async def test_entered_key_is_used_beside_the_configured_ones(vault: Vault) -> None:
    """For an account that is configured, for a vendor that is not, until it is taken out."""
    reader = vault.reader()
    before = await vault.seen(reader)
    await vault.put("acme", secret=f" {SECRET}\n")
    await vault.put("openai", secret="sk-other")
    after = await vault.seen(reader)
    unchanged = await reader.fetch()
    await vault.ask("DeleteVendorKey", provider="acme", name="main")
    await vault.ask("DeleteVendorKey", provider="openai", name="main")

    assert {"acme": ["sk-configured"]} == before == await vault.seen(reader)
    assert {"acme": ["sk-configured", SECRET], "openai": ["sk-other"]} == after
    assert not unchanged


async def test_key_is_in_no_answer_and_no_file(vault: Vault) -> None:
    """Neither as it is, nor where it was entered, nor in what the reader keeps."""
    reader = vault.reader()
    entered = await vault.put(secret=SECRET)
    await vault.seen(reader)
    answers = [entered, await vault.ask("ListVendorKeys"), await vault.ask("VerifyAuditLog")]
    files = b"".join(path.read_bytes() for path in vault.folder.rglob("*") if path.is_file())

    assert SECRET not in str(answers)
    assert SECRET.encode() not in files
    assert [0o600] * 3 == [(vault.folder / name).stat().st_mode & 0o777 for name in (PRIVATE, PUBLIC, KEPT)]


async def test_keys_outlive_auth(vault: Vault) -> None:
    """A providers role that starts while auth is away has the keys that it had."""
    reader = vault.reader()
    await vault.put(secret=SECRET)
    await vault.seen(reader)
    vault.channel = grpc.aio.insecure_channel("unix:/nowhere")
    found = await vault.seen(vault.reader())
    await vault.channel.close()

    assert [SECRET] == found["openai"]


async def test_new_sealing_key_opens_the_old_ones(vault: Vault) -> None:
    """What is sealed anew needs the new one only; then the old one can go."""
    reader = vault.reader()
    old = await vault.put(secret=SECRET)
    vault.files.rotate()
    before = await vault.seen(reader)
    sealed = vault.files.load_or_create().keys[0].public.seal(SECRET.encode(), "openai", "main")
    new = await vault.put(sealed=sealed)
    dropped = vault.files.forget_old()

    assert old.sealing_key_id != new.sealing_key_id
    assert [SECRET] == before["openai"] == (await vault.seen(reader))["openai"]
    assert 1 == dropped


async def test_key_that_cannot_be_used_takes_nothing_from_the_others(vault: Vault) -> None:
    """An unknown vendor, one that cannot be sent, one sealed for somebody else."""
    reader = vault.reader()
    await vault.put("nobody-knows", secret="x")
    await vault.put("openai", secret="two\nlines")
    await vault.put("acme", secret="sk-good")
    found = await vault.seen(reader)
    (vault.folder / PRIVATE).unlink()
    lost = await vault.seen(reader)

    assert {"acme": ["sk-configured", "sk-good"]} == found
    assert {"acme": ["sk-configured"]} == lost
    with pytest.raises(ConfigError):
        usable("nobody-knows", ProviderConfig())


async def test_sealing_needs_to_know_for_whom(vault: Vault) -> None:
    """Before the providers role has ever started, and for a key that is not in use any more."""
    with pytest.raises(grpc.aio.AioRpcError) as early:
        await vault.put(secret=SECRET)
    old = vault.files.load_or_create().keys[0].public
    vault.files.rotate()
    wrong: list[dict[str, Any]] = [{}, {"sealed": old.seal(b"x", "openai", "main")}, {"sealed": b"x"}]
    for fields in wrong:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await vault.put(**fields)

        assert REASON_INVALID_REQUEST == from_rpc(refused.value).reason
    assert REASON_NO_DEPLOYMENT == from_rpc(early.value).reason


async def test_providers_role_serves_an_account_as_soon_as_it_has_a_key(
    auth: Auth, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way: entered at AdminService, an account of ProvidersService a moment later, without a restart."""
    monkeypatch.setattr(SealedKeys.follow, "__kwdefaults__", {"interval": 0.02})
    node = Node(MeshConfig(drain_delay=0, drain_grace=0.2), frozenset({"auth", "providers"}), tmp_path / "run")
    role = wiring.role(
        node,
        ProvidersConfig(discover=False),
        load=lambda: CONFIGURED,
        source=Source(None),
        environment={},
        data_dir=tmp_path / "data",
    )
    async with node.serve("auth", *auth.services), role:
        vault = Vault(node.channel("auth"), auth.admin_secret, tmp_path / "data")
        watch: Any = providers_pb2_grpc.ProvidersServiceStub(node.channel("providers")).WatchProviders(
            providers_pb2.WatchProvidersRequest()
        )
        before = await watch.read()
        await vault.put("mistral", secret=SECRET)
        async with asyncio.timeout(10):
            after = await watch.read()
        watch.cancel()
    await node.close()

    assert ["acme"] == [one.name for one in before.providers]
    assert ["acme", "mistral"] == [one.name for one in after.providers]


def test_key_file_that_everybody_can_read_is_refused(tmp_path: Path, kind: str) -> None:
    """It would be none."""
    KeyFile(tmp_path).load_or_create()
    (tmp_path / PRIVATE).chmod(0o644)

    with pytest.raises(KeyFileError):
        KeyFile(tmp_path).load_or_create()
