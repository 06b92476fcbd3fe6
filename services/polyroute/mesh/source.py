"""A configuration file that may change while the process runs.

The file is looked at by polling: that works on every file system, over a network, and for the symbolic links by which
Kubernetes swaps mounted files, all of which file-system events miss.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, NamedTuple

POLL_SECONDS: Final = 1.0


class Fingerprint(NamedTuple):
    """What changes when a file does; all 0 when there is none."""

    mtime_ns: int
    size: int
    inode: int


class Source:
    """The file, or only the signal when there is none.

    Args:
        path: The file; None when only `wanted` counts.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._seen = self._look()
        self.wanted = asyncio.Event()  # set by whoever wants it read again now (SIGHUP)

    def _look(self) -> Fingerprint:
        try:
            found = self._path.stat() if self._path else None
        except OSError:
            found = None
        return Fingerprint(found.st_mtime_ns, found.st_size, found.st_ino) if found else Fingerprint(0, 0, 0)

    def changed(self) -> bool:
        """Whether the file is another one than when this was last asked."""
        now = self._look()
        changed = now != self._seen
        self._seen = now
        return changed

    async def follow(self, reload: Callable[[], Awaitable[None]], *, interval: float = POLL_SECONDS) -> None:
        """Calls `reload` whenever the file has changed, and at once when `wanted` is set."""
        while True:
            try:
                async with asyncio.timeout(interval):
                    await self.wanted.wait()
            except TimeoutError:
                if not self.changed():
                    continue
            self.wanted.clear()
            await reload()
