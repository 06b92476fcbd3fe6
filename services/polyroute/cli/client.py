"""The command line's connections to a running gateway."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any, TypeVar

import grpc

from polyroute.cli.config import Config
from polyroute.mesh.errors import MeshError, from_rpc
from polyroute.mesh.node import Node

T = TypeVar("T")


def routers(config: Config) -> list[str]:
    """The addresses of every router of this machine beyond the one that is asked: one in each worker."""
    sockets = sorted((config.data_dir / "run").glob("worker-*/router.sock"))
    return [] if "router" in config.mesh.peers else [f"unix:{path}" for path in sockets]


@asynccontextmanager
async def connected(config: Config, others: Mapping[str, str] = MappingProxyType({})) -> AsyncGenerator[Node]:
    """The mesh as seen from outside of it: every role is elsewhere.

    Args:
        config: Where.
        others: Addresses that stand instead of those, by role.
    """
    run = config.data_dir / "run"
    worker = run / "worker-0"
    # with several workers, the router and the providers answer in each of them: the first will do
    peers = (
        {}
        if not (worker / "router.sock").exists()
        else {role: f"unix:{worker / role}.sock" for role in ("router", "providers")}
    )
    mesh = config.mesh.model_copy(update={"peers": {**peers, **config.mesh.peers, **others}})
    node = Node(mesh, frozenset(), run, peer_run_dir=run)
    try:
        yield node
    finally:
        await node.close()


def run(config: Config, work: Callable[[Node], Awaitable[T]]) -> T:
    """Does `work` on a connection; a failure ends the program with what it says."""

    async def connected_work() -> T:
        async with connected(config) as node:
            return await work(node)

    return finish(connected_work())


def finish(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`; a refusal ends the program with what it says."""
    try:
        return asyncio.run(work)
    except (grpc.aio.AioRpcError, MeshError) as error:
        failure = error if isinstance(error, MeshError) else from_rpc(error)
        if failure.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
            raise SystemExit(
                f"polyroute: no gateway answers here ({failure.message}); start one: polyroute up"
            ) from None
        raise SystemExit(f"polyroute: {failure.message}") from None
