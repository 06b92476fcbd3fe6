"""What happens around every method: who calls, which call it is, whether it can be answered, and what is said of it."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from polyroute.api.auth.v1.auth_pb2 import (
    AuthorizeRequest,
    AuthorizeResponse,
    ListKeysRequest,
    WatchRevocationsRequest,
    WatchRevocationsResponse,
)
from polyroute.api.chat.v1.chat_pb2 import ChatRequest
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.gateway.v1 import gateway_pb2
from polyroute.mesh import scope as scopes
from polyroute.mesh.errors import DETAILS_KEY, MeshError, from_rpc
from polyroute.mesh.guard import TOKEN_KEY, Guard, Method
from polyroute.mesh.telemetry import RpcMetrics

METHOD = Method("polyroute.api.auth.v1.AuthService", "Authorize")
WATCH = Method("polyroute.api.auth.v1.AuthService", "WatchRevocations", watch=True)
SECRET = "pr-very-secret"
GOOD = AuthorizeRequest(credential=SECRET)


class Aborted(grpc.aio.AbortError):
    def __init__(self, code: grpc.StatusCode, details: str, trailing: Any) -> None:
        super().__init__(details)
        self.error = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailing), details=details)


class Context:
    """A call as the network's server presents it."""

    def __init__(
        self, peer: str = "ipv4:10.0.0.9:1", left: float | None = 5.0, names: tuple[bytes, ...] = (), **metadata: Any
    ) -> None:
        self._peer, self._left, self._names = peer, left, names
        self._metadata = [(name.replace("_", "-"), value) for name, value in metadata.items()]

    def peer(self) -> str:
        return self._peer

    def time_remaining(self) -> float | None:
        return self._left

    def invocation_metadata(self) -> Any:
        return self._metadata

    def auth_context(self) -> dict[str, tuple[bytes, ...]]:
        return {"x509_common_name": self._names[:1], "x509_subject_alternative_name": self._names[1:]}

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing: Any = ()) -> None:
        raise Aborted(code, details, trailing)


def showing(token: str) -> Context:
    sent: dict[str, Any] = {TOKEN_KEY.replace("-", "_"): token}
    return Context(**sent)


@pytest.fixture(autouse=True)
def nothing_current() -> Iterator[None]:
    token = scopes.CURRENT.set(None)
    yield
    scopes.CURRENT.reset(token)


def guard(**settings: Any) -> Guard:
    return Guard(RpcMetrics(CollectorRegistry()), **settings)


async def answer(request: AuthorizeRequest, context: Any) -> AuthorizeResponse:
    return AuthorizeResponse()


async def call(made: Guard, context: Context, request: Any = GOOD, behaviour: Any = answer) -> Any:
    return await made.unary(METHOD, behaviour)(request, context)  # type: ignore[arg-type] # what is used of one


async def refused(made: Guard, context: Context, request: Any = GOOD, behaviour: Any = answer) -> MeshError:
    with pytest.raises(Aborted) as caught:
        await call(made, context, request, behaviour)
    return from_rpc(caught.value.error)


class TestPeers:
    @pytest.mark.parametrize("token", ["", "wrong", "t0kem", "t0ken "])
    async def test_token_is_asked_of_other_machines(self, token: str) -> None:
        """Without it nothing is answered."""
        context = showing(token) if token else Context()
        error = await refused(guard(token="t0ken"), context)

        assert (pb.REASON_CREDENTIAL_MISSING, grpc.StatusCode.UNAUTHENTICATED) == (error.reason, error.code)

    @pytest.mark.parametrize(
        "peer", ["ipv4:10.0.0.9:1", "ipv6:%5B::1%5D:1", "ipv4:127.0.0.1:1", "unixx:", "xlocal:", ""]
    )
    async def test_only_this_process_and_its_sockets_need_none(self, peer: str) -> None:
        """Loopback is not enough: other users of the machine are there as well."""
        assert pb.REASON_CREDENTIAL_MISSING == (await refused(guard(token="t0ken"), Context(peer))).reason

    @pytest.mark.parametrize("peer", ["local:", "unix:", "unix:/run/auth.sock"])
    async def test_same_process_and_unix_sockets(self, peer: str) -> None:
        """The operating system has checked who that is."""
        assert AuthorizeResponse() == await call(guard(token="t0ken", allowed=frozenset({"edge"})), Context(peer))

    async def test_right_token(self) -> None:
        """Opens."""
        assert AuthorizeResponse() == await call(guard(token="t0ken"), showing("t0ken"))

    @pytest.mark.parametrize(
        ("names", "reason"),
        [
            ((b"edge",), None),
            ((b"x", b"edge"), None),
            ((b"x",), pb.REASON_NOT_PERMITTED),
            ((), pb.REASON_NOT_PERMITTED),
            ((b"\xff",), pb.REASON_NOT_PERMITTED),
            ((b"edge.evil",), pb.REASON_NOT_PERMITTED),
        ],
    )
    async def test_names_in_a_certificate(self, names: tuple[bytes, ...], reason: int | None) -> None:
        """Common name or alternative name, whole."""
        made = guard(allowed=frozenset({"edge"}))
        outcome = None if reason is None else (await refused(made, Context(names=names))).reason
        if reason is None:
            await call(made, Context(names=names))

        assert reason == outcome

    async def test_public_door_admits_everybody(self) -> None:
        """Its callers show their own keys."""
        made = guard(token="t0ken", allowed=frozenset({"edge"}), public=True)

        assert AuthorizeResponse() == await call(made, Context())

    def test_token_is_not_shown(self) -> None:
        """Not even in a traceback's locals."""
        assert "t0ken" not in repr(guard(token="t0ken"))


