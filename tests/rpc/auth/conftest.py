"""AuthService behind each kind of channel, on a database of its own."""

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from polyroute.api.auth.v1 import admin_pb2_grpc, auth_pb2_grpc, ledger_pb2_grpc
from polyroute.auth.admin.secret import METADATA_KEY
from polyroute.auth.config import AuthConfig
from polyroute.auth.wiring import Auth, assembled
from polyroute.mesh.config import DatabaseConfig
from tests.databases import opened, prepare
from tests.rpc.conftest import KINDS, Link


@pytest.fixture(params=(*KINDS, "postgresql"))
def kind(request: pytest.FixtureRequest) -> str:
    """How the caller reaches the role; the last one is a unix socket, with PostgreSQL below the role."""
    return str(request.param)


@pytest.fixture
def database(kind: str, request: pytest.FixtureRequest) -> DatabaseConfig:
    """What the role writes to."""
    return opened("postgresql" if kind == "postgresql" else "sqlite", request)


@pytest.fixture
async def auth(tmp_path: Path, database: DatabaseConfig) -> AsyncGenerator[Auth]:
    """The role without a server around it."""
    async with assembled(AuthConfig(), data_dir=prepare(tmp_path / "data"), database=database) as role:
        yield role


@pytest.fixture
def secret(auth: Auth) -> str:
    """The key that the first start made."""
    return auth.first_secret or ""


@pytest.fixture
async def channel(auth: Auth, link: Link) -> Any:
    """A channel to the role."""
    return await link("auth", *auth.services)


@pytest.fixture
def auth_stub(channel: Any) -> auth_pb2_grpc.AuthServiceStub:
    """The role as its callers see it."""
    return auth_pb2_grpc.AuthServiceStub(channel)


@pytest.fixture
def ledger_stub(channel: Any) -> ledger_pb2_grpc.LedgerServiceStub:
    """The ledger as edges see it."""
    return ledger_pb2_grpc.LedgerServiceStub(channel)


@pytest.fixture
def admin_stub(channel: Any) -> admin_pb2_grpc.AdminServiceStub:
    """Administration as the command line sees it."""
    return admin_pb2_grpc.AdminServiceStub(channel)


@pytest.fixture
def admin(auth: Auth) -> tuple[tuple[str, str]]:
    """What an administrator presents."""
    return ((METADATA_KEY, auth.admin_secret),)
