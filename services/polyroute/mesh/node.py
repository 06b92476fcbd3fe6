"""One process of the mesh: the roles it plays, what it serves, and how it reaches the others.

A role asks its node for a channel to another role and cannot tell whether that is in this process; it hands its
servicers to the node and cannot forget health, validation, deadlines, logs, error mapping or drain.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc
import structlog
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import CollectorRegistry

from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.mesh import network
from polyroute.mesh.config import MeshConfig
from polyroute.mesh.errors import MeshError
from polyroute.mesh.guard import MALFORMED, Guard, Method, Stream, Unary
from polyroute.mesh.health import SERVICE as HEALTH_SERVICE
from polyroute.mesh.health import Health
from polyroute.mesh.inprocess.channel import LocalChannel
from polyroute.mesh.inprocess.server import LocalServer
from polyroute.mesh.scrape import scraped
from polyroute.mesh.telemetry import RpcMetrics

HEALTH_TIMEOUT: Final = 2.0  # s

Register = Callable[[Any, Any], None]

_log = structlog.get_logger("node")


@dataclass(frozen=True)
class Service:
    """A servicer and the generated function that registers it."""

    register: Register
    servicer: Any


class _Registrar:
    """Takes what a generated `add_XServicer_to_server` gives to a server."""

    def __init__(self) -> None:
        self.handlers: dict[str, Mapping[str, grpc.RpcMethodHandler[Any, Any]]] = {}

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """The same methods in gRPC's older form."""

    def add_registered_method_handlers(
        self, service: str, handlers: Mapping[str, "grpc.RpcMethodHandler[Any, Any]"]
    ) -> None:
        """A service's methods by name."""
        self.handlers[service] = handlers


