"""Limits that bind more than one caller: set by an administrator, told to every edge."""

import grpc
import pytest

from polyroute.api.auth.v1 import admin_pb2, auth_pb2, limits_pb2
from polyroute.api.auth.v1.admin_pb2_grpc import AdminServiceStub
from polyroute.api.auth.v1.auth_pb2_grpc import AuthServiceStub
from polyroute.api.errors.v1 import errors_pb2
from polyroute.mesh.errors import from_rpc

T = 5.0
Admin = tuple[tuple[str, str]]


def limit(scope: str, model: str = "", amount: int = 60) -> limits_pb2.Limit:
    """Of requests."""
    return limits_pb2.Limit(scope=scope, kind=limits_pb2.LIMIT_KIND_REQUESTS, model=model, amount=amount)


async def put(stub: AdminServiceStub, admin: Admin, wanted: limits_pb2.Limit) -> None:
    """Sets a limit."""
    await stub.SetLimit(admin_pb2.SetLimitRequest(limit=wanted), timeout=T, metadata=admin)


async def test_edges_are_told_of_common_limits(
    auth_stub: AuthServiceStub, admin_stub: AdminServiceStub, admin: Admin
) -> None:
    """Of these and no others; shares of them are leased as those of keys are."""
    key = (await auth_stub.CreateKey(auth_pb2.CreateKeyRequest(name="k"), timeout=T)).key.id
    wanted = [limit("deployment", "a/x"), limit("installation"), limit("installation", "m")]
    for one in (*wanted, limit(key)):
        await put(admin_stub, admin, one)
    found = await auth_stub.GetCommonLimits(auth_pb2.GetCommonLimitsRequest(), timeout=T)
    claims = [
        auth_pb2.LimitClaim(scope="deployment", kind=limits_pb2.LIMIT_KIND_REQUESTS, model="a/x", needed=11, wanted=11),
        auth_pb2.LimitClaim(
            scope="catalog", kind=limits_pb2.LIMIT_KIND_CONCURRENCY, model="a/x", needed=3, wanted=9, amount=4
        ),
    ]
    request = auth_pb2.LeaseLimitsRequest(holder="e", claims=claims)
    shares = [await auth_stub.LeaseLimits(request, timeout=T) for _ in range(2)]

    assert wanted == list(found.limits)
    assert [[11, 3], [0, 3]] == [[share.granted for share in one.shares] for one in shares]
    assert [False, False] == [one.degraded for one in shares]


async def test_change_of_a_common_limit_is_pushed(
    auth_stub: AuthServiceStub, admin_stub: AdminServiceStub, admin: Admin
) -> None:
    """To every edge that watches."""
    watch = auth_stub.WatchRevocations(auth_pb2.WatchRevocationsRequest())
    await anext(aiter(watch))
    await put(admin_stub, admin, limit("installation"))
    told: set[str] = set()
    while "installation" not in told:
        message = await anext(aiter(watch))
        told |= {*message.changed_scopes, *message.recalled_purses}
    watch.cancel()

    assert {"installation"} == told


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (limit("deployment"), errors_pb2.REASON_INVALID_REQUEST),
        (limit("catalog", "a/x"), errors_pb2.REASON_NOT_FOUND),
        (limit("everybody"), errors_pb2.REASON_NOT_FOUND),
    ],
)
async def test_limit_must_bind_something(
    admin_stub: AdminServiceStub, admin: Admin, wanted: limits_pb2.Limit, reason: int
) -> None:
    """A deployment is named; the catalog's limits are in the catalog."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await put(admin_stub, admin, wanted)

    assert reason == from_rpc(caught.value).reason
