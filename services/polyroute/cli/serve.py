"""Runs roles in this process until a signal ends them."""

import asyncio
import gc
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Final

import uvloop

from polyroute.cli.claim import claimed
from polyroute.cli.roles import Process
from polyroute.mesh import lifecycle, logs, memory
from polyroute.mesh.node import Node

GC_THRESHOLD: Final = 10_000  # allocations between two collections of the young; the default of 700 is a few calls

Ready = Callable[[Node], Coroutine[Any, Any, None]]


def serve(process: Process, ready: Ready | None = None) -> None:
    """Runs the process's roles; returns after an orderly stop.

    Args:
        process: What to run.
        ready: Called once everything has started; cancelled when the process stops.
    """
    logs.configure(process.config.log, service=process.instance or "+".join(sorted(process.roles)))
    memory.keep_large_blocks()
    with claimed(process.run_dir, process.roles):
        uvloop.run(_serve(process, ready))


def _spare_the_generators() -> None:
    """Has the loop keep no list of asynchronous generators, of which a call makes four.

    It would close at its end what is still open then; a process that has drained has nothing open. One that is dropped
    while it runs is closed as ever.
    """
    sys.set_asyncgen_hooks(firstiter=None)


def _spare_the_collector() -> None:
    """Takes what has been loaded out of the garbage collector's sight: it lives as long as the process.

    Otherwise every full collection, of which traffic causes many, walks through all modules and schemas again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 20)


async def _serve(process: Process, ready: Ready | None) -> None:
    process.config.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    node = process.node()
    stopped = asyncio.create_task(lifecycle.signalled(node.hurry))
    try:
        async with lifecycle.running(process.table(node)):
            process.reload_on_hangup()
            _spare_the_collector()
            _spare_the_generators()
            greeting = asyncio.create_task(ready(node)) if ready else None
            await stopped
            if greeting is not None:
                greeting.cancel()
                await asyncio.wait([greeting])
    finally:
        stopped.cancel()
        await node.close()
