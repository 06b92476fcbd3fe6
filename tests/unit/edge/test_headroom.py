"""What a busy tenant leaves free for those that have little under way."""

from collections import Counter
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from polyroute.edge.headroom import FEW, LATELY, LEVELS, Headroom
from tests.unit.edge.peers import Clock

STEPS = ("enter", "enter", "wait", "begin", "end", "give up", "later")


def up_to(level: int, calls: Counter[str]) -> int:
    """Calls of all tenants, each counted up to a level."""
    return sum(min(level, count) for count in calls.values())


def test_what_others_wanted_lately_stays_free() -> None:
    """Those that waited as well; for a while; and nothing for tenants that have little themselves."""
    clock = Clock()
    room = Headroom(clock)
    for tenant in "abc":
        room.enter(tenant)
    room.wait("d")
    room.note()
    room.give_up("d")
    for tenant in "abc":
        room.end(tenant)
    for _ in range(FEW):
        room.enter("noisy")
    now = room.kept("noisy")
    room.enter("a")
    beside = room.kept("noisy")
    clock.advance(2 * LATELY)

    assert (3, 2, 0, 0) == (now, beside, room.kept("a"), room.kept("noisy"))


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(STEPS), st.sampled_from("aaaaabc")), max_size=150))
def test_it_is_what_the_definition_says(steps: Sequence[tuple[str, str]]) -> None:
    """The most that was wanted in this window or the one before, at any level of half of what the tenant has."""
    clock, running, waiting = Clock(), Counter[str](), Counter[str]()
    room, began, former, peaks = Headroom(clock), clock(), [0] * LEVELS, [0] * LEVELS
    levels = [1 << level for level in range(LEVELS)]
    for step, tenant in steps:
        if step == "enter":
            room.enter(tenant)
            running[tenant] += 1
        elif step == "wait":
            room.wait(tenant)
            waiting[tenant] += 1
        elif step == "begin" and waiting[tenant]:
            room.begin(tenant)
            waiting[tenant] -= 1
            running[tenant] += 1
        elif step == "end" and running[tenant]:
            room.end(tenant)
            running[tenant] -= 1
        elif step == "give up" and waiting[tenant]:
            room.give_up(tenant)
            waiting[tenant] -= 1
        elif step == "later":
            clock.advance(LATELY * 0.7)
        wanted = [up_to(level, running + waiting) for level in levels]
        if clock() - began >= LATELY:
            former = peaks if clock() - began < 2 * LATELY else wanted
            peaks, began = wanted, clock()
        room.note()
        peaks = [max(pair) for pair in zip(peaks, wanted, strict=True)]
        for name in "abc":
            has = running[name]
            kept = [
                max(peak, before) - up_to(level, running)
                for level, peak, before in zip(levels, peaks, former, strict=True)
                if 2 * level <= has and has >= FEW
            ]

            assert max([0, *kept]) == room.kept(name)
        assert +running == room.under_way
