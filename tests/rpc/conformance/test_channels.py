"""One suite for every kind of channel: what a caller may rely on, whichever way a call goes."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import grpc
import pytest

from polyroute.api.auth.v1 import auth_pb2, auth_pb2_grpc
from polyroute.api.errors.v1 import errors_pb2
from polyroute.mesh import scope as scopes
from polyroute.mesh.errors import MeshError, from_rpc
from polyroute.mesh.inprocess.channel import LocalChannel
from polyroute.mesh.node import Service

Context = grpc.aio.ServicerContext[Any, Any]
T = 10.0


class Probe(auth_pb2_grpc.AuthServiceServicer):
    """Does what the credential says, and remembers what it saw."""

    def __init__(self) -> None:
        self.seen: dict[str, Any] = {}
        self.ended = asyncio.Event()
        self.sent = 0

    async def LeaseLimits(self, request: auth_pb2.LeaseLimitsRequest, context: Context) -> auth_pb2.LeaseLimitsResponse:
        raise NotImplementedError

    async def Authorize(self, request: auth_pb2.AuthorizeRequest, context: Context) -> auth_pb2.AuthorizeResponse:
        self.seen = {
            "metadata": dict(context.invocation_metadata() or ()),
            "left": context.time_remaining(),
            "scope": scopes.CURRENT.get(),
        }
        try:
            await getattr(self, request.credential)(context)
        finally:
            self.ended.set()
        return auth_pb2.AuthorizeResponse(verdict=auth_pb2.Verdict(models=[request.credential]))

    async def quick(self, context: Context) -> None:
        return

    async def trailers(self, context: Context) -> None:
        await context.send_initial_metadata((("x-first", "1"),))
        context.set_trailing_metadata((("x-last", "2"),))

    async def refuse(self, context: Context) -> None:
        raise MeshError(errors_pb2.REASON_RATE_LIMITED, "too many calls", metadata={"limit": "60"}, retry_after=1.5)

    async def bare(self, context: Context) -> None:
        await context.abort(grpc.StatusCode.NOT_FOUND, "no such thing", (("x-last", "2"),))

    async def crash(self, context: Context) -> None:
        raise ValueError("secret detail")

    async def sleep(self, context: Context) -> None:
        await asyncio.sleep(30)

    async def GetCommonLimits(
        self, request: auth_pb2.GetCommonLimitsRequest, context: Context
    ) -> auth_pb2.GetCommonLimitsResponse:
        raise NotImplementedError("not part of the suite")

    async def CreateKey(self, request: auth_pb2.CreateKeyRequest, context: Context) -> auth_pb2.CreateKeyResponse:
        raise NotImplementedError("not part of the suite")

    async def ListKeys(self, request: auth_pb2.ListKeysRequest, context: Context) -> auth_pb2.ListKeysResponse:
        raise NotImplementedError("not part of the suite")

    async def RevokeKey(self, request: auth_pb2.RevokeKeyRequest, context: Context) -> auth_pb2.RevokeKeyResponse:
        raise NotImplementedError("not part of the suite")

    async def WatchRevocations(
        self, request: auth_pb2.WatchRevocationsRequest, context: Context
    ) -> AsyncGenerator[auth_pb2.WatchRevocationsResponse]:
        try:
            for number in range(request.revision):
                yield auth_pb2.WatchRevocationsResponse(revision=number, key_ids=["x" * 1024])
                self.sent += 1
                if number == 3 and request.revision == 5:
                    raise MeshError(errors_pb2.REASON_STREAM_BROKEN, "broken after four")
            if request.revision == 2:
                await asyncio.sleep(30)
        finally:
            self.ended.set()


Connect = Callable[..., Awaitable[grpc.aio.Channel]]


@pytest.fixture
def probe() -> Probe:
    return Probe()


@pytest.fixture
async def stub(link: Connect, probe: Probe) -> Any:
    channel = await link("auth", Service(auth_pb2_grpc.add_AuthServiceServicer_to_server, probe))
    return auth_pb2_grpc.AuthServiceStub(channel)


def ask(behaviour: str) -> auth_pb2.AuthorizeRequest:
    return auth_pb2.AuthorizeRequest(credential=behaviour)


def watch(count: int) -> auth_pb2.WatchRevocationsRequest:
    return auth_pb2.WatchRevocationsRequest(revision=count)


async def test_unary(stub: Any, probe: Probe) -> None:
    """A call gives its answer and ends OK."""
    call = stub.Authorize(ask("quick"), timeout=T)
    response = await call

    assert ["quick"] == list(response.verdict.models)
    assert await call.code() == grpc.StatusCode.OK
    assert call.done()
    assert not call.cancelled()


async def test_metadata_both_ways(stub: Any, probe: Probe) -> None:
    """Metadata goes with the request, before and after the answer."""
    call = stub.Authorize(ask("trailers"), timeout=T, metadata=(("x-sent", "0"),))
    await call

    assert "0" == probe.seen["metadata"]["x-sent"]
    assert "1" == dict(await call.initial_metadata())["x-first"]
    assert "2" == dict(await call.trailing_metadata())["x-last"]


async def test_scope_travels(stub: Any, probe: Probe) -> None:
    """The request id, the trace and what is left of the deadline reach the servicer."""
    deadline = asyncio.get_running_loop().time() + 5
    scope = scopes.Scope("req-1", f"00-{'a' * 32}-{'b' * 16}-01", deadline)
    token = scopes.CURRENT.set(scope)
    try:
        await stub.Authorize(ask("quick"), timeout=60)
    finally:
        scopes.CURRENT.reset(token)

    assert "req-1" == probe.seen["scope"].request_id
    assert probe.seen["scope"].trace_id == "a" * 32
    assert 4 < probe.seen["left"] <= 5
    assert probe.seen["scope"].deadline < deadline


async def test_servicer_scope_stays_inside(stub: Any) -> None:
    """What a servicer makes current is not current for its caller."""
    await stub.Authorize(ask("quick"), timeout=T)

    assert None is scopes.CURRENT.get()


async def test_status_with_details(stub: Any) -> None:
    """A refusal arrives as it was raised."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Authorize(ask("refuse"), timeout=T)
    error = from_rpc(caught.value)

    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "too many calls" == caught.value.details()
    assert (error.reason, error.metadata, error.retry_after) == (errors_pb2.REASON_RATE_LIMITED, {"limit": "60"}, 1.5)


