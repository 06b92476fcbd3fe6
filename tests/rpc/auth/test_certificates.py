"""Services that administer by the client certificate of a connection: real certificates, over TCP."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from polyroute.api.auth.v1 import admin_pb2 as pb
from polyroute.api.auth.v1.admin_pb2_grpc import AdminServiceStub
from polyroute.api.errors.v1.errors_pb2 import (
    REASON_CREDENTIAL_INVALID,
    REASON_CREDENTIAL_MISSING,
    REASON_NOT_PERMITTED,
)
from polyroute.auth.config import AuthConfig
from polyroute.auth.people.config import Certificate
from polyroute.auth.wiring import assembled
from polyroute.mesh.config import MeshConfig, TlsConfig
from polyroute.mesh.errors import from_rpc
from polyroute.mesh.node import Node
from tests.databases import prepare

Connect = Callable[[str, trustme.CA], AdminServiceStub]
OURS, STRANGER = trustme.CA(), trustme.CA()


def tls(folder: Path, name: str, authority: trustme.CA) -> TlsConfig:
    """A process's certificate, by some authority; it trusts ours."""
    own = folder / f"{name}-{id(authority)}"
    own.mkdir()
    issued = authority.issue_cert("127.0.0.1", common_name=name)
    issued.private_key_pem.write_to_path(str(own / "key.pem"))
    issued.cert_chain_pems[0].write_to_path(str(own / "cert.pem"))
    OURS.cert_pem.write_to_path(str(own / "ca.pem"))
    return TlsConfig(cert=own / "cert.pem", key=own / "key.pem", ca=own / "ca.pem")


@pytest.fixture
async def connect(tmp_path: Path) -> AsyncGenerator[Connect]:
    """AdminService on TCP with TLS, for `robot`, an operator, and `report`, who may look at the first account."""
    data = prepare(tmp_path / "data")
    async with assembled(AuthConfig(), data_dir=data) as auth:
        account = (await auth.service._verdicts.authorize(auth.first_secret or "")).account_id
    known = {"robot": Certificate(), "report": Certificate(account=account, role="viewer")}
    async with AsyncExitStack() as stack:
        auth = await stack.enter_async_context(assembled(AuthConfig(certificates=known), data_dir=data))
        settings: dict[str, Any] = {"drain_delay": 0, "drain_grace": 0.2}
        server = MeshConfig(listen={"auth": "127.0.0.1:0"}, tls=tls(tmp_path, "auth", OURS), **settings)
        node = Node(server, frozenset({"auth"}), tmp_path / "run")
        address = await stack.enter_async_context(node.serve("auth", *auth.services))

        def stub(name: str, authority: trustme.CA) -> AdminServiceStub:
            config = MeshConfig(peers={"auth": address}, tls=tls(tmp_path, name, authority), **settings)
            caller = Node(config, frozenset(), tmp_path / "run")
            stack.push_async_callback(caller.close)
            return AdminServiceStub(caller.channel("auth"))

        yield stub


async def refusal(call: Any) -> Any:
    """What a call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return from_rpc(refused.value)


async def test_certificate_is_who_it_is_named_for(connect: Connect) -> None:
    """One is an operator, one a viewer, one of ours nobody; a name alone, without our authority, gets no answer."""
    robot, report = connect("robot", OURS), connect("report", OURS)
    made = await robot.CreateAccount(pb.CreateAccountRequest(name="made"), timeout=5)
    events = await robot.ListAuditEvents(pb.ListAuditEventsRequest(), timeout=5)
    seen = await report.ListAccounts(pb.ListAccountsRequest(), timeout=5)
    wrong = (("polyroute-admin", "pa-guess"),)
    refusals = [
        await refusal(report.CreateAccount(pb.CreateAccountRequest(name="x"), timeout=5)),
        await refusal(connect("metrics", OURS).ListAccounts(pb.ListAccountsRequest(), timeout=5)),
        await refusal(robot.ListAccounts(pb.ListAccountsRequest(), timeout=5, metadata=wrong)),
    ]
    forged = await refusal(connect("robot", STRANGER).ListAccounts(pb.ListAccountsRequest(), timeout=1))

    assert "service:robot" == events.events[0].actor
    assert ["default"] == [account.name for account in seen.accounts]
    assert made.account.id
    reasons = [REASON_NOT_PERMITTED, REASON_CREDENTIAL_MISSING, REASON_CREDENTIAL_INVALID]
    assert reasons == [error.reason for error in refusals]
    assert forged.code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
