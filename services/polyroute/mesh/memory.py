"""How this process keeps memory, where the allocator has a say in it; and how much there is."""

import ctypes
import gc
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal, NamedTuple

# Of glibc's mallopt(3): https://man7.org/linux/man-pages/man3/mallopt.3.html
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
LARGE: Final = 32 * 1024 * 1024  # bytes; the largest that glibc takes
KEPT: Final = 128 * 1024 * 1024  # bytes


_GROUPS: Final = Path("/sys/fs/cgroup")
_STATM: Final = Path("/proc/self/statm")
_UNLIMITED: Final = 1 << 60  # a version 1 group without a limit says a number near 2 ** 63


class Memory(NamedTuple):
    """What may be had.

    Attributes:
        most: Bytes.
        in_use: Asks how many of them are in use.
    """

    most: int
    in_use: Callable[[], int]


def memory_of(most: int | Literal["auto"], groups: Path = _GROUPS) -> Memory | None:
    """The memory that this process has; None without a bound.

    Args:
        most: Bytes that it may take; 0 for no bound; `auto` for that of its container, whose processes share it.
        groups: Where control groups are mounted; in a container that is its own group.
    """
    if most != "auto":
        return Memory(most, resident_bytes) if most else None
    return _unified(groups) or _legacy(groups / "memory")


def resident_bytes() -> int:
    """Bytes of this process that are in memory: https://man7.org/linux/man-pages/man5/proc_pid_statm.5.html."""
    return int(_STATM.read_text().split()[1]) * resource.getpagesize()


def trim() -> None:
    """Gives back to the system what is free. Blocks for tens of milliseconds."""
    gc.collect()
    release = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if release is not None:
        release(0)


def _unified(group: Path) -> Memory | None:
    """https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files."""
    return _bounded(group / "memory.max", group / "memory.current", group / "memory.stat", "inactive_file")


def _legacy(group: Path) -> Memory | None:
    """https://docs.kernel.org/admin-guide/cgroup-v1/memory.html."""
    limit, usage = group / "memory.limit_in_bytes", group / "memory.usage_in_bytes"
    return _bounded(limit, usage, group / "memory.stat", "total_inactive_file")


def _bounded(limit: Path, usage: Path, stat: Path, cache: str) -> Memory | None:
    """Usage without the part of the page cache that the kernel takes back first."""
    try:
        said = limit.read_text().strip()
    except OSError:
        return None
    if not said.isdecimal() or not 0 < int(said) < _UNLIMITED:
        return None

    def in_use() -> int:
        fields = dict(line.split() for line in stat.read_text().splitlines())
        return int(usage.read_text()) - int(fields.get(cache, 0))

    return Memory(int(said), in_use)


def keep_large_blocks() -> None:
    """Has blocks of up to 32 MiB come from the heap, of whose free end up to 128 MiB stay.

    By itself glibc maps a block of 128 KiB and more anew each time it is asked for, and the kernel clears every page of
    it: a body of a megabyte is copied a few times on its way, and each copy then costs several times what copying does.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # other C libraries have no such thing
        mallopt(_M_MMAP_THRESHOLD, LARGE)
        mallopt(_M_TRIM_THRESHOLD, KEPT)
