"""Channels to services of the same process: the semantics of the network without its cost.

A generated stub cannot tell a `LocalChannel` from a real one: deadlines, cancellation in both directions, metadata,
status with details, trailers and back-pressure behave alike (tests/rpc/conformance runs the same cases over both). What
differs is the price: messages are passed, not serialised, and so must be treated as immutable; and a method runs in the
task of whoever waits for it, in a copy of the context, instead of in a task of its own. A stream's method runs only
while its reader waits for the next message, which is back-pressure without a queue.

The contract has unary calls and server streams; a channel refuses to make other kinds (cf. gRPC Java's
InProcessChannelBuilder, which inspired this one).
"""

import asyncio
import contextlib
import contextvars
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable, Mapping
from typing import Any, Final, NoReturn

import grpc
from grpc.aio import AioRpcError, Metadata

from polyroute.mesh import scope as scopes
from polyroute.mesh.guard import LOCAL_PEER, Stream, Unary

Sent = tuple[tuple[str, str | bytes], ...]

EOF: Final = grpc.aio.EOF
_NOTHING: Final = object()
_RUNTIME_DETAILS: Final = {
    grpc.StatusCode.DEADLINE_EXCEEDED: "Deadline Exceeded",
    grpc.StatusCode.CANCELLED: "Locally cancelled by application!",
}


