"""Processes of the mesh: who may call, how one stops, how one that comes back is found again."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import grpc
import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc

from polyroute.api.auth.v1 import auth_pb2, auth_pb2_grpc
from polyroute.api.errors.v1 import errors_pb2
from polyroute.api.providers.v1 import providers_pb2, providers_pb2_grpc
from polyroute.mesh.config import MeshConfig
from polyroute.mesh.errors import MeshError, from_rpc
from polyroute.mesh.node import Node, Service
from tests.rpc.providers.wire import request

T = 5.0
NAME = "polyroute.api.auth.v1.AuthService"
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
Context = grpc.aio.ServicerContext[Any, Any]


class Auth(auth_pb2_grpc.AuthServiceServicer):
    """Counts its calls; the first ones wait for `gate` when there is one."""

    def __init__(self, gate: asyncio.Event | None = None) -> None:
        self.gate = gate
        self.calls = 0
        self.watches = 0

    async def LeaseLimits(self, request: auth_pb2.LeaseLimitsRequest, context: Context) -> auth_pb2.LeaseLimitsResponse:
        raise NotImplementedError

    async def GetCommonLimits(
        self, request: auth_pb2.GetCommonLimitsRequest, context: Context
    ) -> auth_pb2.GetCommonLimitsResponse:
        raise NotImplementedError

    async def Authorize(self, request: auth_pb2.AuthorizeRequest, context: Context) -> auth_pb2.AuthorizeResponse:
        self.calls += 1
        if self.gate is not None:
            await self.gate.wait()
        return auth_pb2.AuthorizeResponse()

    async def CreateKey(self, request: auth_pb2.CreateKeyRequest, context: Context) -> auth_pb2.CreateKeyResponse:
        self.calls += 1
        if self.gate is not None:
            await self.gate.wait()
        return auth_pb2.CreateKeyResponse()

    async def WatchRevocations(
        self, request: auth_pb2.WatchRevocationsRequest, context: Context
    ) -> AsyncGenerator[auth_pb2.WatchRevocationsResponse]:
        self.watches += 1
        yield auth_pb2.WatchRevocationsResponse()
        await asyncio.Event().wait()

    async def ListKeys(self, request: auth_pb2.ListKeysRequest, context: Context) -> auth_pb2.ListKeysResponse:
        raise NotImplementedError

    async def RevokeKey(self, request: auth_pb2.RevokeKeyRequest, context: Context) -> auth_pb2.RevokeKeyResponse:
        raise NotImplementedError


class Providers(providers_pb2_grpc.ProvidersServiceServicer):
    """Says one message, and another when it may."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()

    async def Generate(
        self, request: providers_pb2.GenerateRequest, context: Context
    ) -> AsyncGenerator[providers_pb2.GenerateResponse]:
        yield providers_pb2.GenerateResponse()
        await self.gate.wait()
        yield providers_pb2.GenerateResponse()

    def Relay(
        self, request: providers_pb2.RelayRequest, context: Context
    ) -> AsyncGenerator[providers_pb2.RelayResponse]:
        raise NotImplementedError

    async def Embed(self, request: providers_pb2.EmbedRequest, context: Context) -> providers_pb2.EmbedResponse:
        raise NotImplementedError

    def WatchProviders(
        self, request: providers_pb2.WatchProvidersRequest, context: Context
    ) -> AsyncGenerator[providers_pb2.WatchProvidersResponse]:
        raise NotImplementedError


