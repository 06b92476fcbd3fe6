"""Calls to vendors over gRPC: what `transport.py` is for HTTP, with the same bounds and the same faults.

Messages pass as bytes. A streamed answer is handed on in the frames of `dialects.grpc_frames`, its status as the last
of them, so that the dialect reads all of a call from one stream of bytes, as it does with HTTP.
"""

import asyncio
import base64
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from time import perf_counter
from typing import Any, Final

import grpc
from google.protobuf import descriptor_pool

from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects import grpc_frames
from polyroute.mesh.errors import MeshError
from polyroute.providers.http import Address, NotConnectedError, Target
from polyroute.providers.transport import (
    BROKE,
    BROKE_OFF,
    IDLE_SECONDS,
    MAX_ANSWER_BYTES,
    PINGS,
    UNREACHABLE,
    Limits,
    Watch,
)

WHOLE: Final = "application/protobuf"  # an answer that is one message
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
    ("grpc.max_send_message_length", -1),  # the doors have bounded it
    ("grpc.max_metadata_size", 64 * 1024),
    ("grpc.absolute_max_metadata_size", 64 * 1024),
    ("grpc.http2.lookahead_bytes", 65536),  # a reader that stops, stops the vendor
    ("grpc.http2.bdp_probe", 0),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.client_idle_timeout_ms", int(IDLE_SECONDS * 1000)),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.service_config_disable_resolution", 1),  # nobody but the plan of a call decides about other tries
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.primary_user_agent", "polyroute"),
)
# What gRPC sets itself, or forbids.
_NOT_METADATA: Final = frozenset(
    {"host", "content-type", "content-length", "accept-encoding", "user-agent", "connection", "te"}
)
_NAME: Final = re.compile(r"(?!grpc-)[a-z0-9_.-]+(?<!-bin)")
# What the runtime says of a connection that broke. Its failures have the codes of a vendor's own, and no other mark.
_LOST: Final = re.compile(
    r"^(?:stream removed|socket closed|connection (?:reset|closed)|broken pipe|endpoint closed|(?:recv|send)msg:"
    r"|keepalive |goaway|transport (?:closed|is closing)|rst_stream|received rst_stream|eof$)",
    re.IGNORECASE,
)
_UNREACHED: Final = re.compile(r"^(?:failed to connect|dns (?:resolution|query) failed|name resolution)", re.IGNORECASE)
_TOO_LARGE: Final = re.compile(rf"received message larger than max \(\d+ vs\. {MAX_ANSWER_BYTES}\)", re.IGNORECASE)


class GrpcAnswer:
    """A vendor's answer that has begun; see `carrier.Reply`.

    Attributes:
        status: 200: gRPC has no other.
        headers: Metadata, lower-case names; of a refusal with its status, as `dialects.grpc_status` reads it.
        sent: When the call was sent, by `time.perf_counter`.
        arrived: When its last message came, by `time.perf_counter`.
        ok: Whether it was not refused.
        content_type: How the answer comes: in frames, or as one message.
    """

    __slots__ = (
        "_call",
        "_limits",
        "_messages",
        "_watch",
        "arrived",
        "content_type",
        "headers",
        "ok",
        "sent",
        "status",
    )

    def __init__(
        self,
        call: Any,
        watch: Watch,
        limits: Limits,
        sent: float,
        *,
        messages: list[bytes],
        headers: Mapping[str, str],
        streamed: bool,
    ) -> None:
        self._call = call
        self._watch = watch
        self._limits = limits
        self._messages = messages  # frames, or one message, that have come and were not read
        self.status = 200
        self.headers = headers
        self.ok = grpc_frames.STATUS_KEY not in headers
        self.content_type = grpc_frames.STREAM if streamed else WHOLE
        self.sent = sent
        self.arrived = perf_counter()

    async def body(self) -> bytes:
        """The one message of an answer that is no stream."""
        return b"".join(self._messages)

    async def error_body(self) -> bytes:
        """Nothing: what a vendor says of a refusal stands in the headers."""
        return b""

    async def read(self, *, first: bool, idle: int = 0) -> bytes:
        """The next message in its frame, then the status in its own; empty after that. See `transport.Answer.read`.

        Raises:
            MeshError: FAULT_TRUNCATED when the connection breaks, FAULT_STALL.
        """
        if self._messages:
            return self._messages.pop(0)
        if self._call is None:
            return b""
        watch, limits = self._watch, self._limits
        if first:
            watch.within(limits.first_token, errors_pb2.FAULT_TRUNCATED, BROKE_OFF, since=watch.sent)
        else:
            since = watch.began if idle > PINGS else None
            watch.within(limits.inter_token, errors_pb2.FAULT_TRUNCATED, BROKE_OFF, since=since)
        with watch:
            frame, ended = await _next(self._call)
        self.arrived = perf_counter()
        if ended:
            self._call = None
        return frame

    async def rest(self) -> None:
        """Nothing: connections carry many calls, and none has to wait for the end of another."""

    def close(self) -> None:
        """Ends the call at the vendor when it has not ended."""
        self._watch.close()
        if self._call is not None:
            self._call.cancel()