class _Service:
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
        self._methods: dict[str, tuple[Unary | Stream, _Service]] = {}
        self._services: dict[str, _Service] = {}

    def add(self, methods: Mapping[str, Unary | Stream]) -> None:
        """Serves methods, by path, from now on."""
        for path, method in methods.items():
            self._methods[path] = (method, self._services.setdefault(_service_of(path), _Service()))

    def remove(self, services: Iterable[str]) -> list[_Service]:
        """Refuses new calls of services from now on; running ones go on, and can be waited for by `drained`."""
        removed = [self._services.pop(name) for name in services if name in self._services]
        self._methods = {path: pair for path, pair in self._methods.items() if _service_of(path) in self._services}
        return removed

    async def drained(self, services: Iterable[_Service], grace: float) -> None:
        """Waits until no call of `services` is running, at most `grace` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                for service in services:
                    if service.running:
                        service.idle = asyncio.Event()
                        await service.idle.wait()

    def find(self, path: str) -> tuple[Unary | Stream, _Service]:
        """The method at `path`, and its service.

        Raises:
            AioRpcError: UNIMPLEMENTED or, for a service that is not (or no longer) here, UNAVAILABLE.
        """
        found = self._methods.get(path)
        if found is not None:
            return found
        if _service_of(path) in self._services:
            raise _error(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
        raise _error(grpc.StatusCode.UNAVAILABLE, "the service is not running in this process")


def _service_of(path: str) -> str:
    return path[1 : path.rindex("/")]


class LocalContext(grpc.aio.ServicerContext[Any, Any]):
    """What a servicer sees of a local call."""

    def __init__(self, metadata: Sent, deadline: float | None, loop: asyncio.AbstractEventLoop) -> None:
        self._metadata = metadata
        self._deadline = deadline
        self._loop = loop
        self.initial: Metadata | None = None
        self.trailing: Metadata | None = None
        self._code: grpc.StatusCode = grpc.StatusCode.OK
        self._details = ""

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> NoReturn:
        """Ends the call with a status that is not OK."""
        self._code, self._details = code, details
        if trailing_metadata:
            self.trailing = Metadata(*trailing_metadata)
        raise grpc.aio.AbortError(details)

    async def abort_with_status(self, status: grpc.Status) -> NoReturn:
        """Ends the call with a status that is not OK."""
        await self.abort(status.code, status.details, status.trailing_metadata or ())

    async def send_initial_metadata(self, initial_metadata: Any) -> None:
        """Sets the metadata that the caller sees before the first message."""
        self.initial = Metadata(*initial_metadata)

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:
        """Sets the metadata that the caller sees after the last message."""
        self.trailing = Metadata(*trailing_metadata)

    def invocation_metadata(self) -> Sent:  # type: ignore[override] # pairs, as the network's server has them
        """The metadata the caller sent."""
        return self._metadata

    def set_code(self, code: grpc.StatusCode) -> None:
        """Sets the status code that the call ends with."""
        self._code = code

    def set_details(self, details: str) -> None:
        """Sets the text that the call ends with."""
        self._details = details

    def code(self) -> grpc.StatusCode:
        """The status code so far."""
        return self._code

    def details(self) -> str:
        """The status text so far."""
        return self._details

    def trailing_metadata(self) -> Metadata:
        """The trailing metadata so far."""
        return self.trailing or Metadata()

    def time_remaining(self) -> float | None:  # type: ignore[override] # typeshed forgets that there may be no deadline
        """Seconds until the caller gives up; None when it never does."""
        return None if self._deadline is None else self._deadline - self._loop.time()

    def peer(self) -> str:
        """Who calls: this process."""
        return LOCAL_PEER

    def peer_identities(self) -> None:
        """No certificate stands behind a local call."""
        return

    def peer_identity_key(self) -> None:
        """No certificate stands behind a local call."""
        return

    def auth_context(self) -> Mapping[str, Any]:
        """No certificate stands behind a local call."""
        return {}

    async def read(self) -> NoReturn:
        """The contract has no client streams."""
        raise NotImplementedError("the contract has no client streams")

    async def write(self, message: Any) -> NoReturn:
        """Methods yield their messages."""
        raise NotImplementedError("a server stream is written as an async generator")

    def set_compression(self, compression: grpc.Compression) -> None:
        """Nothing is compressed on the way to the same process."""

    def disable_next_message_compression(self) -> None:
        """Nothing is compressed on the way to the same process."""


class _Call:
    """What unary calls and streams share: status, deadline, cancellation, and driving the method step by step.

    `_step` runs one awaitable of the method (the whole of a unary one, one message of a stream) in the task that waits,
    inside the call's own copy of the context, as if it were a task of its own: cancelling the waiting task cancels it,
    and so do the deadline and `cancel()`, which reach it through the waiting task and are turned into a status there.
    """

    def __init__(self, server: LocalServer, path: str, timeout: float | None, metadata: Any) -> None:
        scope = scopes.CURRENT.get()
        timeout = scopes.shortened(timeout)
        sent: Sent = scope.metadata if scope is not None else ()
        if metadata:
            sent = (*sent, *metadata)
        self._loop = asyncio.get_running_loop()
        self._method, self._service = server.find(path)
        self._deadline = None if timeout is None else self._loop.time() + timeout
        self._context = LocalContext(sent, self._deadline, self._loop)
        self._vars = contextvars.copy_context()
        self._runner: asyncio.Task[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ended: grpc.StatusCode | None = None  # set by the deadline or by cancel() before the method has ended
        self._status: AioRpcError | None = None
        self._done = False
        self._callbacks: list[Callable[[Any], None]] | None = None
        self._service.running += 1

    def _step(self, awaitable: Any) -> Generator[Any, Any, Any]:
        """Drives an awaitable (an object with `send` and `throw`) to its result.

        Raises:
            AioRpcError: The method, the deadline or `cancel()` ended the call.
        """
        run = self._vars.run
        try:
            if self._ended is not None:
                run(awaitable.close)
                raise asyncio.CancelledError  # noqa: TRY301 - the one below tells who cancelled
            waiting = run(awaitable.send, None)
            self._suspended()
            while True:
                try:
                    sent = yield waiting
                except BaseException as error:  # noqa: BLE001 - whatever reaches the waiting task reaches the method
                    waiting = run(awaitable.throw, error)
                else:
                    waiting = run(awaitable.send, sent)
        except StopIteration as stop:
            return stop.value
        except StopAsyncIteration:
            self._finish(self._context.code(), self._context.details())
            raise
        except asyncio.CancelledError:
            if self._ended is None:  # the one who waits was cancelled, and the call with it
                self._finish(grpc.StatusCode.CANCELLED)
                raise
            if self._runner is not None:
                self._runner.uncancel()
            failure = self._failed(self._ended)
            if self._ended is grpc.StatusCode.CANCELLED:  # as grpc.aio has it for a call that was cancelled here
                raise
            raise failure from None
        except grpc.aio.AbortError:
            raise self._failed(self._context.code(), self._context.details()) from None
        except Exception as error:
            raise self._failed(grpc.StatusCode.UNKNOWN, f"Unexpected {type(error)}: {error}") from error
        finally:
            self._runner = None

    def _suspended(self) -> None:
        """The method has to wait: from here on the deadline and `cancel()` need a task to reach it through."""
        self._runner = asyncio.current_task(self._loop)
        if self._deadline is not None and self._timer is None:
            self._timer = self._loop.call_at(self._deadline, self._end, grpc.StatusCode.DEADLINE_EXCEEDED)

    def _end(self, code: grpc.StatusCode) -> bool:
        """Ends the call from outside, by the deadline or on request; whether it was still going on."""
        if self._done or self._ended is not None:
            return False
        self._ended = code
        if self._runner is not None:
            self._runner.cancel()
        else:
            self._abandon()
        return True

    def _abandon(self) -> None:
        """Nobody waits just now: lets the method clean up by itself."""
        raise NotImplementedError

    def _failed(self, code: grpc.StatusCode, details: str | None = None) -> AioRpcError:
        self._finish(code, details)
        assert self._status is not None  # noqa: S101 - _finish sets it for every code but OK
        return self._status

    def _finish(self, code: grpc.StatusCode, details: str | None = None) -> None:
        if self._done:
            return
        self._done = True
        if self._timer is not None:
            self._timer.cancel()
        if code is not grpc.StatusCode.OK:
            text = _RUNTIME_DETAILS.get(code, "") if details is None else details
            self._status = _error(code, text, self._context.initial, self._context.trailing)
        self._service.left()
        for callback in self._callbacks or ():
            self._loop.call_soon(callback, self)

    def cancel(self) -> bool:
        """Cancels the call; False when it is over already."""
        return self._end(grpc.StatusCode.CANCELLED)

    def cancelled(self) -> bool:
        """Whether the call ended by cancellation."""
        return self._status is not None and self._status.code() is grpc.StatusCode.CANCELLED

    def done(self) -> bool:
        """Whether the call is over."""
        return self._done

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Calls `callback` with this call when it is over."""
        if self._done:
            self._loop.call_soon(callback, self)
        elif self._callbacks is None:
            self._callbacks = [callback]
        else:
            self._callbacks.append(callback)

    def time_remaining(self) -> float | None:
        """Seconds until the deadline; None without one."""
        return self._context.time_remaining()

    async def wait_for_connection(self) -> None:
        """There is nothing to connect to."""

    async def _settled(self) -> None:
        """Returns when the call is over."""
        over = self._loop.create_future()
        self.add_done_callback(lambda _: None if over.done() else over.set_result(None))
        await over

    async def initial_metadata(self) -> Metadata:
        """The metadata that came before the first message."""
        await self._begun()
        return self._context.initial or Metadata()

    async def _begun(self) -> None:
        """Returns when the method has run up to its first message or its end."""
        raise NotImplementedError

    async def trailing_metadata(self) -> Metadata:
        """The metadata that came after the last message."""
        await self._settled()
        return self._context.trailing_metadata()

    async def code(self) -> grpc.StatusCode:
        """The status code, once the call is over."""
        await self._settled()
        return self._status.code() if self._status else grpc.StatusCode.OK

    async def details(self) -> str:
        """The status text, once the call is over."""
        await self._settled()
        return (self._status.details() if self._status else self._context.details()) or ""


