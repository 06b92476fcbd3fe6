"""What this process serves: methods by path, and how many of their calls are running."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping

import grpc
from grpc.aio import AioRpcError, Metadata

from polyroute.mesh.guard import Stream, Unary

Absent = Callable[[grpc.StatusCode, str], Unary | Stream]


class LocalService:
    """A service of this process: how many of its calls are running, and who waits for the last."""

    __slots__ = ("idle", "running")

    def __init__(self) -> None:
        self.running = 0
        self.idle: asyncio.Event | None = None

    def left(self) -> None:
        """A call has ended."""
        self.running -= 1
        if not self.running and self.idle is not None:
            self.idle.set()


class LocalServer:
    """The methods that this process serves, by path."""

    def __init__(self) -> None:
        self._methods: dict[str, tuple[Unary | Stream, LocalService]] = {}
        self._services: dict[str, LocalService] = {}

    def add(self, methods: Mapping[str, Unary | Stream]) -> None:
        """Serves methods, by path, from now on."""
        for path, method in methods.items():
            self._methods[path] = (method, self._services.setdefault(_service_of(path), LocalService()))

    def remove(self, services: Iterable[str]) -> list[LocalService]:
        """Refuses new calls of services from now on; running ones go on, and can be waited for by `drained`."""
        removed = [self._services.pop(name) for name in services if name in self._services]
        self._methods = {path: pair for path, pair in self._methods.items() if _service_of(path) in self._services}
        return removed

    async def drained(self, services: Iterable[LocalService], grace: float) -> None:
        """Waits until no call of `services` is running, at most `grace` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                for service in services:
                    if service.running:
                        service.idle = asyncio.Event()
                        await service.idle.wait()

    def find(self, path: str, absent: Absent) -> tuple[Unary | Stream, LocalService]:
        """The method at `path`, and its service.

        Where there is none, it is one that `absent` makes and that ends with UNIMPLEMENTED or, for a service that is
        not (or no longer) here, UNAVAILABLE: as over a network, the caller hears of it from the call.
        """
        found = self._methods.get(path)
        if found is not None:
            return found
        if _service_of(path) in self._services:
            return absent(grpc.StatusCode.UNIMPLEMENTED, "Method not found!"), LocalService()
        details = "the service is not running in this process"
        return absent(grpc.StatusCode.UNAVAILABLE, details), LocalService()


def _service_of(path: str) -> str:
    return path[1 : path.rindex("/")]


def rpc_error(
    code: grpc.StatusCode, details: str, initial: Metadata | None = None, trailing: Metadata | None = None
) -> AioRpcError:
    """An error as a stub raises it."""
    return AioRpcError(code, initial or Metadata(), trailing or Metadata(), details=details, debug_error_string="")
