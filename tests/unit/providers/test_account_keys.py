"""The keys of an account: in turn, and put aside while they are refused."""

import contextlib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.mesh.errors import MeshError
from polyroute.providers.account import Account
from polyroute.providers.credentials import Presented
from polyroute.providers.keys import LONGEST, MOST_RESTS, Key, KeyRing, fingerprint
from polyroute.providers.vendor import Vendor


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def ring(count: int = 2) -> tuple[KeyRing, list[Key], Clock]:
    clock = Clock()
    keys = [Key(number, Presented({"authorization": f"Bearer sk-{number}"})) for number in range(1, count + 1)]
    return KeyRing("acme", keys, clock), keys, clock


def refused(fault: pb.Fault.ValueType, *, status: int = 0, after: float | None = None) -> MeshError:
    return MeshError.upstream(fault, "no", retry_after=after, upstream_status=str(status))


RATE = refused(pb.FAULT_RATE, status=429)
REVOKED = refused(pb.FAULT_CREDENTIAL, status=401)
NOT_THIS_ONE = refused(pb.FAULT_CREDENTIAL, status=403)
BROKE = refused(pb.FAULT_QUOTA, status=402)


def usable(keys: KeyRing, model: str = "m", *, tries: int = 6) -> set[int]:
    return {keys.next(model).number for _ in range(tries)}


class TestPinned:
    """What one key made is asked for with that key."""

    def keys(self) -> tuple[KeyRing, list[Key], Clock]:
        """Two keys with marks."""
        clock = Clock()
        keys = [Key(number, Presented(), fingerprint(f"sk-{number}")) for number in (1, 2)]
        return KeyRing("acme", keys, clock), keys, clock

    def test_the_same_whenever_it_is_asked_for(self) -> None:
        """Whoever's turn it is."""
        ring, [_, second], _ = self.keys()

        assert [2] * 3 == [ring.pinned(second.mark, "m").number for _ in range(3)]

    def test_one_that_is_gone(self) -> None:
        """No other takes its place."""
        ring, _, _ = self.keys()

        with pytest.raises(MeshError, match="no more") as caught:
            ring.pinned(fingerprint("sk-3"))
        assert pb.REASON_NOT_FOUND == caught.value.reason

    def test_one_that_rests(self) -> None:
        """Says when it is back, and that no other can do it."""
        ring, [first, _], clock = self.keys()
        error = refused(pb.FAULT_RATE, status=429, after=30.0)
        ring.report(first, error, "m", pinned=True)
        with pytest.raises(MeshError) as caught:
            ring.pinned(first.mark, "m")
        clock.now += 31

        assert "other_keys" not in error.metadata
        assert (pb.FAULT_RATE, 30.0) == (caught.value.fault, caught.value.retry_after)
        assert 1 == ring.pinned(first.mark, "m").number

    def test_a_fingerprint(self) -> None:
        """The same in every process, another for every key, and nothing of the key in it."""
        assert fingerprint("sk-1") == fingerprint("sk-1") != fingerprint("sk-2")
        assert 8 == len(fingerprint("sk-1"))


class TestTurns:
    def test_each_in_turn(self) -> None:
        """So that their limits add up."""
        keys, _, _ = ring(3)

        assert [1, 2, 3, 1] == [keys.next("m").number for _ in range(4)]

    def test_healthy_ones_only(self) -> None:
        """The others take over its turns."""
        keys, [first, *_], _ = ring(3)
        keys.report(first, REVOKED, "m")

        assert {2, 3} == usable(keys)

    @pytest.mark.parametrize(
        "fault",
        [pb.FAULT_SERVER, pb.FAULT_CLIENT, pb.FAULT_CONNECT, pb.FAULT_MODEL_GONE, pb.FAULT_CONTEXT, pb.FAULT_STALL],
    )
    def test_what_is_not_the_keys_fault(self, fault: pb.Fault.ValueType) -> None:
        """Says nothing about it."""
        keys, [first, *_], _ = ring(1)
        keys.report(first, refused(fault, status=500), "m")

        assert {1} == usable(keys)