class GrpcTransport:
    """One connection for each address, kept and used by many calls at a time."""

    def __init__(self) -> None:
        self._channels: dict[Address, grpc.aio.Channel] = {}

    async def close(self) -> None:
        """Closes every connection, and ends the calls on them."""
        while self._channels:
            _, channel = self._channels.popitem()
            await channel.close()

    async def post(
        self, target: Target, body: bytes, limits: Limits, headers: Mapping[str, str] | None = None
    ) -> GrpcAnswer:
        """Makes a call and returns once its first message, or its status, has come. The answer is to be closed.

        Args:
            target: Where to: the path is the method, the headers are metadata.
            body: The serialised request.
            limits: How long each step may take.
            headers: Metadata of this call beside the target's.

        Raises:
            MeshError: FAULT_CONNECT when nothing was sent, FAULT_AMBIGUOUS when the call may have arrived, FAULT_STALL
                when no message came in time, FAULT_BAD_ANSWER when one is too large.
        """
        path, metadata = _addressed(target.head, headers or {})
        watch = Watch(limits.total, asyncio.get_running_loop())
        call: Any = None
        try:
            channel = self._channel(target.address)
            await _connect(channel, watch, limits)
            watch.sent, sent = watch.began, perf_counter()
            streamed = _streams(path)
            method: Any = channel.unary_stream(path) if streamed else channel.unary_unary(path)
            call = method(body, metadata=metadata, timeout=limits.total)
            with watch.within(limits.first_token, errors_pb2.FAULT_AMBIGUOUS, BROKE):
                messages, said, ended = await _begun(call, streamed=streamed)
        except BaseException:
            watch.close()
            if call is not None:
                call.cancel()
            raise
        return GrpcAnswer(
            None if ended else call, watch, limits, sent, messages=messages, headers=said, streamed=streamed
        )

    def _channel(self, address: Address) -> grpc.aio.Channel:
        channel = self._channels.get(address)
        if channel is None:
            host = f"[{address.host}]" if ":" in address.host else address.host
            name = f"dns:///{host}:{address.port}"
            if address.tls:
                channel = grpc.aio.secure_channel(name, grpc.ssl_channel_credentials(), options=_OPTIONS)
            else:
                channel = grpc.aio.insecure_channel(name, options=_OPTIONS)
            self._channels[address] = channel
        return channel


async def _connect(channel: grpc.aio.Channel, watch: Watch, limits: Limits) -> None:
    """Returns when the channel is connected; whatever keeps it from that is FAULT_CONNECT."""
    try:
        with watch.within(limits.connect, errors_pb2.FAULT_CONNECT, UNREACHABLE):
            state = channel.get_state(try_to_connect=True)
            while state is not grpc.ChannelConnectivity.READY:
                if state in (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN):
                    raise NotConnectedError("no connection to any of its addresses")
                await channel.wait_for_state_change(state)
                state = channel.get_state(try_to_connect=True)
    except MeshError as error:
        if error.fault != errors_pb2.FAULT_STALL:
            raise
        raise MeshError.upstream(errors_pb2.FAULT_CONNECT, UNREACHABLE, cause="timeout") from None


