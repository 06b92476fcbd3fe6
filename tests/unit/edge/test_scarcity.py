"""What is turned away when memory runs short."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyroute.edge.line import Criticality
from polyroute.edge.scarcity import LEVELS, SLACK, Scarcity, barred
from polyroute.edge.turnstile import NOBODY, Turnstile
from polyroute.mesh.errors import MeshError
from polyroute.mesh.memory import Memory, memory_of, resident_bytes, trim
from tests.unit.edge.peers import Clock

CRITICAL, DEFAULT, SHEDDABLE = Criticality


@pytest.mark.parametrize(
    ("part", "before", "expected"),
    [
        (0.0, NOBODY, NOBODY),
        (0.849, NOBODY, NOBODY),
        (0.85, NOBODY, SHEDDABLE),
        (0.84, SHEDDABLE, SHEDDABLE),
        (0.82, SHEDDABLE, NOBODY),
        (0.92, SHEDDABLE, DEFAULT),
        (0.91, DEFAULT, DEFAULT),
        (0.91, SHEDDABLE, SHEDDABLE),
        (0.95, NOBODY, CRITICAL),
        (0.94, CRITICAL, CRITICAL),
        (0.92, CRITICAL, DEFAULT),
        (0.5, CRITICAL, NOBODY),
    ],
)
def test_the_least_critical_go_first_and_come_back_last(part: float, before: int, expected: int) -> None:
    """A class that was barred is let in again only some way below where it was."""
    assert expected == barred(part, before)


@given(parts=st.lists(st.floats(0, 1.2), max_size=30))
def test_who_is_barred_follows_the_memory(parts: list[float]) -> None:
    """Never one above the level and never none far below it, whatever came before."""
    before = NOBODY
    for part in parts:
        before = barred(part, before)
        must = min((criticality for level, criticality in LEVELS if part >= level), default=NOBODY)
        may = min((criticality for level, criticality in LEVELS if part >= level - SLACK), default=NOBODY)

        assert may <= before <= must


async def test_turnstile_turns_classes_away() -> None:
    """With a bound on calls or without, and lets them in again."""
    for turnstile in (Turnstile(0, 0, 5.0, Clock()), Turnstile(100, 0, 5.0, Clock())):
        scarcity = Scarcity(turnstile, Memory(100, iter([10, 86, 93, 96, 10]).__next__))
        seen = []
        for _ in range(5):
            scarcity.look()
            refused = []
            for criticality in Criticality:
                try:
                    (await turnstile.enter("a", criticality)).leave()
                except MeshError as error:
                    refused.append((criticality, error.metadata["cause"], error.retry_after))
            seen.append(refused)

        turned_away = [[criticality for criticality, _, _ in refused] for refused in seen]
        assert [[], [SHEDDABLE], [DEFAULT, SHEDDABLE], [CRITICAL, DEFAULT, SHEDDABLE], []] == turned_away
        assert {("memory", 1.0)} == {(cause, wait) for refused in seen for _, cause, wait in refused}
        assert {CRITICAL: 1, DEFAULT: 2, SHEDDABLE: 3} == turnstile.shed
        assert turnstile.open is not turnstile.bounded


def test_memory_of_a_container(tmp_path: Path) -> None:
    """Of either version of control groups: all its processes, without what the kernel takes back first."""
    unified, legacy, neither = (tmp_path / name for name in ("unified", "legacy", "neither"))
    for group, names, cache in (
        (unified, ("memory.max", "memory.current"), "inactive_file"),
        (legacy / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes"), "total_inactive_file"),
    ):
        group.mkdir(parents=True)
        for name, value in zip(names, (1000, 700), strict=True):
            (group / name).write_text(f"{value}\n")
        (group / "memory.stat").write_text(f"anon 300\n{cache} 150\n")
    found = [memory_of("auto", group) for group in (unified, legacy)]
    (unified / "memory.max").write_text("max\n")
    (legacy / "memory/memory.limit_in_bytes").write_text("9223372036854771712\n")

    assert [(1000, 550)] * 2 == [(memory.most, memory.in_use()) for memory in found if memory is not None]
    assert [None] * 3 == [memory_of("auto", group) for group in (unified, legacy, neither)]


def test_memory_of_this_process() -> None:
    """It is what is in memory, and can be given back."""
    bounded = memory_of(1 << 40)
    trim()

    assert bounded is not None
    assert resident_bytes() * 0.5 < bounded.in_use() < 1 << 40
    assert 1 << 40 == bounded.most
    assert memory_of(0) is None