class LocalUnaryCall(_Call, grpc.aio.UnaryUnaryCall[Any, Any]):
    """A unary call. It begins when it is awaited or, like one over the network, at the next turn of the loop."""

    def __init__(self, server: LocalServer, path: str, request: Any, timeout: float | None, metadata: Any) -> None:
        super().__init__(server, path, timeout, metadata)
        self._request = request
        self._task: asyncio.Task[Any] | None = None
        self._started = False
        self._start = self._loop.call_soon(self._run_alone)

    def __await__(self) -> Generator[Any, Any, Any]:
        if not self._started:
            self._start.cancel()
            self._started = True
            return (yield from self._drive())
        return (yield from self._result().__await__())

    def _drive(self) -> Generator[Any, Any, Any]:
        method: Any = self._method
        response = yield from self._step(self._vars.run(method, self._request, self._context))
        code = self._context.code()
        if code is not grpc.StatusCode.OK:
            raise self._failed(code, self._context.details())
        self._finish(code)
        return response

    def _run_alone(self) -> None:
        if not self._started:
            self._started = True
            self._task = self._loop.create_task(_awaited(self._drive()))
            self._task.add_done_callback(_seen)

    async def _result(self) -> Any:
        if self._task is None:
            await self._settled()  # someone else waits for it inline
            if self._status is not None:
                raise self._status
            raise RuntimeError("a unary call is awaited once")
        return await self._task

    def _abandon(self) -> None:
        if not self._started:
            self._started = True
            self._start.cancel()
            self._finish(self._ended or grpc.StatusCode.CANCELLED)

    async def _begun(self) -> None:
        await self._settled()