@dataclass
class Node:
    """One process.

    Args:
        config: Where the roles are.
        roles: The roles this process plays.
        run_dir: Where unix sockets of this process go.
        peer_run_dir: Where unix sockets of roles in other processes are; `run_dir` unless processes share a machine.
        registry: The process's Prometheus figures.
    """

    config: MeshConfig
    roles: frozenset[str]
    run_dir: Path
    peer_run_dir: Path | None = None
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    bound: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.local = LocalServer()
        self.hurry = asyncio.Event()
        """Set when the process must end now: what still runs is cut, in good order."""
        self._health: dict[str, Health] = {}
        self.metrics = RpcMetrics(self.registry)
        self._channels: dict[str, grpc.aio.Channel] = {}

    def channel(self, role: str) -> grpc.aio.Channel:
        """A channel to `role`: in this process when it plays it, over the network otherwise."""
        channel = self._channels.get(role)
        if channel is None:
            channel = LocalChannel(self.local) if role in self.roles else self._connect(role)
            self._channels[role] = channel
        return channel

    def _connect(self, role: str) -> grpc.aio.Channel:
        return network.open_channel(
            role, self.peer(role), tls=self.config.tls, token=self.config.token.get_secret_value()
        )

    def peer(self, role: str) -> str:
        """The address at which `role` is reached from here."""
        configured = self.config.peers.get(role) or self.config.listen.get(role)
        return configured or f"unix:{(self.peer_run_dir or self.run_dir) / role}.sock"

    async def reach(self, role: str, seconds: float) -> None:
        """Returns once a connection to `role` stands: at once in the steady state.

        Raises:
            MeshError: REASON_SERVICE_UNAVAILABLE after `seconds` without one.
        """
        channel = self.channel(role)
        if channel.get_state(try_to_connect=True) is grpc.ChannelConnectivity.READY:
            return
        try:
            async with asyncio.timeout(seconds):
                await channel.channel_ready()
        except TimeoutError:
            raise MeshError(pb.REASON_SERVICE_UNAVAILABLE, f"{role} cannot be reached", retry_after=1.0) from None

    async def healthy(self, role: str) -> bool:
        """Whether `role` says that it can serve, in this process or over the network."""
        service = network.services_of(role)[0].full_name
        if role in self.roles:
            own = self._health.get(role)
            return own is not None and own.serving(service) is True
        stub: Any = health_pb2_grpc.HealthStub(self.channel(role))
        try:
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=HEALTH_TIMEOUT)
        except grpc.aio.AioRpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    def set_serving(self, role: str, *, serving: bool) -> None:
        """Says whether this process's `role` can serve: a role that still waits for something says no."""
        for service in network.services_of(role):
            self._health[role].set(service.full_name, serving=serving)

    async def close(self) -> None:
        """Closes the channels."""
        for channel in self._channels.values():
            await channel.close()

    @asynccontextmanager
    async def serve(
        self, role: str, *services: Service, public: bool = False, shared: bool = False
    ) -> AsyncGenerator[str]:
        """Serves a role's servicers while the body runs, in this process and at the role's address; gives the address.

        Leaving says not-ready first, then refuses new calls, then waits for running ones.

        Args:
            role: Whose they are.
            services: The servicers.
            public: Callers identify themselves by key, not as peers of the mesh.
            shared: Other processes of this machine may listen at the same port.
        """
        guard = self._guard(role, public=public)
        health = self._health[role] = Health()
        methods = [method for service in services for method in _guarded(guard, service)]
        server, address = await self._listen(role, methods, health, shared=shared)
        self.local.add({served.method.path: served.call for served in methods})
        for name in {served.method.service for served in methods}:
            health.set(name, serving=True)
        self.bound[role] = address
        _log.info("serving", role=role, address=address)
        try:
            async with scraped(self.registry, "" if shared else self.config.figures.get(role, "")):
                yield address
        finally:
            await self._drain(server, guard, health, methods)
            _log.info("stopped", role=role)

    def _guard(self, role: str, *, public: bool) -> Guard:
        tls = self.config.tls
        return Guard(
            metrics=self.metrics,
            token="" if tls is not None else self.config.token.get_secret_value(),
            allowed=frozenset() if tls is None or public else tls.allowed.get(role, frozenset()),
            public=public,
            methods={} if tls is None else tls.methods_of(role),
        )

    async def _listen(
        self, role: str, methods: Sequence["_Served"], health: Health, *, shared: bool
    ) -> tuple[grpc.aio.Server, str]:
        server = network.open_server(shared=shared)
        names = {served.method.service for served in methods}
        for name in names:
            server.add_registered_method_handlers(
                name, {served.method.name: served.handler for served in methods if served.method.service == name}
            )
        health_pb2_grpc.add_HealthServicer_to_server(health, server)
        if self.config.reflection:
            reflection.enable_server_reflection([*names, HEALTH_SERVICE, reflection.SERVICE_NAME], server)
        wanted = self.config.listen.get(role) or f"unix:{self.run_dir / role}.sock"
        address = network.listen(server, wanted, None if role == "edge" else self.config.tls)
        await server.start()
        return server, address

    async def _drain(self, server: grpc.aio.Server, guard: Guard, health: Health, methods: Sequence["_Served"]) -> None:
        names = {served.method.service for served in methods}
        for name in names:
            health.set(name, serving=False)
        await self.linger(self.config.drain_delay)
        health.close()
        guard.cut_watches()
        stopping = asyncio.ensure_future(server.stop(self.config.drain_grace))
        await self.unless_hurried(stopping)
        if not stopping.done():
            await server.stop(0)
        await stopping
        leaving = asyncio.ensure_future(self.local.drained(self.local.remove(names), self.config.drain_grace))
        await self.unless_hurried(leaving)
        leaving.cancel()

    async def linger(self, seconds: float) -> None:
        """Waits, unless there is no time any more."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.hurry.wait()

    async def unless_hurried(self, work: "asyncio.Future[Any]") -> None:
        """Returns when some work is done, or at once when there is no time any more."""
        hurried = asyncio.ensure_future(self.hurry.wait())
        await asyncio.wait([work, hurried], return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()


@dataclass(frozen=True)
class _Served:
    """A method with the chain around it, for both kinds of channel."""

    method: Method
    call: Unary | Stream
    handler: "grpc.RpcMethodHandler[Any, Any]"


def _guarded(guard: Guard, service: Service) -> Iterator[_Served]:
    registrar = _Registrar()
    service.register(service.servicer, registrar)
    for name, handlers in registrar.handlers.items():
        watches = network.watches_of(name)
        for method_name, handler in handlers.items():
            method = Method(name, method_name, watch=method_name in watches)
            yield _served(guard, method, handler)


def _reading(read: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Reads requests; what gRPC makes of a reader's error is UNKNOWN, and the caller's fault would look like ours."""

    def reader(data: bytes) -> Any:
        try:
            return read(data)
        except DecodeError:
            return MALFORMED

    return reader


def _served(guard: Guard, method: Method, handler: Any) -> _Served:
    coders = (_reading(handler.request_deserializer), handler.response_serializer)
    if handler.response_streaming:
        stream = guard.stream(method, handler.unary_stream)
        return _Served(method, stream, grpc.unary_stream_rpc_method_handler(stream, *coders))
    unary = guard.unary(method, handler.unary_unary)
    return _Served(method, unary, grpc.unary_unary_rpc_method_handler(unary, *coders))
