"""Who presents a credential, from memory."""

import asyncio
from dataclasses import replace

import pytest

from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth import keys
from polyroute.auth.keys import Key
from polyroute.auth.revocations import RevocationFeed
from polyroute.auth.verdicts import LOOK_UPS, REFUSAL_SECONDS, Verdicts
from polyroute.mesh.errors import MeshError
from tests.unit.auth.installation import Clock

UNKNOWN = "pr-" + "u" * 43


class Keys:
    """A table of keys that counts its readers and can hold them back or fail."""

    def __init__(self) -> None:
        self.rows: dict[bytes, Key] = {}
        self.reads = 0
        self.error: Exception | None = None
        self.open = asyncio.Event()
        self.open.set()

    def add(self, **changes: object) -> tuple[str, Key]:
        secret = keys.new_secret()
        key = Key(keys.new_id("key"), "acc_1", "prj_1", keys.prefix(secret), "", (), created=0)
        self.rows[secret.encode()] = key = replace(key, **changes)  # type: ignore[arg-type]
        return secret, key

    async def find(self, digest: bytes) -> Key | None:
        self.reads += 1
        found = self.rows.get(digest)
        await self.open.wait()
        if self.error is not None:
            raise self.error
        return found


class Scene:
    """Verdicts over a table, on clocks of our own."""

    def __init__(self, **options: int) -> None:
        self.table, self.feed, self.now, self.clock = Keys(), RevocationFeed(), Clock(), Clock(0.0)
        self.verdicts = Verdicts(str.encode, self.table.find, self.feed, now=self.now, clock=self.clock, **options)

    async def refused(self, credential: str) -> MeshError:
        with pytest.raises(MeshError) as refusal:
            await self.verdicts.authorize(credential)
        return refusal.value


@pytest.fixture
async def scene() -> Scene:
    """An empty table."""
    return Scene()


async def test_database_is_read_once_per_key(scene: Scene) -> None:
    """However many calls ask, at once or later."""
    secret, key = scene.table.add()
    at_once = await asyncio.gather(*(scene.verdicts.authorize(secret) for _ in range(50)))
    later = await scene.verdicts.authorize(secret)

    assert [key] * 51 == [*at_once, later]
    assert scene.table.reads == 1


async def test_every_refusal_has_the_same_words(scene: Scene) -> None:
    """Nobody learns whether a key exists, existed or has ended."""
    revoked, _ = scene.table.add(revoked=1)
    expired, _ = scene.table.add(expires=1)
    refusals = [await scene.refused(credential) for credential in ("", "sk-1", UNKNOWN, revoked, expired)]

    assert {"the credential is not valid"} == {refusal.message for refusal in refusals}
    assert {errors_pb2.REASON_CREDENTIAL_INVALID} == {refusal.reason for refusal in refusals}
    assert [refusal.metadata for refusal in refusals] == [{}] * 5


async def test_expiry_is_judged_at_each_use(scene: Scene) -> None:
    """A key that is in memory ends on time, without a read."""
    secret, _ = scene.table.add(expires=round((scene.now() + 10) * 1e6))
    await scene.verdicts.authorize(secret)
    scene.now.advance(9.999)
    await scene.verdicts.authorize(secret)
    scene.now.advance(0.001)
    await scene.refused(secret)

    assert scene.table.reads == 1


async def test_malformed_credential_is_never_looked_up(scene: Scene) -> None:
    """Scanners cost nothing."""
    await scene.refused("Bearer x")

    assert scene.table.reads == 0


async def test_refusal_is_kept_for_a_short_time(scene: Scene) -> None:
    """A wrong key tried again and again is looked up once in a while."""
    for _ in range(100):
        await scene.refused(UNKNOWN)
    reads_at_first = scene.table.reads
    scene.clock.advance(REFUSAL_SECONDS)
    await scene.refused(UNKNOWN)

    assert (reads_at_first, scene.table.reads) == (1, 2)


async def test_refusals_are_kept_in_a_small_space() -> None:
    """The oldest makes room."""
    scene = Scene(refusals_kept=2)
    wrong = [keys.new_secret() for _ in range(3)]
    for credential in (*wrong, wrong[2], wrong[1], wrong[0]):
        await scene.refused(credential)

    assert scene.table.reads == 4


async def test_keys_are_kept_in_a_bounded_space() -> None:
    """The one unused for longest makes room, and is read again when it comes back."""
    scene = Scene(kept=2)
    (a, _), (b, _), (c, _) = (scene.table.add() for _ in range(3))
    for secret in (a, b, a, c, a):
        await scene.verdicts.authorize(secret)
    reads_before = scene.table.reads
    await scene.verdicts.authorize(b)

    assert (reads_before, scene.table.reads) == (3, 4)


async def test_key_revoked_while_it_is_looked_up_is_refused(scene: Scene) -> None:
    """What was read before the revocation does not count after it."""
    secret, key = scene.table.add()
    scene.table.open.clear()
    asking = asyncio.create_task(scene.verdicts.authorize(secret))
    await asyncio.sleep(0)
    scene.verdicts.drop(secret.encode())
    scene.feed.extend([(1, key.id)])
    scene.table.open.set()

    with pytest.raises(MeshError):
        await asking
    await scene.refused(secret)


async def test_dropped_key_is_read_again(scene: Scene) -> None:
    """Memory gives way to the database."""
    secret, key = scene.table.add()
    await scene.verdicts.authorize(secret)
    scene.table.rows[secret.encode()] = replace(key, revoked=1)
    scene.verdicts.drop(secret.encode())
    await scene.refused(secret)

    assert scene.table.reads == 2


async def test_failure_to_look_up_is_neither_verdict_nor_refusal(scene: Scene) -> None:
    """Once the database answers again, so does the key."""
    secret, key = scene.table.add()
    scene.table.error = MeshError(errors_pb2.REASON_SERVICE_UNAVAILABLE, "the database of keys does not answer")
    failure = await scene.refused(secret)
    scene.table.error = None

    assert failure.reason == errors_pb2.REASON_SERVICE_UNAVAILABLE
    assert key == await scene.verdicts.authorize(secret)


async def test_known_key_needs_no_database(scene: Scene) -> None:
    """What is in memory works while nothing can be looked up."""
    secret, key = scene.table.add()
    await scene.verdicts.authorize(secret)
    scene.table.open.clear()

    assert key == await asyncio.wait_for(scene.verdicts.authorize(secret), 1)


async def test_flood_of_unknown_keys_is_shed(scene: Scene) -> None:
    """Look-ups in flight are bounded; known keys and shared look-ups pass."""
    known, key = scene.table.add()
    await scene.verdicts.authorize(known)
    scene.table.open.clear()
    flood = [keys.new_secret() for _ in range(LOOK_UPS)]
    waiting = [asyncio.create_task(scene.verdicts.authorize(credential)) for credential in flood]
    await asyncio.sleep(0)
    shed = await scene.refused(UNKNOWN)
    sharing = asyncio.create_task(scene.verdicts.authorize(flood[0]))
    passed = await scene.verdicts.authorize(known)
    scene.table.open.set()
    outcomes = await asyncio.gather(*waiting, sharing, return_exceptions=True)

    assert shed.reason == errors_pb2.REASON_OVERLOADED
    assert shed.retry_after == 1.0
    assert key == passed
    assert {errors_pb2.REASON_CREDENTIAL_INVALID} == {getattr(outcome, "reason", None) for outcome in outcomes}
    assert scene.table.reads == LOOK_UPS + 1