async def test_bare_status(stub: Any) -> None:
    """A status without details keeps its code, text and trailers."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Authorize(ask("bare"), timeout=T)

    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    assert "no such thing" == caught.value.details()
    assert "2" == dict(caught.value.trailing_metadata() or ())["x-last"]


async def test_exception_is_internal_and_says_nothing(stub: Any) -> None:
    """An exception that nobody meant is INTERNAL, and its text stays in the log."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Authorize(ask("crash"), timeout=T)

    assert caught.value.code() == grpc.StatusCode.INTERNAL
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("kind", ["unix", "tcp"], indirect=True)  # what this process made was checked at its door
async def test_invalid_request_names_the_field(stub: Any) -> None:
    """protovalidate's rules are checked before the method runs, for whatever comes from another process."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Authorize(ask(""), timeout=T)
    error = from_rpc(caught.value)

    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "credential" == error.metadata["param"]
    assert "credential" == error.violations[0][0]


async def test_deadline(stub: Any, probe: Probe) -> None:
    """A call that takes too long ends with DEADLINE_EXCEEDED, and the method is cancelled."""
    began = time.monotonic()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        # with a tenth of a second left it would not begin, and a machine with much to do takes that long to deliver it
        await stub.Authorize(ask("sleep"), timeout=0.7)
    async with asyncio.timeout(1):
        await probe.ended.wait()

    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert time.monotonic() - began < 1.7


async def test_too_little_time_is_refused(stub: Any, probe: Probe) -> None:
    """Work that cannot finish in time is not begun."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Authorize(ask("quick"), timeout=0.05)

    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert probe.seen == {}


async def test_unary_needs_a_timeout(stub: Any) -> None:
    """A unary call without a timeout is a bug, and said so at once."""
    with pytest.raises(TypeError, match="timeout"):
        await stub.Authorize(ask("quick"))


async def test_cancel(stub: Any, probe: Probe) -> None:
    """Cancelling a call cancels the method."""
    call = stub.Authorize(ask("sleep"), timeout=T)
    waiting = asyncio.ensure_future(call)
    while not probe.seen:
        await asyncio.sleep(0.005)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    async with asyncio.timeout(1):
        await probe.ended.wait()

    assert call.cancelled()


async def test_cancelling_the_caller(stub: Any, probe: Probe) -> None:
    """Cancelling the task that waits cancels the method."""
    waiting = asyncio.ensure_future(stub.Authorize(ask("sleep"), timeout=T))
    while not probe.seen:
        await asyncio.sleep(0.005)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    async with asyncio.timeout(1):
        await probe.ended.wait()

    assert probe.ended.is_set()


