"""The role in a process of the mesh."""

from pathlib import Path

import grpc
import pytest

from polyroute.api.auth.v1 import auth_pb2 as pb
from polyroute.api.auth.v1 import auth_pb2_grpc
from polyroute.auth.config import AuthConfig
from polyroute.auth.wiring import role
from polyroute.mesh.config import MeshConfig
from polyroute.mesh.node import Node

OPERATORS = "pr-" + "operator" * 6


class Process:
    """A process that plays auth, started as often as wanted on one data directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.announced: list[str] = []

    async def ask(self, config: AuthConfig, credential: str = "", revoke: str = "") -> pb.WatchRevocationsResponse:
        """Starts, authorizes and revokes what is given, opens a watch and stops."""
        node = Node(MeshConfig(drain_delay=0, drain_grace=1), frozenset({"auth"}), self.folder / "run")
        async with role(node, config, data_dir=self.folder / "data", announce=self.announced.append):
            stub = auth_pb2_grpc.AuthServiceStub(node.channel("auth"))
            credential = credential or self.announced[-1]
            await stub.Authorize(pb.AuthorizeRequest(credential=credential), timeout=5)
            if revoke:
                await stub.RevokeKey(pb.RevokeKeyRequest(key=revoke), timeout=5)
            watch = stub.WatchRevocations(pb.WatchRevocationsRequest(), timeout=5)
            first = await watch.read()
            watch.cancel()
        await node.close()
        assert isinstance(first, pb.WatchRevocationsResponse)
        return first


@pytest.fixture
def process(tmp_path: Path) -> Process:
    """A process that never ran."""
    return Process(tmp_path)


async def test_first_key_is_announced_once_and_works_ever_after(process: Process) -> None:
    """The second start says nothing and knows the key."""
    await process.ask(AuthConfig())
    await process.ask(AuthConfig())

    assert len(process.announced) == 1


async def test_operators_key_is_never_announced(process: Process) -> None:
    """Whoever set it knows it."""
    await process.ask(AuthConfig(bootstrap_key=OPERATORS), credential=OPERATORS)

    assert process.announced == []


async def test_revocations_outlive_a_restart(process: Process) -> None:
    """The key stays out, and a watcher's place stays what it was."""
    before = await process.ask(AuthConfig(bootstrap_key=OPERATORS), credential=OPERATORS, revoke=OPERATORS[:9])
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await process.ask(AuthConfig(), credential=OPERATORS)

    assert before.revision == 1
    assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED


async def test_database_may_be_elsewhere(process: Process, tmp_path: Path) -> None:
    """With its pepper beside it."""
    await process.ask(AuthConfig(database=tmp_path / "elsewhere" / "keys.db"))

    assert {"keys.db", "keys.db.pepper"} <= {path.name for path in (tmp_path / "elsewhere").iterdir()}
