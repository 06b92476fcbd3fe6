"""Draws that can be repeated: shares that hold, and seats that stay."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from polyroute.router.draws import Seats, Urn, numbers, point
from polyroute.router.ranking import Group

WEIGHTS = st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=12)


def urn(*weights: float) -> Urn:
    """An urn whose members are numbered from 0."""
    return Urn(Group(tuple(range(len(weights))), weights))


def drawn(one: Urn, number: int, count: int, without: int = -1) -> list[int]:
    """The first members that a call draws."""
    return one.draw(iter(numbers(f"r-{number}")), count, without)


@given(WEIGHTS, st.integers(0, 1000))
def test_each_member_is_drawn_once(weights: list[float], number: int) -> None:
    """Whatever the weights, all are drawn, and drawing again draws the same."""
    order = drawn(urn(*weights), number, 99)

    assert list(range(len(weights))) == sorted(order)
    assert order == drawn(urn(*weights), number, 99)


@given(WEIGHTS, st.integers(0, 1000), st.integers(0, 11))
def test_one_that_is_left_out_is_not_drawn(weights: list[float], number: int, without: int) -> None:
    """All others are."""
    order = drawn(urn(*weights), number, 99, without)

    assert [i for i in range(len(weights)) if i != without] == sorted(order)


def test_first_place_goes_by_weight() -> None:
    """Three in four calls go to who has three quarters of the weight."""
    first = Counter(drawn(urn(3, 1), i, 1)[0] for i in range(4000))

    assert 0.73 < first[0] / 4000 < 0.77


def test_second_place_goes_by_the_weights_that_are_left() -> None:
    """Whoever was drawn first, the others share in proportion."""
    orders = [drawn(urn(100, 4, 1), i, 2) for i in range(4000)]
    second = Counter(order[1] for order in orders if order[0] == 0)

    assert 0.77 < second[1] / second.total() < 0.83


def test_point_is_even() -> None:
    """Ten slots get a tenth each."""
    seen = Counter(point(f"key-{i}", 10) for i in range(10_000))

    assert set(range(10)) == set(seen)
    assert all(900 < count < 1100 for count in seen.values())


def seats(*weights: float) -> Seats:
    """Seats of members a, b, c and so on."""
    return Seats(Group(tuple(range(len(weights))), weights), "abcdefgh"[: len(weights)])


def test_seats_go_by_weight() -> None:
    """Keys spread over the members in proportion to their weights."""
    seen = Counter(seats(3, 1).of(f"key-{i}") for i in range(4000))

    assert 0.73 < seen[0] / 4000 < 0.77


def test_a_member_that_leaves_moves_its_own_keys_only() -> None:
    """Those who sat elsewhere stay where they are."""
    before = {i: seats(1, 1, 1, 1).of(f"key-{i}") for i in range(1000)}
    after = {i: seats(1, 1, 1).of(f"key-{i}") for i in range(1000)}

    assert all(after[i] == seat for i, seat in before.items() if seat != 3)


def test_a_weight_that_grows_only_attracts() -> None:
    """Whoever moves, moves to the one that grew."""
    before = {i: seats(1, 1, 1).of(f"key-{i}") for i in range(1000)}
    after = {i: seats(1, 1, 1.2).of(f"key-{i}") for i in range(1000)}

    moved = {after[i] for i, seat in before.items() if after[i] != seat}
    assert {2} == moved
    assert sum(after[i] != seat for i, seat in before.items()) < 100
