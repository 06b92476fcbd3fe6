"""The bound of each wait of an attempt."""

import asyncio

import pytest
import uvloop

from polyroute.api.errors.v1 import errors_pb2
from polyroute.mesh.errors import MeshError
from polyroute.providers.transport import Watch


def test_a_wait_begins_while_the_timer_is_due() -> None:
    """A timer that is due at once is a plain handle in uvloop, and no wait may fail for that."""

    async def waits() -> str:
        watch = Watch(30, asyncio.get_running_loop())
        for _ in range(3):
            past = asyncio.get_running_loop().time() - 5
            with watch.within(1, errors_pb2.FAULT_STALL, "late", since=past):
                pass  # armed for a moment that has passed, and over before the loop turns
            with watch.within(0.2, errors_pb2.FAULT_STALL, "late"):
                await asyncio.sleep(0)
        with pytest.raises(MeshError) as caught, watch.within(0.05, errors_pb2.FAULT_STALL, "late"):
            await asyncio.sleep(5)
        watch.close()
        return errors_pb2.Fault.Name(caught.value.fault)

    assert "FAULT_STALL" == uvloop.run(waits())
