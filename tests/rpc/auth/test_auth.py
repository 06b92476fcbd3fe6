"""AuthService as the edge and operators meet it."""

import asyncio
import time
from collections.abc import Awaitable

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from polyroute.api.auth.v1 import auth_pb2 as pb
from polyroute.api.auth.v1.auth_pb2_grpc import AuthServiceStub
from polyroute.api.errors.v1 import errors_pb2
from polyroute.mesh.errors import MeshError, from_rpc

T = 5.0  # s


async def authorize(stub: AuthServiceStub, credential: str) -> pb.Verdict:
    """The verdict on a credential."""
    return (await stub.Authorize(pb.AuthorizeRequest(credential=credential), timeout=T)).verdict


async def create(stub: AuthServiceStub, **fields: object) -> pb.CreateKeyResponse:
    """A new key."""
    return await stub.CreateKey(pb.CreateKeyRequest(**fields), timeout=T)  # type: ignore[arg-type]


async def revoke(stub: AuthServiceStub, name: str) -> pb.Key:
    """The key, revoked."""
    return (await stub.RevokeKey(pb.RevokeKeyRequest(key=name), timeout=T)).key


async def refusal(call: Awaitable[object]) -> MeshError:
    """The error that a call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return from_rpc(refused.value)


async def test_verdict_says_who_calls_and_for_how_long(auth_stub: AuthServiceStub, secret: str) -> None:
    """Everything that a record of a call needs, and nothing secret."""
    verdict = await authorize(auth_stub, secret)

    assert (secret[:9], "default") == (verdict.caller.key_prefix, verdict.caller.key_name)
    assert verdict.caller.account_id.startswith("acc_")
    assert verdict.caller.project_id.startswith("prj_")
    assert verdict.caller.key_id.startswith("key_")
    assert (30, 300) == (verdict.fresh_for.seconds, verdict.usable_for.seconds)
    assert not verdict.models
    assert not verdict.HasField("expire_time")


async def test_created_key_is_authorized_for_its_models(auth_stub: AuthServiceStub) -> None:
    """With the time at which it ends."""
    created = await create(auth_stub, name="ci", models=["small"], lifetime=Duration(seconds=90))
    verdict = await authorize(auth_stub, created.secret)

    assert (created.key.id, "ci") == (verdict.caller.key_id, verdict.caller.key_name)
    assert ["small"] == list(verdict.models)
    assert created.key.expire_time == verdict.expire_time
    assert 90 * 10**9 == created.key.expire_time.ToNanoseconds() - created.key.create_time.ToNanoseconds()


async def test_refusals_are_all_alike(auth_stub: AuthServiceStub) -> None:
    """Unknown, revoked, expired and malformed: one code, one reason, one text."""
    revoked, expired = await create(auth_stub), await create(auth_stub, lifetime=Duration(nanos=1000))
    await revoke(auth_stub, revoked.key.id)
    credentials = ("sk-nobody", "pr-" + "n" * 43, revoked.secret, expired.secret)
    refusals = [await refusal(authorize(auth_stub, credential)) for credential in credentials]

    assert {(grpc.StatusCode.UNAUTHENTICATED, errors_pb2.REASON_CREDENTIAL_INVALID, "the credential is not valid")} == {
        (refused.code, refused.reason, refused.message) for refused in refusals
    }


@pytest.mark.parametrize("kind", ["unix", "tcp"], indirect=True)  # rules are checked for other processes
async def test_requests_against_the_contract_are_refused(auth_stub: AuthServiceStub) -> None:
    """Before they reach the service."""
    refused = await refusal(authorize(auth_stub, ""))

    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.metadata["param"] == "credential"


async def test_repeated_creation_shows_no_secret(auth_stub: AuthServiceStub) -> None:
    """The same key, without what was shown once."""
    first = await create(auth_stub, request_id="r1")
    again = await create(auth_stub, request_id="r1")

    assert first.key == again.key
    assert first.secret
    assert not again.secret


async def test_list_is_paged_newest_first(auth_stub: AuthServiceStub) -> None:
    """Page by page, without secrets, without ended keys unless they are asked for."""
    made = [(await create(auth_stub, name=f"n{number}")).key for number in range(4)]
    made[0] = await revoke(auth_stub, made[0].id)

    names, token = [], ""
    while True:
        page = await auth_stub.ListKeys(pb.ListKeysRequest(page_size=2, page_token=token), timeout=T)
        names.append([key.name for key in page.keys])
        token = page.next_page_token
        if not token:
            break
    everything = await auth_stub.ListKeys(pb.ListKeysRequest(show_ended=True), timeout=T)

    assert [["n3", "n2"], ["n1", "default"]] == names
    assert made[::-1] == list(everything.keys)[:-1]


async def test_revocation_is_refused_and_pushed_within_a_second(auth_stub: AuthServiceStub, secret: str) -> None:
    """The watcher hears of it, and the next call is turned away."""
    key_id = (await authorize(auth_stub, secret)).caller.key_id
    watch = auth_stub.WatchRevocations(pb.WatchRevocationsRequest(), timeout=T)
    first = await watch.read()
    started = time.monotonic()
    revoked = await revoke(auth_stub, secret[:9])
    pushed = await watch.read()
    elapsed = time.monotonic() - started
    refused = await refusal(authorize(auth_stub, secret))
    again = await revoke(auth_stub, key_id)
    watch.cancel()

    assert pb.WatchRevocationsResponse() == first
    assert pb.WatchRevocationsResponse(revision=1, key_ids=[key_id]) == pushed
    assert elapsed < 1
    assert refused.reason == errors_pb2.REASON_CREDENTIAL_INVALID
    assert revoked == again
    assert again.HasField("revoke_time")


@pytest.mark.parametrize(
    ("seen", "missed", "reset"), [(0, [0, 1, 2], False), (2, [2], False), (3, [], False), (4, [], True)]
)
async def test_returning_watcher_learns_what_it_missed(
    auth_stub: AuthServiceStub, seen: int, missed: list[int], reset: bool
) -> None:
    """By its revision; one that this service never gave means starting afresh."""
    ended = [(await create(auth_stub)).key.id for _ in range(3)]
    for key_id in ended:
        await revoke(auth_stub, key_id)
    watch = auth_stub.WatchRevocations(pb.WatchRevocationsRequest(revision=seen), timeout=T)
    first = await watch.read()
    watch.cancel()

    expected = pb.WatchRevocationsResponse(revision=3, key_ids=[ended[number] for number in missed], reset=reset)
    assert expected == first


async def test_many_revocations_reach_every_watcher(auth_stub: AuthServiceStub) -> None:
    """None is lost and none comes twice, however they are bundled."""
    made = [(await create(auth_stub)).key.id for _ in range(20)]
    watches = [auth_stub.WatchRevocations(pb.WatchRevocationsRequest(), timeout=T) for _ in range(3)]
    for watch in watches:
        await watch.read()
    await asyncio.gather(*(revoke(auth_stub, key_id) for key_id in made))

    for watch in watches:
        heard: list[str] = []
        while len(heard) < len(made):
            message = await watch.read()
            assert isinstance(message, pb.WatchRevocationsResponse)
            heard += message.key_ids
            assert message.revision == len(heard)
        watch.cancel()
        assert sorted(made) == sorted(heard)