@dataclass
class Mesh:
    """Processes that find each other below one folder."""

    folder: Path
    stack: AsyncExitStack
    settings: dict[str, Any] = field(default_factory=dict)

    def node(self, *roles: str, **settings: Any) -> Node:
        config = {"drain_delay": 0, "drain_grace": 0.5, **self.settings, **settings}
        node = Node(MeshConfig.model_validate(config), frozenset(roles), self.folder)
        self.stack.push_async_callback(node.close)
        return node

    async def auth(self, servicer: Auth, **settings: Any) -> str:
        """The address of an auth process."""
        serving = self.node("auth", **settings).serve("auth", service(servicer))
        return await self.stack.enter_async_context(serving)

    def stub(self, address: str = "", **settings: Any) -> Any:
        """A caller in a process of its own."""
        peers = {"peers": {"auth": address}} if address else {}
        return auth_pb2_grpc.AuthServiceStub(self.node(**peers, **settings).channel("auth"))


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncGenerator[Mesh]:
    async with AsyncExitStack() as stack:
        yield Mesh(tmp_path / "run", stack)


def service(servicer: Auth) -> Service:
    return Service(auth_pb2_grpc.add_AuthServiceServicer_to_server, servicer)


def asked(stub: Any, seconds: float = T) -> Any:
    return stub.Authorize(auth_pb2.AuthorizeRequest(credential="pr-x"), timeout=seconds)


async def refused(call: Awaitable[object]) -> MeshError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc(caught.value)


async def until(seen: Callable[[], object]) -> None:
    async with asyncio.timeout(T):
        while not seen():
            await asyncio.sleep(0.005)


class TestPeers:
    async def test_token_over_tcp(self, mesh: Mesh) -> None:
        """Whoever has it is answered; whoever has not, or another, is not."""
        address = await mesh.auth(Auth(), listen={"auth": "127.0.0.1:0"}, token="t0ken")
        await asked(mesh.stub(address, token="t0ken"))
        reasons = [(await refused(asked(mesh.stub(address, token=token)))).reason for token in ("", "other")]

        assert [errors_pb2.REASON_CREDENTIAL_MISSING] * 2 == reasons

    async def test_unix_socket_needs_no_token(self, mesh: Mesh) -> None:
        """Its folder is the same user's alone."""
        await mesh.auth(Auth(), token="t0ken")
        await asked(mesh.stub())

        assert 0o700 == mesh.folder.stat().st_mode & 0o777

    async def test_mutual_tls(self, mesh: Mesh, tmp_path: Path) -> None:
        """The right authority and a name that may call; the token is then not asked for."""
        authority, stranger = trustme.CA(), trustme.CA()
        server = tls(tmp_path, authority, "auth", allowed={"auth": ["edge", "cli"]})
        address = await mesh.auth(Auth(), listen={"auth": "127.0.0.1:0"}, tls=server, token="t0ken")
        await asked(mesh.stub(address, tls=tls(tmp_path, authority, "edge")))
        other = await refused(asked(mesh.stub(address, tls=tls(tmp_path, authority, "metrics"))))
        forged = await refused(asked(mesh.stub(address, tls=tls(tmp_path, stranger, "edge", trusts=authority)), 1.0))
        plain = await refused(asked(mesh.stub(address), 1.0))

        assert errors_pb2.REASON_NOT_PERMITTED == other.reason
        assert {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED} >= {forged.code, plain.code}

    async def test_one_method_is_open_to_others(self, mesh: Mesh, tmp_path: Path) -> None:
        """To those that are named for it, who may call no other."""
        authority = trustme.CA()
        allowed = {"auth": ["edge"], "auth/Authorize": ["metrics"], "auth/RevokeKey": ["router"]}
        server = tls(tmp_path, authority, "auth", allowed=allowed)
        address = await mesh.auth(Auth(), listen={"auth": "127.0.0.1:0"}, tls=server)
        let_in = await asked(mesh.stub(address, tls=tls(tmp_path, authority, "metrics")))
        other = await refused(asked(mesh.stub(address, tls=tls(tmp_path, authority, "router"))))

        assert auth_pb2.AuthorizeResponse() == let_in
        assert errors_pb2.REASON_NOT_PERMITTED == other.reason

    async def test_server_of_another_authority_is_not_believed(self, mesh: Mesh, tmp_path: Path) -> None:
        """It is not even asked: a credential would be in the question."""
        authority, stranger = trustme.CA(), trustme.CA()
        servicer = Auth()
        address = await mesh.auth(servicer, listen={"auth": "127.0.0.1:0"}, tls=tls(tmp_path, stranger, "auth"))
        await refused(asked(mesh.stub(address, tls=tls(tmp_path, authority, "edge")), 1.0))

        assert 0 == servicer.calls

    async def test_role_without_a_list_admits_every_certificate(self, mesh: Mesh, tmp_path: Path) -> None:
        """That its authority has signed."""
        authority = trustme.CA()
        address = await mesh.auth(Auth(), listen={"auth": "127.0.0.1:0"}, tls=tls(tmp_path, authority, "auth"))

        assert auth_pb2.AuthorizeResponse() == await asked(mesh.stub(address, tls=tls(tmp_path, authority, "any")))


