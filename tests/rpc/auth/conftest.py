"""AuthService behind each kind of channel, on a database of its own."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from polyroute.api.auth.v1 import auth_pb2_grpc
from polyroute.auth.config import AuthConfig
from polyroute.auth.wiring import Auth, assembled
from polyroute.mesh.node import Service
from tests.rpc.conftest import Link


@pytest.fixture
async def auth(tmp_path: Path) -> AsyncGenerator[Auth]:
    """The role without a server around it."""
    async with assembled(AuthConfig(), data_dir=tmp_path / "data") as role:
        yield role


@pytest.fixture
def secret(auth: Auth) -> str:
    """The key that the first start made."""
    return auth.first_secret or ""


@pytest.fixture
async def auth_stub(auth: Auth, link: Link) -> auth_pb2_grpc.AuthServiceStub:
    """The role as its callers see it."""
    channel = await link("auth", Service(auth_pb2_grpc.add_AuthServiceServicer_to_server, auth.service))
    return auth_pb2_grpc.AuthServiceStub(channel)