class TestScope:
    async def scope(self, made: Guard, context: Context) -> scopes.Scope:
        seen: list[scopes.Scope | None] = []

        async def look(request: Any, context: Any) -> AuthorizeResponse:
            seen.append(scopes.CURRENT.get())
            return AuthorizeResponse()

        await call(made, context, behaviour=look)
        assert seen[0] is not None
        return seen[0]

    async def test_peers_ids_are_taken(self) -> None:
        """One call, one id in every process."""
        scope = await self.scope(guard(), Context(x_request_id="r-1", traceparent=f"00-{'a' * 32}-{'b' * 16}-01"))

        assert ("r-1", "a" * 32) == (scope.request_id, scope.trace_id)

    async def test_outsiders_ids_are_not(self) -> None:
        """It is the key of a record."""
        scope = await self.scope(guard(public=True), Context(x_request_id="r-1"))

        assert "r-1" != scope.request_id
        assert scope.request_id

    async def test_deadline_is_shaved(self) -> None:
        """So that a servicer whose own calls time out can still say so."""
        now = asyncio.get_running_loop().time()
        scope = await self.scope(guard(), Context(left=5.0))

        assert scope.deadline == pytest.approx(now + 5.0 - scopes.SHAVE, abs=0.02)
        assert None is (await self.scope(guard(), Context(left=None))).deadline

    async def test_too_little_time(self) -> None:
        """Work that cannot end in time is not begun."""
        assert pb.REASON_DEADLINE == (await refused(guard(), Context(left=scopes.LEAST - 0.01))).reason


class TestErrors:
    async def test_servicers_error_is_the_status(self) -> None:
        """With everything that it says."""

        async def refuse(request: Any, context: Any) -> None:
            raise MeshError(pb.REASON_RATE_LIMITED, "too many", metadata={"limit": "1"}, retry_after=2)

        error = await refused(guard(), Context(), behaviour=refuse)

        assert (pb.REASON_RATE_LIMITED, "too many", {"limit": "1"}, 2) == (
            error.reason,
            error.message,
            error.metadata,
            error.retry_after,
        )

    async def test_bug_says_nothing_outside(self) -> None:
        """Its text is in the log, once."""

        async def crash(request: Any, context: Any) -> None:
            raise ValueError("inner detail")

        with capture_logs() as logs:
            error = await refused(guard(), Context(), behaviour=crash)

        assert (pb.REASON_INTERNAL, "internal error", grpc.StatusCode.INTERNAL) == (
            error.reason,
            error.message,
            error.code,
        )
        assert 1 == sum(line["event"] == "rpc failed" and line["exc_info"] is True for line in logs)

    async def test_cancellation_stays_one(self) -> None:
        """Nobody waits for a status any more."""

        async def leave(request: Any, context: Any) -> None:
            raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            await call(guard(), Context(), behaviour=leave)

    async def test_malformed_request_names_the_field(self) -> None:
        """Every one of them; the method does not run."""
        question = gateway_pb2.ChatRequest(chat=ChatRequest(model="m" * 300, messages=[{"role": 99}]))  # type: ignore[list-item] # meant to be wrong
        error = await refused(guard(), Context(), request=question, behaviour=None)

        assert {"chat.model", "chat.messages[0].role"} == {field for field, _ in error.violations}
        assert error.metadata["param"] in {"chat.model", "chat.messages[0].role"}


