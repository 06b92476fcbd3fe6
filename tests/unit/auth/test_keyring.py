"""The life of a key."""

import asyncio
import random

import pytest

from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth import keys
from polyroute.auth.keyring import MAX_LIFETIME_SECONDS
from polyroute.auth.keys import Key, NewKey
from polyroute.mesh.errors import MeshError
from tests.unit.auth.installation import Installation, fill

DAY = 86_400.0


async def with_prefix(auth: Installation, prefix: str) -> Key:
    """A key whose prefix is given, which no real secret's is."""
    new = NewKey(keys.new_id("key"), random.randbytes(32), prefix, "", (), created=0)
    key, _ = await auth.store.create(new, "")
    return key


async def all_pages(auth: Installation, size: int) -> list[list[Key]]:
    """Every page of the list."""
    pages, token = [], ""
    while True:
        page, token = await auth.keyring.page(size=size, token=token)
        pages.append(page)
        if not token:
            return pages


async def test_created_key_is_what_was_asked_for(auth: Installation) -> None:
    """The default project, the name, the models and the lifetime; the secret opens it."""
    default = await auth.verdicts.authorize(auth.first_secret or "")
    key, secret = await auth.keyring.create(name="ci", models=("small", "large"), lifetime=DAY)

    assert key == await auth.verdicts.authorize(secret)
    assert (default.account_id, default.project_id) == (key.account_id, key.project_id)
    assert (key.name, key.models) == ("ci", ("small", "large"))
    assert keys.prefix(secret) == key.prefix
    assert round(auth.clock() * 1e6) == key.created
    assert key.created + int(DAY * 1e6) == key.expires


async def test_key_of_an_unknown_project_is_refused(auth: Installation) -> None:
    """Nothing is created."""
    with pytest.raises(MeshError) as refused:
        await auth.keyring.create(project_id="prj_none")

    assert refused.value.reason == errors_pb2.REASON_NOT_FOUND
    assert refused.value.metadata == {"resource": "prj_none"}
    assert len((await auth.keyring.page())[0]) == 1


@pytest.mark.parametrize("lifetime", [0.0, -1.0, MAX_LIFETIME_SECONDS + 1.0])
async def test_impossible_lifetime_is_refused(auth: Installation, lifetime: float) -> None:
    """A key that never worked, or a time that no calendar holds."""
    with pytest.raises(MeshError) as refused:
        await auth.keyring.create(lifetime=lifetime)

    assert refused.value.reason == errors_pb2.REASON_INVALID_REQUEST
    assert refused.value.metadata["param"] == "lifetime"


async def test_repeated_creation_gives_the_same_key_without_its_secret(auth: Installation) -> None:
    """At once or later, one request id is one key, and its secret is shown once."""
    answers = await asyncio.gather(*(auth.keyring.create(name="ci", request_id="r1") for _ in range(5)))
    late_key, late_secret = await auth.keyring.create(name="other", request_id="r1")

    assert {late_key.id} == {key.id for key, _ in answers}
    assert sum(bool(secret) for _, secret in answers) == 1
    assert (late_key.name, late_secret) == ("ci", "")


async def test_creations_without_request_id_are_never_the_same(auth: Installation) -> None:
    """An empty id compares with nothing."""
    first, _ = await auth.keyring.create()
    second, _ = await auth.keyring.create()

    assert first.id != second.id


async def test_pages_hold_every_key_once_newest_first(auth: Installation) -> None:
    """The last page is short and has no successor."""
    made = [(await auth.keyring.create())[0] for _ in range(24)]

    pages = await all_pages(auth, 10)

    assert [len(page) for page in pages] == [10, 10, 5]
    assert made[::-1] == [key for page in pages for key in page][:-1]


async def test_full_last_page_has_no_successor(auth: Installation) -> None:
    """An empty page is never asked for."""
    await auth.keyring.create()

    assert [len(page) for page in await all_pages(auth, 2)] == [2]


async def test_key_created_between_pages_moves_nothing(auth: Installation) -> None:
    """A page goes on where the one before ended."""
    made = [(await auth.keyring.create())[0] for _ in range(3)]
    first, token = await auth.keyring.page(size=2)
    await auth.keyring.create()
    second, _ = await auth.keyring.page(size=1, token=token)

    assert made[::-1] == first + second


async def test_page_sizes_have_a_default_and_a_limit(auth: Installation) -> None:
    """Nothing asked for means 100, too much means 1000."""
    await fill(auth.store, 1001)

    assert len((await auth.keyring.page())[0]) == 100
    assert len((await auth.keyring.page(size=4_000_000_000))[0]) == 1000


async def test_list_can_be_narrowed_to_a_project(auth: Installation) -> None:
    """Another project's keys are not in it."""
    default = await auth.verdicts.authorize(auth.first_secret or "")

    assert [default] == (await auth.keyring.page(project_id=default.project_id))[0]
    assert (await auth.keyring.page(project_id="prj_none"))[0] == []


