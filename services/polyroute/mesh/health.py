"""grpc.health.v1, one status per service of a role.

The library's own servicer is not used because a peer that watches keeps `server.stop(grace)` waiting for the whole
grace; here the watches end when the process begins to drain.
Specification: https://github.com/grpc/grpc/blob/master/doc/health-checking.md
"""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

SERVICE: Final = "grpc.health.v1.Health"
_Status = health_pb2.HealthCheckResponse


class Health(health_pb2_grpc.HealthServicer):
    """The health of the services of one role."""

    def __init__(self) -> None:
        self._serving: dict[str, bool] = {}
        self._changed = asyncio.Event()
        self._closed = False

    def set(self, service: str, *, serving: bool) -> None:
        """Says whether `service` can serve."""
        self._serving[service] = serving
        self._notify()

    def close(self) -> None:
        """Ends every watch: the role is about to stop."""
        self._closed = True
        self._notify()

    def serving(self, service: str) -> bool | None:
        """Whether `service` can serve; None when it is not known here. The empty name stands for all of them."""
        if service == "":
            return bool(self._serving) and all(self._serving.values())
        return self._serving.get(service)

    async def Check(  # noqa: N802 - the contract's name
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> health_pb2.HealthCheckResponse:
        """The health of a service; NOT_FOUND when it is not known here."""
        serving = self.serving(request.service)
        if serving is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return _Status(status=_Status.SERVING if serving else _Status.NOT_SERVING)

    async def Watch(  # noqa: N802 - the contract's name
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncGenerator[health_pb2.HealthCheckResponse]:
        """The health of a service, now and whenever it changes."""
        last: int | None = None
        while not self._closed:
            serving = self.serving(request.service)
            status = _Status.SERVICE_UNKNOWN if serving is None else _Status.SERVING if serving else _Status.NOT_SERVING
            changed = self._changed
            if status != last:
                yield _Status(status=status)
                last = status
            await changed.wait()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
