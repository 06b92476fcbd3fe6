"""grpc.health.v1 of one role."""

import asyncio
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from polyroute.mesh.health import Health

SERVING, NOT_SERVING, UNKNOWN = (
    HealthCheckResponse.SERVING,
    HealthCheckResponse.NOT_SERVING,
    HealthCheckResponse.SERVICE_UNKNOWN,
)


class Context:
    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        raise grpc.aio.AbortError(code)


async def check(health: Health, service: str) -> int:
    context: Any = Context()
    return (await health.Check(HealthCheckRequest(service=service), context)).status


@pytest.mark.parametrize(
    ("states", "all_of_them"),
    [
        ({}, NOT_SERVING),
        ({"a": True}, SERVING),
        ({"a": True, "b": False}, NOT_SERVING),
        ({"a": True, "b": True}, SERVING),
    ],
)
async def test_empty_name_stands_for_all(states: dict[str, bool], all_of_them: int) -> None:
    """A role serves when every service of it does; without any it serves nothing."""
    health = Health()
    for service, serving in states.items():
        health.set(service, serving=serving)

    assert all_of_them == await check(health, "")
    assert [SERVING if serving else NOT_SERVING for serving in states.values()] == [
        await check(health, service) for service in states
    ]


async def test_unknown_service() -> None:
    """NOT_FOUND, says the specification."""
    with pytest.raises(grpc.aio.AbortError):
        await check(Health(), "x")


async def test_watch_tells_now_and_every_change() -> None:
    """A service that is not known yet may come; what does not change is not told."""
    health = Health()
    context: Any = Context()
    said: list[int] = []

    async def watch() -> None:
        async for message in health.Watch(health_pb2.HealthCheckRequest(service="a"), context):
            said.append(message.status)

    watching = asyncio.create_task(watch())
    for serving in (True, True, False, True):
        await asyncio.sleep(0)
        health.set("a", serving=serving)
        health.set("other", serving=serving)
        await asyncio.sleep(0)
    health.close()
    async with asyncio.timeout(1):
        await watching

    assert [UNKNOWN, SERVING, NOT_SERVING, SERVING] == said


async def test_watch_of_a_role_that_stops_ends() -> None:
    """It must not keep the process alive."""
    health = Health()
    context: Any = Context()
    health.close()

    assert [] == [message async for message in health.Watch(HealthCheckRequest(service="a"), context)]