async def test_ended_keys_are_listed_on_demand(auth: Installation) -> None:
    """Revoked and expired ones alike."""
    default = await auth.verdicts.authorize(auth.first_secret or "")
    expired, _ = await auth.keyring.create(lifetime=DAY)
    revoked, _ = await auth.keyring.create()
    await auth.keyring.revoke(revoked.id)
    auth.clock.advance(DAY)

    assert [default.id] == [key.id for key in (await auth.keyring.page())[0]]
    everything, _ = await auth.keyring.page(show_ended=True)
    assert [revoked.id, expired.id, default.id] == [key.id for key in everything]


@pytest.mark.parametrize("token", ["x", "a" * 21, "AAAA", "' OR 1=1 --", "a" * 256, "é" * 24, "a" * 21 + "=" * 3])
async def test_made_up_page_token_is_refused(auth: Installation, token: str) -> None:
    """A token is opaque, not a place to write in."""
    with pytest.raises(MeshError) as refused:
        await auth.keyring.page(token=token)

    assert refused.value.reason == errors_pb2.REASON_INVALID_REQUEST
    assert refused.value.metadata["param"] == "page_token"


@pytest.mark.parametrize("name", ["id", "prefix"])
async def test_revoked_key_is_refused_from_then_on(auth: Installation, name: str) -> None:
    """By its id or its prefix; repeating it gives the same answer."""
    key, secret = await auth.keyring.create()
    await auth.verdicts.authorize(secret)
    revoked = await auth.keyring.revoke(getattr(key, name))
    auth.clock.advance(5)
    again = await auth.keyring.revoke(getattr(key, name))

    with pytest.raises(MeshError):
        await auth.verdicts.authorize(secret)
    assert revoked == again
    assert again.revoked == round((auth.clock() - 5) * 1e6)
    assert (1, (key.id,)) == (auth.feed.revision, auth.feed.since(0).key_ids)


async def test_prefix_of_several_keys_revokes_none(auth: Installation) -> None:
    """The answer names the candidates by id."""
    candidates = [await with_prefix(auth, "pr-twice1"), await with_prefix(auth, "pr-twice1")]
    with pytest.raises(MeshError) as refused:
        await auth.keyring.revoke("pr-twice1")

    assert refused.value.reason == errors_pb2.REASON_INVALID_REQUEST
    assert ", ".join(key.id for key in candidates) == refused.value.metadata["key_ids"]
    assert auth.feed.revision == 0


async def test_prefix_never_moves_on_to_another_key(auth: Installation) -> None:
    """With one of two keys revoked the prefix is as ambiguous as before."""
    first, _ = await with_prefix(auth, "pr-twice1"), await with_prefix(auth, "pr-twice1")
    await auth.keyring.revoke(first.id)

    with pytest.raises(MeshError, match="several keys"):
        await auth.keyring.revoke("pr-twice1")


@pytest.mark.parametrize("name", ["key_none", "pr-", "pr-none00", "%", "' OR 1=1 --"])
async def test_unknown_name_revokes_nothing(auth: Installation, name: str) -> None:
    """A part of a prefix is no name, and neither is SQL."""
    with pytest.raises(MeshError) as refused:
        await auth.keyring.revoke(name)

    assert refused.value.reason == errors_pb2.REASON_NOT_FOUND


async def test_secret_is_no_name(auth: Installation) -> None:
    """It is refused without being repeated."""
    secret = auth.first_secret or ""
    with pytest.raises(MeshError) as refused:
        await auth.keyring.revoke(secret)

    assert refused.value.reason == errors_pb2.REASON_INVALID_REQUEST
    assert secret not in f"{refused.value.message} {refused.value.metadata}"


async def test_revocation_is_pushed_even_if_its_caller_went_away(auth: Installation) -> None:
    """Wherever the caller is cut off, what is committed is also pushed, and the next write works."""
    for turns in range(0, 60, 3):
        key, secret = await auth.keyring.create()
        await auth.verdicts.authorize(secret)
        caller = asyncio.create_task(auth.keyring.revoke(key.id))
        for _ in range(turns):
            await asyncio.sleep(0)
        caller.cancel()
        await asyncio.wait([caller])
        await auth.keyring.close()

        stored = await auth.store.named(key.id, limit=1)
        assert (stored[0].revoked is not None) == (key.id in auth.feed)


async def test_key_created_by_a_caller_that_went_away_is_whole(auth: Installation) -> None:
    """It is there or it is not, and the next write works."""
    for turns in range(0, 60, 3):
        caller = asyncio.create_task(auth.keyring.create(request_id=f"r{turns}"))
        for _ in range(turns):
            await asyncio.sleep(0)
        caller.cancel()
        await asyncio.wait([caller])

        key, _ = await auth.keyring.create(request_id=f"r{turns}")
        assert [key] == await auth.store.named(key.id, limit=2)
