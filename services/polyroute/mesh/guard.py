"""What happens around every servicer method, in one place, whichever channel the call came by.

Order: who is the peer, which call is it, is there time left, is the request valid; then the method; then its error as a
status, one log line, one measurement. `unary` and `stream` are the whole chain for the two shapes of RPC that the
contract has.
"""

import asyncio
import hmac
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Final, NoReturn

import grpc
import structlog
from google.protobuf.message import Message

from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.mesh import scope as scopes
from polyroute.mesh.errors import DETAILS_KEY, MeshError
from polyroute.mesh.scope import Scope
from polyroute.mesh.telemetry import RpcMetrics
from polyroute.mesh.validation import Rules

Context = grpc.aio.ServicerContext[Any, Any]
Unary = Callable[[Any, Context], Awaitable[Any]]
Stream = Callable[[Any, Context], AsyncIterator[Any]]

MALFORMED: Final = object()  # in place of a request that is no message
TOKEN_KEY: Final = "polyroute-mesh-token"  # noqa: S105 - the name of a header
LOCAL_PEER: Final = "local:"  # what `context.peer()` says of a caller in the same process
# The operating system has checked these: the same process, or a socket in a folder that is this user's alone.
TRUSTED_PEERS: Final = (LOCAL_PEER, "unix:")

_log = structlog.get_logger("rpc")


@dataclass(frozen=True)
class Method:
    """A method of a service: `polyroute.api.auth.v1.AuthService` and `Authorize`.

    Args:
        service: Full name of the service.
        name: Name of the method.
        watch: A stream without side effects that has no end of its own; it is cut when the process drains.
    """

    service: str
    name: str
    watch: bool = False

    @property
    def path(self) -> str:
        """The method as it stands on the wire."""
        return f"/{self.service}/{self.name}"


