"""Local calls: unary ones and server streams, driven in the task of whoever waits for them."""

import asyncio
import contextvars
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator
from typing import Any, Final

import grpc
from grpc.aio import AioRpcError, Metadata

from polyroute.mesh import scope as scopes
from polyroute.mesh.guard import Context, Stream, Unary
from polyroute.mesh.inprocess.context import LocalContext
from polyroute.mesh.inprocess.server import Absent, LocalServer, rpc_error

EOF: Final = grpc.aio.EOF
_NOTHING: Final = object()
_RUNTIME_DETAILS: Final = {
    grpc.StatusCode.DEADLINE_EXCEEDED: "Deadline Exceeded",
    grpc.StatusCode.CANCELLED: "Locally cancelled by application!",
}


class _Call:
    """What unary calls and streams share: status, deadline, cancellation, and driving the method step by step.

    `_step` runs one awaitable of the method (the whole of a unary one, one message of a stream) in the task that waits,
    inside the call's own copy of the context, as if it were a task of its own: cancelling the waiting task cancels it,
    and so do the deadline and `cancel()`, which reach it through the waiting task and are turned into a status there.
    """

    absent: Absent  # makes the method that stands for one that is not here

    def __init__(self, server: LocalServer, path: str, timeout: float | None, metadata: Any) -> None:
        scope = scopes.CURRENT.get()
        timeout = scopes.shortened(timeout)
        self._loop = asyncio.get_running_loop()
        self._method, self._service = server.find(path, self.absent)
        self._deadline = None if timeout is None else self._loop.time() + timeout
        self._context = LocalContext(scope, tuple(metadata or ()), self._deadline, self._loop)
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
            self._status = rpc_error(code, text, self._context.initial, self._context.trailing)
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


def _absent_unary(code: grpc.StatusCode, details: str) -> Unary:
    async def method(request: Any, context: Context) -> None:
        await context.abort(code, details)

    return method


def _absent_stream(code: grpc.StatusCode, details: str) -> Stream:
    async def method(request: Any, context: Context) -> AsyncGenerator[Any]:
        await context.abort(code, details)
        yield  # type: ignore[unreachable] # makes it a generator

    return method


class LocalUnaryCall(_Call, grpc.aio.UnaryUnaryCall[Any, Any]):
    """A unary call. It begins when it is awaited or, like one over the network, at the next turn of the loop."""

    absent = staticmethod(_absent_unary)

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

    absent = staticmethod(_absent_stream)

    def __init__(self, server: LocalServer, path: str, request: Any, timeout: float | None, metadata: Any) -> None:
        super().__init__(server, path, timeout, metadata)
        method: Any = self._method
        self._messages: AsyncIterator[Any] = self._vars.run(method, request, self._context)
        self._first: asyncio.Task[Any] | None = None  # the first message, when nobody waited for it
        self._pulled = False
        self._closing: asyncio.Task[None] | None = None
        self._start = self._loop.call_soon(self._run_ahead)

    def __del__(self) -> None:
        # A reader that leaves without a word ends the call, as over the network. The loop's hook for generators closes
        # the method; what is left to do here may run in whichever thread collects.
        if not getattr(self, "_done", True) and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._service.left)

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
