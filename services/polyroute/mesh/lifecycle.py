"""The life of a process: roles start in order, a signal stops them in reverse, a second one hurries.

The edge is last to start and first to stop, and has drained before anything behind it begins to stop: otherwise the RPC
after the last token, the record of the call, would find nobody.
"""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Final

import structlog

from polyroute.mesh.roles import ROLES

HURRY: Final = 5.0  # s a process may still take after the second signal

Role = Callable[[], AbstractAsyncContextManager[None]]

_log = structlog.get_logger("lifecycle")


@asynccontextmanager
async def running(roles: Mapping[str, Role]) -> AsyncGenerator[None]:
    """Runs roles while the body does: started in the order of `ROLES`, stopped in reverse."""
    async with AsyncExitStack() as stack:
        for name in ROLES:
            if name in roles:
                await stack.enter_async_context(roles[name]())
        yield


async def signalled(hurry: asyncio.Event | None = None) -> str:
    """Returns the name of the first SIGTERM or SIGINT; after the second the process has `HURRY` seconds left.

    Args:
        hurry: Set by the second one: whoever still waits for something that runs ends it now, in good order.
    """
    loop = asyncio.get_running_loop()
    first: asyncio.Future[str] = loop.create_future()

    def received(number: signal.Signals) -> None:
        if not first.done():
            first.set_result(number.name)
            return
        _log.warning("hurrying", signal=number.name, seconds=HURRY)
        if hurry is not None:
            hurry.set()
        loop.call_later(HURRY, os._exit, 1)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, received, number)
    return await first
