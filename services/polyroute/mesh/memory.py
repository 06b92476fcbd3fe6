"""How this process keeps memory, where the allocator has a say in it."""

import ctypes
import sys
from typing import Final

# Of glibc's mallopt(3): https://man7.org/linux/man-pages/man3/mallopt.3.html
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
LARGE: Final = 32 * 1024 * 1024  # bytes; the largest that glibc takes
KEPT: Final = 128 * 1024 * 1024  # bytes


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
