"""Keys that nobody knows are looked up so often an address, and no oftener."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.edge import strangers
from polyroute.edge.strangers import Strangers
from polyroute.mesh.errors import MeshError
from tests.unit.edge.peers import Clock

ANYWHERE = "8.8.4.4"  # those of documentation are not of the internet


def counted(guests: Strangers, address: str, times: int) -> int:
    """How many of so many keys are let through."""
    passed = 0
    for _ in range(times):
        with suppress(MeshError):
            guests.take(address)
            passed += 1
    return passed


def test_so_many_a_minute() -> None:
    """A minute's worth at once, and then one at a time."""
    clock = Clock()
    guests = Strangers(30, clock, proxied=False)
    first = counted(guests, ANYWHERE, 100)
    clock.advance(2.1)
    then = counted(guests, ANYWHERE, 100)
    clock.advance(60)
    later = counted(guests, ANYWHERE, 100)

    assert (30, 1, 30) == (first, then, later)


def test_the_refusal_says_when_to_come_again() -> None:
    """After the time that one key takes."""
    guests = Strangers(30, Clock(), proxied=False)
    counted(guests, ANYWHERE, 30)
    with pytest.raises(MeshError) as caught:
        guests.take(ANYWHERE)

    assert (pb.REASON_RATE_LIMITED, 2.0) == (caught.value.reason, caught.value.retry_after)


def test_a_good_key_does_not_count() -> None:
    """Any number of callers may stand behind one address."""
    guests = Strangers(10, Clock(), proxied=False)
    for _ in range(1000):
        guests.take(ANYWHERE)
        guests.known(ANYWHERE)

    assert 10 == counted(guests, ANYWHERE, 20)


@pytest.mark.parametrize(
    ("address", "proxied", "bounded"),
    [
        (ANYWHERE, False, True),
        (f"::ffff:{ANYWHERE}", False, True),
        ("2a00:1450:4001::1", False, True),
        ("10.1.2.3", False, False),
        ("::ffff:10.1.2.3", False, False),
        ("127.0.0.1", False, False),
        ("fd00::1", False, False),
        ("10.1.2.3", True, True),
        ("127.0.0.1", True, True),
        ("", True, False),
        ("unix", False, False),
    ],
)
def test_whom_it_counts(address: str, proxied: bool, bounded: bool) -> None:
    """A private address may be a proxy's that nobody told us of, and stand for everybody."""
    guests = Strangers(3, Clock(), proxied=proxied)

    assert (3 if bounded else 50) == counted(guests, address, 50)


def test_a_network_of_ipv6_is_one() -> None:
    """Whoever has one address of it has them all."""
    guests = Strangers(5, Clock(), proxied=False)
    passed = sum(counted(guests, f"2a00:1450:4001:2:{number:x}::1", 1) for number in range(50))

    assert 5 == passed
    assert 5 == counted(guests, "2a00:1450:4001:3::1", 50)


def test_no_bound() -> None:
    """Zero says so."""
    assert 500 == counted(Strangers(0, Clock(), proxied=True), ANYWHERE, 500)


@given(st.integers(1, 50))
def test_memory_is_bounded(kept: int) -> None:
    """Whoever has a million addresses fills no memory with them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strangers, "KEPT", kept)
        guests = Strangers(1, Clock(), proxied=False)
        for number in range(200):
            guests.take(f"8.8.{number}.1")

    assert kept == len(guests._arrivals)