def tls(
    folder: Path,
    authority: trustme.CA,
    name: str,
    *,
    trusts: trustme.CA | None = None,
    allowed: dict[str, list[str]] | None = None,
) -> dict[str, Any]:
    """A process's certificate and whom it trusts, as settings."""
    own = folder / f"{name}-{id(authority)}"
    own.mkdir(exist_ok=True)
    issued = authority.issue_cert("127.0.0.1", common_name=name)
    issued.private_key_pem.write_to_path(str(own / "key.pem"))
    issued.cert_chain_pems[0].write_to_path(str(own / "cert.pem"))
    (trusts or authority).cert_pem.write_to_path(str(own / "ca.pem"))
    return {"cert": own / "cert.pem", "key": own / "key.pem", "ca": own / "ca.pem", "allowed": allowed or {}}


class TestDrain:
    async def test_not_serving_is_said_before_anything_is_refused(self, mesh: Mesh) -> None:
        """Balancers have time to notice; whoever has not noticed yet is answered until then."""
        node, caller = mesh.node("auth", drain_delay=0.2), mesh.node()
        stopping = asyncio.Event()

        async def serve() -> None:
            async with node.serve("auth", service(Auth())):
                await stopping.wait()

        serving = asyncio.create_task(serve())
        await asked(mesh.stub())
        async with grpc.aio.insecure_channel(f"unix:{mesh.folder}/auth.sock") as careless:
            health: Any = health_pb2_grpc.HealthStub(caller.channel("auth"))
            watch = health.Watch(health_pb2.HealthCheckRequest(service=NAME))
            said = [(await watch.read()).status]
            stopping.set()
            said.append((await watch.read()).status)
            answer = await asked(auth_pb2_grpc.AuthServiceStub(careless))
            still_there = not serving.done()
            await serving
            late = await refused(asked(auth_pb2_grpc.AuthServiceStub(careless)))

        assert ([SERVING, NOT_SERVING], auth_pb2.AuthorizeResponse(), True) == (said, answer, still_there)
        assert errors_pb2.REASON_SERVICE_UNAVAILABLE == late.reason

    async def test_callers_of_the_mesh_notice(self, mesh: Mesh) -> None:
        """They do not send anything to a role that says that it is not ready, and wait for one that is."""
        servicer = Auth()
        node = mesh.node("auth")
        async with node.serve("auth", service(servicer)):
            node.set_serving("auth", serving=False)
            asking = asyncio.ensure_future(asked(mesh.stub()))
            await asyncio.sleep(0.1)
            before = servicer.calls
            node.set_serving("auth", serving=True)
            await asking

        assert (0, 1) == (before, servicer.calls)

    async def test_watches_do_not_keep_it_waiting(self, mesh: Mesh) -> None:
        """They are cut, and their watchers hear it as an error, not as the end."""
        servicer = Auth()
        node = mesh.node("auth", drain_grace=T)
        async with node.serve("auth", service(servicer)):
            watch = mesh.stub().WatchRevocations(auth_pb2.WatchRevocationsRequest())
            await watch.read()
            began = monotonic()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await watch.read()

        assert monotonic() - began < 1
        assert caught.value.code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNKNOWN)

    @pytest.mark.parametrize("kind", ["local", "unix"])
    async def test_running_answer_is_finished(self, mesh: Mesh, kind: str) -> None:
        """However its caller reaches it."""
        servicer = Providers()
        node = mesh.node("providers", drain_grace=T)
        caller = node if kind == "local" else mesh.node()
        register = providers_pb2_grpc.add_ProvidersServiceServicer_to_server
        stub = providers_pb2_grpc.ProvidersServiceStub(caller.channel("providers"))
        asyncio.get_running_loop().call_later(0.1, servicer.gate.set)
        async with node.serve("providers", Service(register, servicer)):
            call = stub.Generate(request(), timeout=T)
            messages = aiter(call)
            await anext(messages)
            finishing = asyncio.create_task(rest(messages))
        given = await finishing

        assert [providers_pb2.GenerateResponse()] == given
        assert grpc.StatusCode.OK == await call.code()

    async def test_answer_that_takes_too_long_is_ended(self, mesh: Mesh) -> None:
        """After its grace, and the process goes on to stop."""
        node = mesh.node("providers", drain_grace=0.1)
        register = providers_pb2_grpc.add_ProvidersServiceServicer_to_server
        stub = providers_pb2_grpc.ProvidersServiceStub(mesh.node().channel("providers"))
        async with node.serve("providers", Service(register, Providers())):
            call = stub.Generate(request(), timeout=T)
            await call.read()
            began = monotonic()
        error = await refused(call.read())

        assert monotonic() - began < 1
        assert grpc.StatusCode.DEADLINE_EXCEEDED != error.code


