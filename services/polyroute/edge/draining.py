"""Answers that are read to their end although their callers have left, so that the vendor's own figures are charged.

Which providers' are is the operator's choice (`providers.NAME.on_disconnect: drain`). Such a call is over for everybody
but its vendor: it is on record, and settled, as one that its caller left, once the answer has ended or a bound is met.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import grpc
import structlog

from polyroute.edge.call import Call
from polyroute.edge.hearing import Lasting, heard
from polyroute.mesh.errors import MeshError

DRAIN_SECONDS: Final = 30.0
DRAIN_BYTES: Final = 8 * 1024 * 1024

_log = structlog.get_logger("draining")


class Drains:
    """The calls whose answers are read to their end.

    Args:
        close: Records and settles a call.
    """

    def __init__(self, close: Callable[[Call], None]) -> None:
        self._close = close
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, call: Call) -> bool:
        """Reads on in a call that its caller has left; False when nothing of it lasts."""
        lasting, call.lasting = call.lasting, None
        if lasting is None:
            return False
        task = asyncio.get_running_loop().create_task(self._drain(call, lasting), name="drain")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    async def _drain(self, call: Call, lasting: Lasting) -> None:
        trail, size = call.trail, 0
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                async for response in lasting:
                    size += response.ByteSize()
                    if heard(response, trail) is not None or size > DRAIN_BYTES:
                        break
        except (TimeoutError, grpc.aio.AioRpcError, MeshError) as error:  # what came until then is charged
            _log.info("answer not drained", request_id=trail.request_id, error=type(error).__name__)
        finally:
            lasting.cancel()
            trail.left()
            self._close(call)

    async def close(self) -> None:
        """Ends what still runs: it is settled with what came until now."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
