"""A gateway for real clients, with a vendor whose answers a test decides."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
import pytest_asyncio
import uvloop

from bench.vendor import Vendor
from tests.mesh.gateway import Gateway, deployment, running
from tests.mesh.raw import RawVendor
from tests.spoken import Stage as SpokenStage
from tests.spoken import speaking


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop that a gateway runs on."""
    return {"uvloop": uvloop.new_event_loop}


@dataclass
class Stage:
    """A gateway: model `m` is on `vendor`, model `raw` on `raw`; each call is tried once."""

    gateway: Gateway
    vendor: Vendor
    raw: RawVendor


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Stage]:
    """See `Stage`."""
    operations = ["chat", "completion", "embedding"]
    async with AsyncExitStack() as stack:
        vendor = await stack.enter_async_context(Vendor())
        raw = await stack.enter_async_context(RawVendor())
        gateway = await stack.enter_async_context(
            running(
                tmp_path_factory.mktemp("gateway"),
                {"v": vendor.url, "raw": raw.url},
                {
                    "m": {"deployments": [deployment("v")], "operations": operations},
                    "raw": {"deployments": [deployment("raw")], "operations": operations},
                },
                router={"max_attempts": 1},
            )
        )
        yield Stage(gateway, vendor, raw)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def spoken(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[SpokenStage]:
    """A gateway before a vendor that is asked in every wire format."""
    async with speaking(tmp_path_factory.mktemp("spoken")) as stage:
        yield stage