async def rest(messages: AsyncIterator[Any]) -> list[Any]:
    return [message async for message in messages]


class TestReturn:
    @pytest.mark.parametrize("kind", ["unix", "tcp"])
    async def test_server_that_is_back_is_found(self, mesh: Mesh, kind: str) -> None:
        """Within two seconds, however long it was away."""
        listen = {"auth": "127.0.0.1:0"} if kind == "tcp" else {}
        async with mesh.node("auth", listen=listen, drain_grace=0).serve("auth", service(Auth())) as address:
            stub = mesh.stub(address)
            await asked(stub)
        await refused(asked(stub, 0.5))
        async with mesh.node("auth", listen={"auth": address}).serve("auth", service(Auth())):
            began = monotonic()
            await asked(stub)

            assert monotonic() - began < 2

    async def test_harmless_call_outlives_its_server(self, mesh: Mesh) -> None:
        """Killed in the middle of it: the caller hears nothing of that, only the next one's answer."""
        dying, next_one = Auth(gate=asyncio.Event()), Auth()
        async with mesh.node("auth", drain_grace=0).serve("auth", service(dying)):
            asking = asyncio.ensure_future(asked(mesh.stub()))
            await until(lambda: dying.calls)
        async with mesh.node("auth").serve("auth", service(next_one)):
            await asking

        assert (1, 1) == (dying.calls, next_one.calls)

    async def test_call_with_effects_is_not_repeated(self, mesh: Mesh) -> None:
        """Nobody knows whether it was done."""
        dying, next_one = Auth(gate=asyncio.Event()), Auth()
        async with mesh.node("auth", drain_grace=0).serve("auth", service(dying)):
            asking = asyncio.ensure_future(mesh.stub().CreateKey(auth_pb2.CreateKeyRequest(), timeout=T))
            await until(lambda: dying.calls)
        async with mesh.node("auth").serve("auth", service(next_one)):
            error = await refused(asking)

        assert (errors_pb2.REASON_SERVICE_UNAVAILABLE, 0) == (error.reason, next_one.calls)

    async def test_call_waits_for_a_server_that_starts(self, mesh: Mesh) -> None:
        """Any role may start at any time, in any order."""
        asking = asyncio.ensure_future(asked(mesh.stub()))
        await asyncio.sleep(0.2)
        await mesh.auth(Auth())
        began = monotonic()
        await asking

        assert monotonic() - began < 2

    async def test_call_does_not_wait_for_ever(self, mesh: Mesh) -> None:
        """Its own time is the bound."""
        began = monotonic()
        error = await refused(asked(mesh.stub(), 0.3))

        assert errors_pb2.REASON_DEADLINE == error.reason
        assert monotonic() - began < 1