async def _begun(call: Any, *, streamed: bool) -> tuple[list[bytes], dict[str, str], bool]:
    """The first message of an answer, metadata, and whether that is all; of a refusal the status as metadata.

    Raises:
        MeshError: the connection broke.
    """
    try:
        first = await call.read() if streamed else await call
    except grpc.aio.AioRpcError as error:
        _check(error, errors_pb2.FAULT_AMBIGUOUS, BROKE)
        return [], {**_texts(error.initial_metadata()), **_told(error)}, True
    headers = _texts(await call.initial_metadata())
    if not streamed:
        return [first], headers, True
    if first is grpc.aio.EOF:
        return [await _end(call)], headers, True
    return [grpc_frames.frame(first)], headers, False


async def _next(call: Any) -> tuple[bytes, bool]:
    """The next frame of a stream, and whether it is the last.

    Raises:
        MeshError: FAULT_TRUNCATED when the connection broke.
    """
    try:
        message = await call.read()
    except grpc.aio.AioRpcError as error:
        _check(error, errors_pb2.FAULT_TRUNCATED, BROKE_OFF)
        return grpc_frames.trailers(_told(error)), True
    if message is grpc.aio.EOF:
        return await _end(call), True
    return grpc_frames.frame(message), False


async def _end(call: Any) -> bytes:
    status = {grpc_frames.STATUS_KEY: "0"}
    return grpc_frames.trailers({**_texts(await call.trailing_metadata()), **status})


def _check(error: grpc.aio.AioRpcError, fault: errors_pb2.Fault.ValueType, message: str) -> None:
    """Raises what is the connection's failure and not the vendor's word."""
    details = error.details() or ""
    if _TOO_LARGE.search(details):
        text = f"the answer is larger than {MAX_ANSWER_BYTES} bytes"
        raise MeshError.upstream(errors_pb2.FAULT_BAD_ANSWER, text) from error
    if _UNREACHED.search(details):
        raise MeshError.upstream(errors_pb2.FAULT_CONNECT, UNREACHABLE, cause=details) from error
    if _LOST.search(details):
        raise MeshError.upstream(fault, message, cause=details) from error


def _told(error: grpc.aio.AioRpcError) -> dict[str, str]:
    """A status as the metadata that it is on the wire."""
    number, _ = error.code().value
    status = {grpc_frames.STATUS_KEY: str(number), grpc_frames.MESSAGE_KEY: error.details() or ""}
    return {**_texts(error.trailing_metadata()), **status}


def _texts(metadata: Iterable[tuple[str, str | bytes]] | None) -> dict[str, str]:
    """Metadata as headers: what is binary in base64."""
    return {
        name: base64.b64encode(value).decode() if isinstance(value, bytes) else value for name, value in metadata or ()
    }


def _addressed(head: bytes, headers: Mapping[str, str]) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Method and metadata out of a request's head and the headers of one call; what cannot be sent is left out."""
    first, *lines = head.decode("latin-1").removesuffix("\r\n").split("\r\n")
    given = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
    given |= headers
    metadata = tuple(
        (name, value)
        for name, value in given.items()
        if name not in _NOT_METADATA and _NAME.fullmatch(name) and value.isascii() and value.isprintable()
    )
    return first.split(" ")[1].partition("?")[0], metadata


@lru_cache(maxsize=256)
def _streams(path: str) -> bool:
    """Whether the contract says that a method's answer is a stream."""
    try:
        method = descriptor_pool.Default().FindMethodByName(path.removeprefix("/").replace("/", "."))
    except KeyError:
        return False
    return bool(method.server_streaming)
