"""Servicers behind each kind of channel: a test that takes `link` runs in-process, over a unix socket and over TCP."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import pytest

from polyroute.mesh.config import MeshConfig
from polyroute.mesh.node import Node, Service

KINDS = ("local", "unix", "tcp")
Link = Callable[..., Awaitable[grpc.aio.Channel]]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """How the caller reaches the servicer."""
    return str(request.param)


@pytest.fixture
async def link(kind: str, tmp_path: Path) -> AsyncGenerator[Link]:
    """Serves servicers as a role and gives a channel to them: `channel = await link("auth", Service(...))`."""
    async with AsyncExitStack() as stack:

        async def connect(role: str, *services: Service) -> grpc.aio.Channel:
            listen = {role: "127.0.0.1:0"} if kind == "tcp" else {}
            config = MeshConfig(listen=listen, drain_delay=0, drain_grace=0.2)
            server = Node(config, frozenset({role}), tmp_path / "run")
            address = await stack.enter_async_context(server.serve(role, *services))
            client = server
            if kind != "local":
                client = Node(MeshConfig(peers={role: address}, drain_delay=0), frozenset(), tmp_path / "run")
            stack.push_async_callback(client.close)
            return client.channel(role)

        yield connect