class LocalStreamCall(_Call, grpc.aio.UnaryStreamCall[Any, Any]):
    """A server stream, read with `async for` or `read()`."""

    def __init__(self, server: LocalServer, path: str, request: Any, timeout: float | None, metadata: Any) -> None:
        super().__init__(server, path, timeout, metadata)
        method: Any = self._method
        self._messages: AsyncIterator[Any] = self._vars.run(method, request, self._context)
        self._first: asyncio.Task[Any] | None = None  # the first message, when nobody waited for it
        self._pulled = False
        self._closing: asyncio.Task[None] | None = None
        self._start = self._loop.call_soon(self._run_ahead)

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    def __anext__(self) -> Awaitable[Any]:
        return self._Next(self)

    class _Next:
        """One pull: awaits the next message in the task of the reader."""

        __slots__ = ("_call",)

        def __init__(self, call: "LocalStreamCall") -> None:
            self._call = call

        def __await__(self) -> Generator[Any, Any, Any]:
            return self._call._pull()  # noqa: SLF001 - a part of the call

    async def read(self) -> Any:
        """The next message; EOF after the last."""
        try:
            return await self.__anext__()
        except StopAsyncIteration:
            return EOF

    def _pull(self) -> Generator[Any, Any, Any]:
        if self._first is not None:
            first, self._first = self._first, None
            message = yield from first.__await__()
            if message is _NOTHING:
                raise StopAsyncIteration
            return message
        if self._done:
            if self._status is not None:
                raise self._status
            raise StopAsyncIteration
        if not self._pulled:
            self._pulled = True
            self._start.cancel()
        try:
            return (yield from self._step(self._messages.__anext__()))
        except StopAsyncIteration:
            if self._status is not None:
                raise self._status from None
            raise

    def _run_ahead(self) -> None:
        """Runs the method up to its first message, as it would on the other side of a network."""
        if not self._pulled and not self._done:
            self._pulled = True
            self._first = self._loop.create_task(_awaited(self._peek()))
            self._first.add_done_callback(_seen)

    def _peek(self) -> Generator[Any, Any, Any]:
        try:
            return (yield from self._step(self._messages.__anext__()))
        except StopAsyncIteration:
            return _NOTHING

    def _abandon(self) -> None:
        self._pulled = True
        self._start.cancel()
        code = self._ended or grpc.StatusCode.CANCELLED
        self._closing = self._loop.create_task(self._close(code), context=self._vars)

    async def _close(self, code: grpc.StatusCode) -> None:
        messages: Any = self._messages
        try:
            await messages.aclose()
        finally:
            self._finish(code)

    async def _begun(self) -> None:
        self._start.cancel()
        self._run_ahead()
        if self._first is not None:
            await asyncio.wait([self._first])


class _UnaryUnary(grpc.aio.UnaryUnaryMultiCallable[Any, Any]):
    def __init__(self, server: LocalServer, path: str) -> None:
        self._server = server
        self._path = path

    def __call__(self, request: Any, *, timeout: float | None = None, metadata: Any = None, **_: Any) -> Any:
        if timeout is None:
            raise TypeError(f"a unary call needs a timeout: {self._path}")
        return LocalUnaryCall(self._server, self._path, request, timeout, metadata)


class _UnaryStream(grpc.aio.UnaryStreamMultiCallable[Any, Any]):
    def __init__(self, server: LocalServer, path: str) -> None:
        self._server = server
        self._path = path

    def __call__(self, request: Any, *, timeout: float | None = None, metadata: Any = None, **_: Any) -> Any:
        return LocalStreamCall(self._server, self._path, request, timeout, metadata)


class LocalChannel(grpc.aio.Channel):
    """A channel to the services of this process."""

    def __init__(self, server: LocalServer) -> None:
        self._server = server

    def unary_unary(self, method: str, *_: Any, **__: Any) -> _UnaryUnary:
        """A callable for a unary method."""
        return _UnaryUnary(self._server, method)

    def unary_stream(self, method: str, *_: Any, **__: Any) -> _UnaryStream:
        """A callable for a server stream."""
        return _UnaryStream(self._server, method)

    def stream_unary(self, method: str, *_: Any, **__: Any) -> NoReturn:
        """The contract has no client streams."""
        raise NotImplementedError(f"the contract has no client streams: {method}")

    def stream_stream(self, method: str, *_: Any, **__: Any) -> NoReturn:
        """The contract has no client streams."""
        raise NotImplementedError(f"the contract has no client streams: {method}")

    async def __aenter__(self) -> "LocalChannel":
        return self

    async def __aexit__(self, *_: object) -> None:
        return

    async def close(self, grace: float | None = None) -> None:
        """There is nothing to close."""

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """Always connected."""
        return grpc.ChannelConnectivity.READY

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Returns when the state is another; READY never changes."""
        if last_observed_state is grpc.ChannelConnectivity.READY:
            await asyncio.get_running_loop().create_future()

    async def channel_ready(self) -> None:
        """Always connected."""


def _error(
    code: grpc.StatusCode, details: str, initial: Metadata | None = None, trailing: Metadata | None = None
) -> AioRpcError:
    return AioRpcError(code, initial or Metadata(), trailing or Metadata(), details=details, debug_error_string="")


async def _awaited(steps: Generator[Any, Any, Any]) -> Any:
    """A generator of steps as a coroutine, for a task of its own."""
    return await _Steps(steps)


class _Steps:
    __slots__ = ("_steps",)

    def __init__(self, steps: Generator[Any, Any, Any]) -> None:
        self._steps = steps

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._steps


def _seen(task: asyncio.Task[Any]) -> None:
    """Takes note of a result that nobody may ask for, so that the loop does not warn of it."""
    if not task.cancelled():
        task.exception()