@dataclass
class Guard:
    """The chain around the methods of one role.

    Args:
        metrics: Where durations go.
        token: The mesh's shared secret, which callers from other machines must present; empty when none is set.
        allowed: Names in a peer's certificate that may call; empty admits every certificate that the CA signed.
        public: The role's methods are a public door: callers identify themselves by their own key, not as peers.
        methods: Method -> names in certificates that may call it beside those, and nothing else.
    """

    metrics: RpcMetrics
    token: str = field(default="", repr=False)
    allowed: frozenset[str] = frozenset()
    public: bool = False
    methods: Mapping[str, frozenset[str]] = field(default_factory=dict)
    rules: Rules = field(default_factory=Rules, repr=False)
    _watches: set[asyncio.Task[Any]] = field(default_factory=set, repr=False)
    _cut: frozenset[asyncio.Task[Any]] = field(default=frozenset(), repr=False)

    def __post_init__(self) -> None:
        self._log = structlog.get_logger("rpc").bind()  # bound once: the look-up costs as much as the line
        self._logs = self._log.is_enabled_for(logging.INFO)

    def cut_watches(self) -> None:
        """Ends the watches of other processes, which would keep a draining server waiting; they watch another one."""
        self._cut = frozenset(self._watches)
        for task in self._cut:
            task.cancel()

    def unary(self, method: Method, behaviour: Unary) -> Unary:
        """`behaviour` with the chain around it."""
        path = method.path

        async def call(request: Message, context: Context) -> Message:
            started = perf_counter()
            scope: Scope | None = None
            code = grpc.StatusCode.OK
            try:
                scope = self._enter(context, request, method.name)
                return await behaviour(request, context)  # type: ignore[no-any-return] # a servicer's own answer
            except BaseException as error:  # noqa: BLE001 - the boundary: every end of a call has a status
                code = _code(error)
                return await _raise(error, method, context)
            finally:
                self._leave(path, scope or scopes.CURRENT.get(), code, started)

        return call

    def stream(self, method: Method, behaviour: Stream) -> Stream:
        """`behaviour`, an async generator, with the chain around it."""
        path = method.path

        async def call(request: Message, context: Context) -> AsyncGenerator[Message]:
            started = perf_counter()
            scope: Scope | None = None
            code = grpc.StatusCode.OK
            answers: Any = None
            watcher = asyncio.current_task() if method.watch and context.peer() != LOCAL_PEER else None
            try:
                scope = self._enter(context, request, method.name)
                if watcher is not None:
                    self._watches.add(watcher)
                answers = behaviour(request, context)
                async for answer in answers:
                    yield answer
            except BaseException as error:
                code = _code(error)
                if isinstance(error, GeneratorExit):  # the reader went away: nothing may be awaited for it any more
                    raise
                if watcher in self._cut and isinstance(error, asyncio.CancelledError) and not watcher.uncancel():
                    # said as a status: of a method that is cancelled gRPC tells its caller nothing, and waits on
                    error = MeshError(pb.REASON_SERVICE_UNAVAILABLE, "this process stops: watch another one")
                await _raise(error, method, context)
            finally:
                if watcher is not None:
                    self._watches.discard(watcher)
                if answers is not None:
                    await answers.aclose()  # the method's own clean-up runs now, not when the collector finds it
                self._leave(path, scope or scopes.CURRENT.get(), code, started)

        return call

    def _enter(self, context: Context, request: Message, method: str) -> Scope:
        left = context.time_remaining()
        deadline = None if left is None else asyncio.get_running_loop().time() + left - scopes.SHAVE
        caller: Scope | None = getattr(context, "scope", None)  # of this process: nothing was sent over a network
        if caller is not None:
            scope = Scope(caller.request_id, caller.traceparent, deadline, caller.upkeep)
        else:
            metadata = dict(context.invocation_metadata() or ())
            self._admit(context, metadata, method)
            # a caller from outside may not choose the id under which its call is recorded
            given = None if self.public else metadata.get(scopes.REQUEST_ID)
            request_id = str(given or scopes.new_request_id())
            trace = str(metadata.get(scopes.TRACE) or scopes.new_traceparent())
            scope = Scope(request_id, trace, deadline, upkeep=given is None and not self.public)
        scopes.CURRENT.set(scope)
        if context.peer() != LOCAL_PEER:  # what this process made itself was checked at its door
            if request is MALFORMED:
                raise MeshError(pb.REASON_INVALID_REQUEST, "the request is not the method's message")
            self.rules.check(request)
        if left is not None and left < scopes.LEAST:
            raise MeshError(pb.REASON_DEADLINE, f"less than {scopes.LEAST * 1000:.0f} ms of the call's time is left")
        return scope

    def _admit(self, context: Context, metadata: dict[str, str | bytes], method: str) -> None:
        if self.public or (context.peer() or "").startswith(TRUSTED_PEERS):
            return
        if self.allowed and not (self.allowed | self.methods.get(method, frozenset())).intersection(_names(context)):
            raise MeshError(pb.REASON_NOT_PERMITTED, "this peer's certificate may not call this service")
        if self.token and not hmac.compare_digest(str(metadata.get(TOKEN_KEY, "")), self.token):
            raise MeshError(pb.REASON_CREDENTIAL_MISSING, "the mesh token is missing or wrong")

    def _leave(self, path: str, scope: Scope | None, code: grpc.StatusCode, started: float) -> None:
        seconds = perf_counter() - started
        self.metrics.observe(path, code._name_, seconds)  # `name` is two calls more
        if not self._logs:
            return
        # loops ask every few seconds: what goes well with them is no news
        routine = scope is not None and scope.upkeep and code is grpc.StatusCode.OK
        say = self._log.debug if routine else self._log.info
        say(
            "rpc",
            method=path,
            code=code.name,
            ms=round(seconds * 1000, 3),
            request_id=scope.request_id if scope else "",
            trace_id=scope.trace_id if scope else "",
        )


async def _raise(error: BaseException, method: Method, context: Context) -> NoReturn:
    """Ends the RPC with the status that `error` stands for."""
    if isinstance(error, (asyncio.CancelledError, grpc.aio.AbortError)):
        raise error
    if not isinstance(error, MeshError):
        if not isinstance(error, Exception):
            raise error
        _log.exception("rpc failed", method=method.path)
        error = MeshError(pb.REASON_INTERNAL, "internal error")
    details = error.to_status().SerializeToString()
    await context.abort(error.code, error.message, ((DETAILS_KEY, details),))
    raise AssertionError("abort returned")


def _code(error: BaseException) -> grpc.StatusCode:
    if isinstance(error, MeshError):
        return error.code
    if isinstance(error, (asyncio.CancelledError, GeneratorExit)):
        return grpc.StatusCode.CANCELLED
    return grpc.StatusCode.INTERNAL


def _names(context: Context) -> Iterable[str]:
    """The names in the peer's certificate."""
    identity = context.auth_context()
    for key in ("x509_common_name", "x509_subject_alternative_name"):
        for value in identity.get(key, ()):
            yield value.decode("utf-8", "replace")
