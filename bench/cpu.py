"""What a process tree has used of the machine, read from /proc (proc(5)).

A tree is its roots, their descendants, and every process of a root's session: a daemon that left its parent is still
in the session that was opened for it. Processor time includes what reaped children had used; a child that still lives
is counted by itself, so nothing counts twice. The resolution is the kernel's tick, 10 ms on Linux: measure for a second
or more. Times only grow as long as no member dies without being waited for by another member.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Stat:
    """One process: `ticks` is user and system time, its own and that of its reaped children; a dead one keeps them
    until its parent has asked for them."""

    pid: int
    parent: int
    session: int
    ticks: int
    dead: bool = False


def parse_stat(text: str) -> Stat:
    """One line of /proc/PID/stat. A program's name may hold spaces and parentheses: fields start at the last `)`."""
    before, _, after = text.rpartition(")")
    fields = after.split()  # fields[0] is the third of proc(5)
    ticks = sum(map(int, fields[11:15]))  # utime, stime, cutime, cstime
    pid = int(before.partition(" ")[0])
    return Stat(pid, parent=int(fields[1]), session=int(fields[3]), ticks=ticks, dead=fields[0] in "ZX")


def snapshot(proc: Path = PROC) -> dict[int, Stat]:
    """Every process that lives now, by its id."""
    found = {}
    for entry in proc.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = parse_stat((entry / "stat").read_text(errors="replace"))
        except (FileNotFoundError, ProcessLookupError):  # it ended while we looked
            continue
        found[stat.pid] = stat
    return found


def members(processes: Mapping[int, Stat], roots: Iterable[int]) -> set[int]:
    """The ids of the tree: roots that live, their sessions, and all descendants of both."""
    wanted = set(roots)
    children: dict[int, list[int]] = {}
    for stat in processes.values():
        children.setdefault(stat.parent, []).append(stat.pid)
    todo = [stat.pid for stat in processes.values() if stat.pid in wanted or stat.session in wanted]
    tree: set[int] = set()
    while todo:
        pid = todo.pop()
        if pid not in tree:
            tree.add(pid)
            todo.extend(children.get(pid, ()))
    return tree


class Tree:
    """The processes that were started as some roots."""

    def __init__(self, *roots: int, proc: Path = PROC) -> None:
        self.roots = roots
        self._proc = proc

    def pids(self) -> set[int]:
        """Who of the tree lives now."""
        processes = snapshot(self._proc)
        return {pid for pid in members(processes, self.roots) if not processes[pid].dead}

    def cpu_seconds(self) -> float:
        """Processor time used so far, user and system."""
        processes = snapshot(self._proc)
        return sum(processes[pid].ticks for pid in members(processes, self.roots)) / TICKS_PER_SECOND

    def rss_bytes(self) -> int:
        """Resident memory, summed: what processes share counts in each of them."""
        return sum(self._resident(pid) for pid in self.pids())

    def _resident(self, pid: int) -> int:
        try:
            return int((self._proc / str(pid) / "statm").read_text().split()[1]) * PAGE_BYTES
        except (FileNotFoundError, ProcessLookupError):
            return 0


def machine_busy_seconds(proc: Path = PROC) -> float:
    """Processor time that the whole machine has spent at work since it started, over all processors."""
    with (proc / "stat").open() as file:
        fields = [int(field) for field in file.readline().split()[1:9]]
    idle = fields[3] + fields[4]  # idle, iowait
    return (sum(fields) - idle) / TICKS_PER_SECOND
