"""One child for all gateway processes of a user on a machine: who owns it, and where it is.

The owner holds a file lock, which the kernel gives back however the owner ends, and writes what it has to say into a
file beside it. The others read that file and try the lock: whoever gets it is the next owner.
"""

import contextlib
import fcntl
import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO, Final

from polyroute.providers.local.child import Endpoints
from polyroute.providers.local.status import Phase, Status

ADDRESS_FILE: Final = "local.json"
LOCK_FILE: Final = "local.lock"


class ShareError(Exception):
    """The runtime folder cannot be trusted or used; the text says why."""


class Share:
    """The runtime folder, seen by one process.

    Args:
        folder: Made with mode 0700 when missing; refused when it belongs to someone else or others may enter it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock: BinaryIO | None = None
        self._seen: tuple[int, int] | None = None
        self._status = Status(Phase.LOADING)

    def claim(self) -> bool:
        """Tries to become the owner, and says whether this is it now. Costs one system call when it is not.

        Raises:
            ShareError: The folder is not ours alone, or cannot be made.
        """
        if self._lock is None:
            self._lock = self._open()
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def publish(self, status: Status) -> None:
        """Writes the owner's status, whole or not at all, readable by this user alone: it holds the key."""
        handle, name = tempfile.mkstemp(prefix=".local-", dir=self._folder)  # mkstemp's mode is 0600
        with open(handle, "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor, not a path
            json.dump({**asdict(status), "owner": os.getpid()}, file)
        Path(name).replace(self._folder / ADDRESS_FILE)

    def read(self) -> Status:
        """What the owner last wrote; LOADING while it has written nothing. Reads only what has changed."""
        path = self._folder / ADDRESS_FILE
        try:
            stat = path.stat()
            seen = (stat.st_ino, stat.st_mtime_ns)
            if seen != self._seen:
                self._status = _parse(path.read_bytes())
                self._seen = seen
        except FileNotFoundError:
            self._status, self._seen = Status(Phase.LOADING), None
        return self._status

    def release(self, *, owner: bool) -> None:
        """Gives the lock back; an owner takes its address along."""
        if owner:
            with contextlib.suppress(FileNotFoundError):
                (self._folder / ADDRESS_FILE).unlink()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _open(self) -> BinaryIO:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            stat = self._folder.stat()
            if stat.st_uid != os.getuid() or stat.st_mode & 0o077:
                raise ShareError(f"{self._folder} must belong to this user and be closed to others")
            return (self._folder / LOCK_FILE).open("wb")
        except OSError as error:
            raise ShareError(f"{self._folder} cannot be used: {error.strerror}") from error


def _parse(data: bytes) -> Status:
    try:
        fields = json.loads(data)
        endpoints = fields["endpoints"]
        return Status(Phase(fields["phase"]), fields["detail"], Endpoints(**endpoints) if endpoints else None)
    except (ValueError, KeyError, TypeError):
        return Status(Phase.FAILED, "the process that owns the model is of another version")