async def test_call_runs_without_being_awaited(stub: Any, probe: Probe) -> None:
    """A call begins when it is made, not when it is awaited."""
    call = stub.Authorize(ask("quick"), timeout=T)
    async with asyncio.timeout(2):
        await probe.ended.wait()
    response = await call

    assert ["quick"] == list(response.verdict.models)


async def test_many_at_once(stub: Any) -> None:
    """Calls do not wait for each other."""
    answers = await asyncio.gather(*(stub.Authorize(ask("quick"), timeout=T) for _ in range(50)))

    assert 50 == len(answers)


async def test_stream(stub: Any) -> None:
    """A stream gives its messages in order and ends OK."""
    call = stub.WatchRevocations(watch(10), timeout=T)
    revisions = [message.revision async for message in call]

    assert list(range(10)) == revisions
    assert await call.code() == grpc.StatusCode.OK


async def test_stream_read(stub: Any) -> None:
    """Messages can be read one by one; EOF follows the last."""
    call = stub.WatchRevocations(watch(1), timeout=T)
    first = await call.read()
    second = await call.read()

    assert 0 == first.revision
    assert grpc.aio.EOF is second


async def test_stream_breaks_with_status(stub: Any) -> None:
    """What came before an error is handed out, then the error with its details."""
    revisions = []
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for message in stub.WatchRevocations(watch(5), timeout=T):
            revisions.append(message.revision)

    assert [0, 1, 2, 3] == revisions
    assert from_rpc(caught.value).reason == errors_pb2.REASON_STREAM_BROKEN


async def test_stream_deadline(stub: Any, probe: Probe) -> None:
    """A stream that lasts too long ends with DEADLINE_EXCEEDED while its reader waits."""
    call = stub.WatchRevocations(watch(2), timeout=0.7)
    revisions = []
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for message in call:
            revisions.append(message.revision)
    async with asyncio.timeout(1):
        await probe.ended.wait()

    assert [0, 1] == revisions
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


async def test_stream_cancel(stub: Any, probe: Probe) -> None:
    """Cancelling a stream between two messages ends the method."""
    call = stub.WatchRevocations(watch(1_000_000), timeout=T)
    await call.read()
    call.cancel()
    async with asyncio.timeout(2):
        await probe.ended.wait()

    assert call.cancelled()


async def test_stream_reader_cancelled(stub: Any, probe: Probe) -> None:
    """Cancelling the task that waits for the next message ends the method."""
    call = stub.WatchRevocations(watch(2), timeout=T)

    async def read_all() -> None:
        async for _ in call:
            pass

    reader = asyncio.create_task(read_all())
    while probe.sent < 2:
        await asyncio.sleep(0.005)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    async with asyncio.timeout(2):
        await probe.ended.wait()

    assert probe.ended.is_set()


async def test_stream_left_by_its_reader(link: Connect, probe: Probe) -> None:
    """A reader that leaves without a word ends the call: it keeps no server from draining."""
    channel = await link("auth", Service(auth_pb2_grpc.add_AuthServiceServicer_to_server, probe))
    watch = auth_pb2_grpc.AuthServiceStub(channel).WatchRevocations

    async for _ in watch(auth_pb2.WatchRevocationsRequest(revision=9)):
        break

    await asyncio.wait_for(probe.ended.wait(), T)
    if isinstance(channel, LocalChannel):
        await asyncio.sleep(0)
        services = channel._server.remove(["polyroute.api.auth.v1.AuthService"])
        assert [0] == [service.running for service in services]


async def test_back_pressure(stub: Any, probe: Probe) -> None:
    """A reader that stops stops the writer, within the flow-control window."""
    call = stub.WatchRevocations(watch(1_000_000), timeout=T)
    await call.read()
    await asyncio.sleep(0.3)
    sent = probe.sent
    await asyncio.sleep(0.3)
    call.cancel()

    assert sent == probe.sent
    assert sent * 1024 < 1_000_000


async def test_unknown_method(link: Connect, probe: Probe) -> None:
    """A method that nobody serves is UNIMPLEMENTED or its service UNAVAILABLE, never a hang."""
    channel = await link("auth", Service(auth_pb2_grpc.add_AuthServiceServicer_to_server, probe))
    missing = channel.unary_unary(
        "/polyroute.api.auth.v1.AuthService/Nothing",
        request_serializer=auth_pb2.AuthorizeRequest.SerializeToString,
        response_deserializer=auth_pb2.AuthorizeResponse.FromString,
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await missing(ask("quick"), timeout=T)

    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