class TestLog:
    @pytest.mark.parametrize("code", ["OK", "INVALID_ARGUMENT"])
    async def test_one_line_a_call_without_secrets(self, code: str) -> None:
        """Method, code, time, ids; nothing of the request."""
        request = GOOD if code == "OK" else AuthorizeRequest(credential=SECRET * 1000)
        context = Context(authorization=f"Bearer {SECRET}", x_request_id="r-1")
        with capture_logs() as logs:
            made = guard(token="")
            await (call(made, context, request) if code == "OK" else refused(made, context, request))
        [line] = logs

        assert ("rpc", METHOD.path, code) == (line["event"], line["method"], line["code"])
        assert "r-1" == line["request_id"]
        assert SECRET not in str(line)

    @pytest.mark.parametrize(("public", "level"), [(False, "debug"), (True, "info")])
    async def test_upkeep_is_no_news(self, public: bool, level: str) -> None:
        """What goes well with a call of nobody's is for who looks closely; at a door nobody names one."""
        with capture_logs() as logs:
            await call(guard(token="", public=public), Context())

        assert [level] == [line["log_level"] for line in logs]

    async def test_refused_peer_is_logged(self) -> None:
        """Without an id: it has not been given one. It is not believed what it says, either."""
        with capture_logs() as logs:
            await refused(guard(token="t0ken"), Context(x_request_id="r-1"))

        assert [("UNAUTHENTICATED", "")] == [(line["code"], line["request_id"]) for line in logs]


class Watch:
    """A stream that goes on until it is left."""

    def __init__(self) -> None:
        self.ended = False

    async def __call__(self, request: Any, context: Any) -> AsyncGenerator[WatchRevocationsResponse]:
        try:
            while True:
                yield WatchRevocationsResponse()
                await asyncio.sleep(0)
        finally:
            self.ended = True


class TestStreams:
    async def test_leaving_cleans_up_at_once(self) -> None:
        """The method's own clean-up has run when the stream is closed."""
        watch = Watch()
        stream: Any = guard().stream(WATCH, watch)(WatchRevocationsRequest(), Context())  # type: ignore[arg-type] # what is used of one
        async with aclosing(stream):
            await anext(stream)

        assert watch.ended

    async def test_malformed_request(self) -> None:
        """Is refused before the first message."""
        stream: Any = guard().stream(WATCH, Watch())(WatchRevocationsRequest(revision=-1), Context())  # type: ignore[arg-type] # what is used of one
        with pytest.raises(Aborted) as caught:
            await anext(stream)

        assert "revision" == from_rpc(caught.value.error).metadata["param"]

    @pytest.mark.parametrize(("peer", "cut"), [("unix:", True), ("ipv4:127.0.0.1:1", True), ("local:", False)])
    async def test_watches_of_other_processes_are_cut(self, peer: str, cut: bool) -> None:
        """They would keep a draining server waiting; those of this process end with their role."""
        made, watch = guard(), Watch()
        stream: Any = made.stream(WATCH, watch)(WatchRevocationsRequest(), Context(peer))  # type: ignore[arg-type] # what is used of one

        async def read() -> None:
            async for _ in stream:
                pass

        reading = asyncio.create_task(read())
        await asyncio.sleep(0.01)
        made.cut_watches()
        await asyncio.wait([reading], timeout=0.1)
        ended = reading.done()
        reading.cancel()
        await asyncio.wait([reading])

        assert (cut, True) == (ended, watch.ended)

    async def test_stream_that_is_no_watch_is_not_cut(self) -> None:
        """An answer that is being made is finished."""
        made, watch = guard(), Watch()
        method = Method(WATCH.service, WATCH.name, watch=False)
        async with aclosing(made.stream(method, watch)(WatchRevocationsRequest(), Context())) as stream:  # type: ignore[arg-type, type-var] # what is used of one
            await anext(stream)
            made.cut_watches()
            await asyncio.sleep(0)
            await anext(stream)

            assert not watch.ended


async def test_every_request_of_the_contract_can_be_checked() -> None:
    """The rules compile, also for requests that have none."""
    assert AuthorizeResponse() == await call(guard(), Context(), request=ListKeysRequest())


def test_details_travel_under_grpcs_own_name() -> None:
    """So that every language's library finds them."""
    assert "grpc-status-details-bin" == DETAILS_KEY