class TestHealth:
    async def test_of_a_role(self, mesh: Mesh) -> None:
        """Over the network and in this process: there, not ready, not there."""
        node, other = mesh.node("auth"), mesh.node()
        before = [await node.healthy("auth")]
        async with node.serve("auth", service(Auth())):
            ready = [await node.healthy("auth"), await other.healthy("auth")]
            node.set_serving("auth", serving=False)
            waiting = [await node.healthy("auth"), await other.healthy("auth")]

        assert ([False], [True, True], [False, False]) == (before, ready, waiting)

    async def test_nothing_but_health_is_told_to_strangers(self, mesh: Mesh) -> None:
        """No reflection, no channelz, unless asked for."""
        address = await mesh.auth(Auth(), listen={"auth": "127.0.0.1:0"})
        async with grpc.aio.insecure_channel(address) as channel:
            for path in (
                "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
                "/grpc.channelz.v1.Channelz/GetServers",
            ):
                ask: Any = channel.unary_unary(path)
                error = await refused(ask(b"", timeout=T))

                assert grpc.StatusCode.UNIMPLEMENTED == error.code

    async def test_reflection_on_request(self, mesh: Mesh) -> None:
        """For people with grpcurl."""
        address = await mesh.auth(Auth(), listen={"auth": "127.0.0.1:0"}, reflection=True)
        async with grpc.aio.insecure_channel(address) as channel:
            call: Any = channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")(
                timeout=T
            )
            await call.write(b":\x00")  # list_services
            listed = await call.read()

        assert NAME.encode() in listed


async def test_message_that_is_too_large(mesh: Mesh) -> None:
    """Is refused by its receiver, and the connection goes on."""
    address = await mesh.auth(Auth(), listen={"auth": "127.0.0.1:0"})
    async with grpc.aio.insecure_channel(address, options=[("grpc.max_send_message_length", -1)]) as channel:
        ask: Any = channel.unary_unary(f"/{NAME}/Authorize")
        error = await refused(ask(bytes(17 * 1024 * 1024), timeout=T))
        good = await ask(auth_pb2.AuthorizeRequest(credential="x").SerializeToString(), timeout=T)

    assert (errors_pb2.REASON_TOO_LARGE, b"") == (error.reason, good)


@pytest.mark.parametrize("sent", [b"\xff" * 9, b"\x0a\xff\xff", b"\x0b" * 10_000], ids=["garbage", "cut", "nested"])
async def test_bytes_that_are_no_message(mesh: Mesh, sent: bytes) -> None:
    """Are their sender's fault, and said to be."""
    address = await mesh.auth(Auth(), listen={"auth": "127.0.0.1:0"})
    async with grpc.aio.insecure_channel(address) as channel:
        ask: Any = channel.unary_unary(f"/{NAME}/Authorize")
        error = await refused(ask(sent, timeout=T))

    assert (grpc.StatusCode.INVALID_ARGUMENT, errors_pb2.REASON_INVALID_REQUEST) == (error.code, error.reason)


async def test_metadata_that_is_too_large(mesh: Mesh) -> None:
    """Is refused as well."""
    address = await mesh.auth(Auth(), listen={"auth": "127.0.0.1:0"})
    async with grpc.aio.insecure_channel(address) as channel:
        ask: Any = channel.unary_unary(f"/{NAME}/Authorize")
        error = await refused(ask(b"", timeout=T, metadata=(("x-large", "y" * 20_000),)))

    assert grpc.StatusCode.RESOURCE_EXHAUSTED == error.code
