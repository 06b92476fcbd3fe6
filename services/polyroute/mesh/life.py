"""Names of lives of processes, by which others on the same machine can tell whether they are over.

A name says which machine it was (one start of a kernel, and one namespace of process ids, so that a container is a
machine of its own), which process, and when that began: an id is given to another process some time later.
Where there is no /proc a name is just random, and nobody can tell.
"""

import os
from hashlib import blake2b
from pathlib import Path
from typing import Final
from uuid import uuid4

_PARTS: Final = 4
_STARTED: Final = 19  # of the fields behind the name in /proc/PID/stat, proc_pid_stat(5)


def name() -> str:
    """A name for this life of this process, at most 64 bytes; no two are the same."""
    unique = uuid4().hex[:16]
    machine, pid = _machine(), os.getpid()
    started = _started(pid) if machine else ""
    return f"{unique}.{machine}.{pid}.{started}" if started else uuid4().hex


def ended(life: str) -> bool:
    """Whether a life is over for certain; not where it is, or was, on another machine."""
    parts = life.split(".")
    if len(parts) != _PARTS or not parts[2].isdecimal() or parts[1] != _machine():
        return False
    return _started(int(parts[2])) != parts[3]


def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_bytes()
        namespace = str(Path("/proc/self/ns/pid").readlink()).encode()
    except OSError:
        return ""
    return blake2b(boot + namespace, digest_size=8).hexdigest()


def _started(pid: int) -> str:
    """When a process began, in ticks of the kernel; empty when there is none, or only what its parent did not fetch."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in {"Z", "X"} else fields[_STARTED]
