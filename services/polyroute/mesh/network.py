"""Channels and servers over unix sockets and TCP: settings decided once, for every role.

Sources: flow control (a stopped reader must stop the writer: lookahead 64 KiB, no bandwidth probing), keepalive,
reconnection and message limits are the figures that docs/architecture.md explains; retries follow gRFC A6 and happen
only for methods that the contract declares free of side effects or idempotent.
"""

import importlib
import ssl
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

import grpc
import orjson
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions

from polyroute.mesh import scope as scopes
from polyroute.mesh.config import TlsConfig
from polyroute.mesh.guard import TOKEN_KEY
from polyroute.mesh.roles import ConfigError

MAX_MESSAGE_BYTES: Final = 16 * 1024 * 1024
MAX_METADATA_BYTES: Final = 16 * 1024
_SHARED: Final = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.http2.lookahead_bytes", 65536),
    ("grpc.http2.bdp_probe", 0),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
)
_CHANNEL: Final = (
    *_SHARED,
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.enable_retries", 1),
    ("grpc.use_local_subchannel_pool", 1),
)
_SERVER: Final = (
    *_SHARED,
    ("grpc.http2.min_ping_interval_without_data_ms", 20_000),
    ("grpc.max_connection_age_ms", 300_000),  # gRPC itself spreads this by 10 % (gRFC A9)
    ("grpc.max_connection_age_grace_ms", 660_000),  # longer than the longest stream
    ("grpc.max_concurrent_streams", 1000),
)
_RETRY: Final[Mapping[str, Any]] = {
    "maxAttempts": 4,
    "initialBackoff": "0.05s",
    "maxBackoff": "0.5s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}


def services_of(role: str) -> Sequence[ServiceDescriptor]:
    """The services that a role's contract has: path = import = wire name, so the role's name is enough."""
    package = "gateway" if role == "edge" else role  # what the edge serves is the gateway's contract
    module = importlib.import_module(f"polyroute.api.{package}.v1.{package}_pb2")
    return list(module.DESCRIPTOR.services_by_name.values())


def watches_of(service: str) -> frozenset[str]:
    """The methods of a service that are watches: streams without side effects and without an end of their own."""
    descriptor = descriptor_pool.Default().FindServiceByName(service)
    return frozenset(method.name for method in descriptor.methods if method.server_streaming and _harmless(method))


def service_config(services: Iterable[ServiceDescriptor]) -> str:
    """GRPC's service config for a channel to `services`: balancing, health, and retries where they are harmless."""
    listed = list(services)
    methods = [method for service in listed for method in service.methods]
    config = {
        "loadBalancingConfig": [{"round_robin": {}}],
        "healthCheckConfig": {"serviceName": listed[0].full_name},
        "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
        "methodConfig": [
            {"name": [_name(method)], "waitForReady": True, **({"retryPolicy": _RETRY} if _repeatable(method) else {})}
            for method in methods
            if _harmless(method)
        ],
    }
    return orjson.dumps(config).decode()


def _name(method: MethodDescriptor) -> Mapping[str, str]:
    return {"service": method.containing_service.full_name, "method": method.name}


def _repeatable(method: MethodDescriptor) -> bool:
    return _harmless(method) and not method.server_streaming


def _harmless(method: MethodDescriptor) -> bool:
    return bool(method.GetOptions().idempotency_level != MethodOptions.IDEMPOTENCY_UNKNOWN)


def open_channel(role: str, address: str, *, tls: TlsConfig | None, token: str) -> grpc.aio.Channel:
    """A channel to a role at `address` (`unix:/path`, `host:port`, `dns:///name:port`)."""
    options = (*_CHANNEL, ("grpc.service_config", service_config(services_of(role))))
    if tls is None or address.startswith("unix:"):
        inner = grpc.aio.insecure_channel(address, options=options)
    else:
        inner = grpc.aio.secure_channel(address, _channel_credentials(tls), options=options)
    return MeshChannel(inner, token)


def open_server(*, shared: bool = False) -> grpc.aio.Server:
    """A server with the mesh's settings and nothing on it.

    Args:
        shared: Other processes may listen at the same port. Otherwise a port that is taken is an error, not a share.
    """
    return grpc.aio.server(options=(*_SERVER, ("grpc.so_reuseport", int(shared))))


def listen(server: grpc.aio.Server, address: str, tls: TlsConfig | None) -> str:
    """Binds `server` and returns the address that was bound, with the real port where it was 0.

    Raises:
        ConfigError: The address is taken or not ours.
    """
    if address.startswith("unix:"):
        path = Path(address.removeprefix("unix:"))
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        tls = None
    credentials = None if tls is None else _server_credentials(tls)
    try:
        port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    except RuntimeError:  # grpc says no more than that it failed
        raise ConfigError(f"cannot listen on {address}: it is taken, or not an address of this machine") from None
    return address if address.startswith("unix:") else f"{address.rpartition(':')[0]}:{port}"


def _channel_credentials(tls: TlsConfig) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(tls.ca.read_bytes(), tls.key.read_bytes(), tls.cert.read_bytes())


def _server_credentials(tls: TlsConfig) -> grpc.ServerCredentials:
    ssl.create_default_context(cafile=str(tls.ca))  # a broken file is named here, at the start, not at a handshake
    return grpc.ssl_server_credentials(
        [(tls.key.read_bytes(), tls.cert.read_bytes())], tls.ca.read_bytes(), require_client_auth=True
    )


class MeshChannel(grpc.aio.Channel):
    """A network channel whose calls carry the current scope: ids, what is left of the deadline, the mesh token.

    Unary calls without a timeout are refused: over a network that would be a call that can hang for ever.
    """

    def __init__(self, inner: grpc.aio.Channel, token: str) -> None:
        self._inner = inner
        self._token = ((TOKEN_KEY, token),) if token else ()

    def unary_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """A callable for a unary method."""
        return _Carrying(self._inner.unary_unary(method, *args, **kwargs), method, self._token, unary=True)

    def unary_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """A callable for a server stream."""
        return _Carrying(self._inner.unary_stream(method, *args, **kwargs), method, self._token, unary=False)

    def stream_unary(self, method: str, *_: Any, **__: Any) -> NoReturn:
        """The contract has no client streams."""
        raise NotImplementedError(f"the contract has no client streams: {method}")

    def stream_stream(self, method: str, *_: Any, **__: Any) -> NoReturn:
        """The contract has no client streams."""
        raise NotImplementedError(f"the contract has no client streams: {method}")

    async def __aenter__(self) -> "MeshChannel":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        """Closes the connection; calls in flight have `grace` seconds."""
        await self._inner.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """The connection's state."""
        return self._inner.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Returns when the state is another."""
        await self._inner.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Returns when the connection stands."""
        await self._inner.channel_ready()


class _Carrying:
    """A method of a network channel that carries the scope along."""

    __slots__ = ("_call", "_method", "_token", "_unary")

    def __init__(self, call: Any, method: str, token: tuple[tuple[str, str], ...], *, unary: bool) -> None:
        self._call = call
        self._method = method
        self._token = token
        self._unary = unary

    def __call__(self, request: Any, *, timeout: float | None = None, metadata: Any = None, **kwargs: Any) -> Any:
        if timeout is None and self._unary:
            raise TypeError(f"a unary call needs a timeout: {self._method}")
        scope = scopes.CURRENT.get()
        sent = (*(metadata or ()), *self._token, *(scope.metadata if scope is not None else ()))
        return self._call(request, timeout=scopes.shortened(timeout), metadata=sent, **kwargs)
