"""Guessing costs time; knowing does not."""

import pytest

from polyroute.api.errors.v1 import errors_pb2
from polyroute.edge.admin import throttle
from polyroute.edge.admin.throttle import TRIES, Throttle
from polyroute.mesh.errors import MeshError
from tests.unit.edge.peers import Clock

SECONDS = 60 / TRIES  # after which one of them is forgiven


def refusal(throttle: Throttle, address: str, credential: str) -> MeshError | None:
    try:
        throttle.begin(address, credential)
    except MeshError as error:
        return error
    return None


def guesses(throttle: Throttle, address: str, count: int) -> int:
    """How many of so many wrong credentials are judged at all."""
    judged = 0
    for number in range(count):
        refused = refusal(throttle, address, f"wrong-{number}")
        if refused is None:
            judged += 1
            throttle.bad(f"wrong-{number}")
        else:
            assert errors_pb2.REASON_RATE_LIMITED == refused.reason
            assert 0 < (refused.retry_after or 0) <= SECONDS
    return judged


def test_a_guesser_is_stopped_and_may_come_back() -> None:
    """So many at once, then one each few seconds."""
    clock = Clock()
    door = Throttle(clock)

    assert TRIES == guesses(door, "192.0.2.1", 1000)
    clock.advance(10 * SECONDS)
    assert 10 == guesses(door, "192.0.2.1", 1000)


def test_others_are_not_stopped() -> None:
    """Neither at another address, nor behind the same one with a credential that has worked."""
    door = Throttle(Clock())
    door.begin("192.0.2.1", "right")
    door.good("192.0.2.1", "right")
    guesses(door, "192.0.2.1", 1000)

    door.begin("192.0.2.2", "another")
    for _ in range(1000):
        door.begin("192.0.2.1", "right")


def test_a_good_credential_costs_nothing() -> None:
    """However many there are."""
    door = Throttle(Clock())

    for number in range(10 * TRIES):
        door.begin("192.0.2.1", f"right-{number}")
        door.good("192.0.2.1", f"right-{number}")


def test_a_credential_that_became_wrong() -> None:
    """Is counted again."""
    door = Throttle(Clock())
    door.begin("192.0.2.1", "once right")
    door.good("192.0.2.1", "once right")
    door.bad("once right")
    guesses(door, "192.0.2.1", TRIES)

    with pytest.raises(MeshError):
        door.begin("192.0.2.1", "once right")


def test_ipv6_is_counted_by_network() -> None:
    """A subscriber has many addresses, and one network."""
    door = Throttle(Clock())
    judged = sum(guesses(door, f"2001:db8::{number:x}", 1) for number in range(1, 200))

    assert TRIES == judged
    door.begin("2001:db8:0:1::1", "another network")


def test_ipv4_is_not_one_network_where_both_are_listened_to() -> None:
    """As a socket of IPv6 shows it."""
    door = Throttle(Clock())
    judged = guesses(door, "::ffff:192.0.2.1", 100)

    assert TRIES == judged
    assert not guesses(door, "192.0.2.1", 1)
    door.begin("::ffff:192.0.2.2", "another")


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many credentials are good."""
    monkeypatch.setattr(throttle, "GOOD", 50)
    door = Throttle(Clock())
    for number in range(500):
        door.begin("192.0.2.1", f"right-{number}")
        door.good("192.0.2.1", f"right-{number}")

    assert 50 == len(door._good)
