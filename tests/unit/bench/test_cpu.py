"""Who belongs to a process tree and what it has used."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.cpu import PAGE_BYTES, TICKS_PER_SECOND, Stat, Tree, machine_busy_seconds, members, parse_stat

# a child that works for a tenth of a second, waits for it, and then for the end of its input
BURN = "import time\nwhile time.process_time() < 0.1: pass\n"
PARENT = f"""
import subprocess, sys
subprocess.run([sys.executable, "-S", "-c", {BURN!r}])
print("done", flush=True)
sys.stdin.read()
"""


def stat_line(pid: int, name: str, parent: int, session: int, *times: int, state: str = "S") -> str:
    fields = [state, parent, 1, session, 0, -1, 0, 0, 0, 0, 0, *times, 20, 0, 1, 0]
    return f"{pid} ({name}) " + " ".join(map(str, fields))


@pytest.mark.parametrize("name", ["python", "a b", "x) R 1 (y", ")", ""])
def test_stat_line(name: str) -> None:
    """User and system time, its own and of reaped children, whatever the program's name looks like."""
    assert Stat(7, 3, 5, 10) == parse_stat(stat_line(7, name, 3, 5, 1, 2, 3, 4))


def test_members() -> None:
    """Descendants and the root's session belong to the tree, strangers and ancestors do not."""
    relations = {1: (0, 1), 10: (1, 10), 11: (10, 10), 12: (11, 12), 13: (1, 10), 14: (13, 14), 20: (1, 20)}
    processes = {pid: Stat(pid, parent, session, 0) for pid, (parent, session) in relations.items()}

    assert {10, 11, 12, 13, 14} == members(processes, [10])
    assert {12, 20} == members(processes, [12, 20])
    assert members(processes, [99]) == set()


def test_tree_reads_a_proc(tmp_path: Path) -> None:
    """Times and memory are summed over the tree; a dead one that was not waited for has used its time."""
    for pid, parent, resident in ((5, 1, 100), (6, 5, 20), (7, 1, 3)):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(stat_line(pid, "p", parent, pid, 10, 5, 2, 3))
        (tmp_path / str(pid) / "statm").write_text(f"999 {resident} 0 0 0 0 0\n")
    (tmp_path / "8").mkdir()
    (tmp_path / "9").mkdir()
    (tmp_path / "9" / "stat").write_text(stat_line(9, "dead", 5, 5, 1, 1, 0, 0, state="Z"))
    (tmp_path / "self").mkdir()
    tree = Tree(5, proc=tmp_path)

    assert {5, 6} == tree.pids()
    assert 42 / TICKS_PER_SECOND == tree.cpu_seconds()
    assert 120 * PAGE_BYTES == tree.rss_bytes()


def test_machine_busy(tmp_path: Path) -> None:
    """All time but idle and waiting for a disk."""
    (tmp_path / "stat").write_text("cpu  10 20 30 400 500 1 2 3 9 9\ncpu0 1 1 1 1\n")

    assert 66 / TICKS_PER_SECOND == machine_busy_seconds(tmp_path)


def test_real_child() -> None:
    """What a reaped grandchild has used is in the tree of a child that itself did nothing."""
    command = [sys.executable, "-S", "-c", PARENT]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, env=os.environ
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"done\n"
        tree = Tree(child.pid)

        assert {child.pid} == tree.pids()
        assert 0.09 <= tree.cpu_seconds() < 2
        assert tree.rss_bytes() > 1_000_000
        child.communicate(b"")

    assert tree.cpu_seconds() == 0.0
