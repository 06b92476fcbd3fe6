"""Runs the HTTP door: uvicorn under our own lifecycle, on a socket that several processes may share."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from typing import Any, Final

import uvicorn

from polyroute.edge.config import HttpConfig
from polyroute.edge.http.connection import Bounds, bounded
from polyroute.mesh.roles import ConfigError

BACKLOG: Final = 2048


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the process's lifecycle decides when it stops."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leaves signals alone."""
        yield


def bind(address: str, *, shared: bool) -> socket.socket:
    """A listening socket at `host:port`.

    Args:
        address: Where; port 0 takes a free one.
        shared: Other processes listen at the same address, and the kernel spreads connections.

    Raises:
        ConfigError: The address is taken or not ours.
    """
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listening.bind((host.strip("[]"), int(port)))
    except (OSError, OverflowError) as error:  # the latter: a port beyond 65535
        listening.close()
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"edge.http.listen: {address}: {reason}; name another with --listen") from None
    listening.setblocking(False)
    return listening


@asynccontextmanager
async def serving(
    app: Any, config: HttpConfig, listening: socket.socket, *, grace: float, hurry: asyncio.Event | None = None
) -> AsyncGenerator[None]:
    """Serves `app` while the body runs; leaving lets running answers finish for `grace` seconds.

    Args:
        app: The ASGI application.
        config: Bounds.
        listening: From `bind`.
        grace: Seconds for running answers.
        hurry: When set while answers still run, they are ended now, each with an error in its own form.
    """
    bounds = Bounds(config.header_seconds, config.body_seconds, config.stall_seconds, config.max_header_bytes)
    server = _Server(
        uvicorn.Config(
            app,
            http=bounded(bounds),
            loop="none",
            lifespan="off",
            ws="none",
            access_log=False,
            log_config=None,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_keep_alive=int(config.keep_alive_seconds),
            timeout_graceful_shutdown=int(grace),
        )
    )
    running = asyncio.get_running_loop().create_task(server.serve(sockets=[listening]), name="http")
    while not server.started and not running.done():  # noqa: ASYNC110 - uvicorn offers no event
        await asyncio.sleep(0.005)
    if running.done():
        running.result()
    try:
        yield
    finally:
        server.should_exit = True
        cutting = asyncio.create_task(_cut(server, hurry or asyncio.Event()))
        await running
        cutting.cancel()


async def _cut(server: uvicorn.Server, hurry: asyncio.Event) -> None:
    await hurry.wait()
    for task in list(server.server_state.tasks):
        task.cancel()