class TestRests:
    @pytest.mark.parametrize(
        ("error", "seconds"),
        [
            (RATE, [1, 2, 4, 8, 16, 32, 60, 60]),
            (REVOKED, [60, 120, 240, 480, 960, 1920, 3600, 3600]),
            (BROKE, [900, 900, 900]),
        ],
    )
    def test_grows_with_each_refusal_in_a_row(self, error: MeshError, seconds: list[float]) -> None:
        """Up to a bound; what the vendor does not say is guessed."""
        keys, [key], clock = ring(1)
        found = []
        for _ in seconds:
            keys.report(key, error, "m")
            with pytest.raises(MeshError) as caught:
                keys.next("m")
            found.append(caught.value.retry_after)
            clock.now += caught.value.retry_after or 0

        assert seconds == found

    @pytest.mark.parametrize(("after", "seconds"), [(0.0, None), (7.5, 7.5), (10**9, LONGEST)])
    def test_as_long_as_the_vendor_says(self, after: float, seconds: float | None) -> None:
        """But not for ever: a vendor may be wrong."""
        keys, [key], _ = ring(1)
        keys.report(key, refused(pb.FAULT_RATE, status=429, after=after), "m")
        found = None
        try:
            keys.next("m")
        except MeshError as error:
            found = error.retry_after

        assert seconds == found

    def test_ends(self) -> None:
        """At its time, and not before."""
        keys, [key], clock = ring(1)
        keys.report(key, RATE, "m")
        clock.now += 0.999
        with pytest.raises(MeshError):
            keys.next("m")
        clock.now += 0.001

        assert 1 == keys.next("m").number

    def test_calls_that_fail_together_are_one_refusal(self) -> None:
        """A hundred calls were under way when the key was revoked."""
        keys, [key], _ = ring(1)
        with capture_logs() as logs:
            for _ in range(100):
                keys.report(key, REVOKED, "m")
        with pytest.raises(MeshError) as caught:
            keys.next("m")

        assert 60 == caught.value.retry_after
        assert ["key set aside"] == [entry["event"] for entry in logs]
        assert "sk-" not in str(logs)

    def test_success_forgives(self) -> None:
        """The next refusal is the first again."""
        keys, [key], clock = ring(1)
        for _ in range(3):
            keys.report(key, REVOKED, "m")
            clock.now += 3600
        keys.report(key, None, "m")
        keys.report(key, REVOKED, "m")
        with pytest.raises(MeshError) as caught:
            keys.next("m")

        assert 60 == caught.value.retry_after

    def test_success_that_began_before_forgives_nothing(self) -> None:
        """It says nothing about a key that was revoked since."""
        keys, [key], _ = ring(1)
        keys.report(key, REVOKED, "m")
        keys.report(key, None, "m")

        with pytest.raises(MeshError):
            keys.next("m")


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("error", "others"),
        [
            (RATE, {1}),
            (NOT_THIS_ONE, {1}),
            (refused(pb.FAULT_QUOTA, status=429), {1}),
            (refused(pb.FAULT_RATE, status=200), {1}),
            (REVOKED, set()),
            (refused(pb.FAULT_CREDENTIAL, status=400), set()),
            (BROKE, set()),
        ],
    )
    def test_one_model_or_all(self, error: MeshError, others: set[int]) -> None:
        """A caller who asks for a model that he may not have takes nothing from the others."""
        keys, [key], _ = ring(1)
        keys.report(key, error, "forbidden")
        found: set[int] = set()
        with contextlib.suppress(MeshError):
            found = usable(keys, "other")
        with pytest.raises(MeshError) as caught:
            keys.next("forbidden")

        assert (error.fault, others) == (caught.value.fault, found)

    def test_many_models_take_little_memory(self) -> None:
        """Their names are the callers'."""
        keys, [key], clock = ring(1)
        for number in range(MOST_RESTS + 100):
            keys.report(key, refused(pb.FAULT_RATE, status=429, after=50), f"m{number}")
        with pytest.raises(MeshError):
            keys.next(f"m{MOST_RESTS + 99}")
        clock.now += 100

        assert 1 == keys.next("m0").number
        assert len(keys._rests) <= MOST_RESTS


class TestNobodyLeft:
    @pytest.mark.parametrize(
        ("errors", "fault", "seconds"),
        [
            ([RATE, refused(pb.FAULT_RATE, status=429, after=9)], pb.FAULT_RATE, 1),
            ([REVOKED, refused(pb.FAULT_RATE, status=429, after=90)], pb.FAULT_RATE, 90),
            ([REVOKED, BROKE], pb.FAULT_QUOTA, 900),
            ([REVOKED, REVOKED], pb.FAULT_CREDENTIAL, 60),
        ],
    )
    def test_says_what_and_until_when(self, errors: list[MeshError], fault: pb.Fault.ValueType, seconds: float) -> None:
        """Of several reasons, the one that passes by itself; of several times, the first."""
        keys, all_keys, _ = ring(2)
        for key, error in zip(all_keys, errors, strict=True):
            keys.report(key, error, "m")
        with pytest.raises(MeshError) as caught:
            keys.next("m")

        assert (fault, seconds) == (caught.value.fault, caught.value.retry_after)
        assert "acme" in caught.value.message
        assert "sk-" not in caught.value.message

    def test_own_refusal_is_not_counted_again(self) -> None:
        """What was never sent says nothing new."""
        keys, [key], _ = ring(1)
        keys.report(key, RATE, "m")
        with pytest.raises(MeshError) as first:
            keys.next("m")
        keys.report(key, first.value, "m")
        with pytest.raises(MeshError) as second:
            keys.next("m")

        assert first.value.retry_after == second.value.retry_after


OUTCOMES = st.sampled_from([None, RATE, REVOKED, NOT_THIS_ONE, BROKE, refused(pb.FAULT_RATE, status=429, after=30)])
STEPS = st.lists(st.tuples(st.integers(0, 2), OUTCOMES, st.sampled_from(["a", "b"]), st.floats(0, 100)), max_size=40)


@given(STEPS)
def test_a_key_is_chosen_or_a_time_is_said(steps: list[tuple[int, MeshError | None, str, float]]) -> None:
    """Whatever happened: no key is lost for ever, and waiting as long as was said helps."""
    keys, all_keys, clock = ring(3)
    for number, error, model, passed in steps:
        keys.report(all_keys[number], error, model)
        clock.now += passed
        for asked in ("a", "b", "c"):
            for back in waits(keys, asked):
                assert 0 < back <= LONGEST
                before = clock.now
                clock.now += back
                assert keys.next(asked) in all_keys
                clock.now = before


def waits(keys: KeyRing, model: str) -> Iterator[float]:
    """How long everyone rests; nothing when somebody does not."""
    try:
        keys.next(model)
    except MeshError as error:
        yield error.retry_after or 0.0


def test_an_account_has_them() -> None:
    """It is asked for a key before each attempt, and told how it went."""
    clock = Clock()
    account = Account("acme", Vendor(name="acme"), base_url="http://x", keys=("sk-1", "sk-2"), clock=clock)
    first = account.key("m")
    account.reported(first, REVOKED, "m")

    assert [2, 2] == [account.key("m").number for _ in range(2)]
    assert 1 == first.number
