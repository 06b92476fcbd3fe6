"""The installation's secret: a small file beside the database, without which the digests in it are worth nothing."""

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final

PEPPER_BYTES: Final = 32
_OTHERS: Final = 0o007  # the group may read: volume managers such as Kubernetes hand files to a pod by its group


class PepperError(Exception):
    """The pepper file cannot be used as it is."""


def load_or_create(path: Path) -> bytes:
    """The pepper in `path`, made now when there is none.

    The file appears whole or not at all, and only once: when two processes start at the same moment, both return the
    pepper of the one that came first.

    Raises:
        PepperError: The file has not the right size, or any user of the machine may use it.
    """
    pepper = write_once(path, lambda: secrets.token_bytes(PEPPER_BYTES))
    if len(pepper) != PEPPER_BYTES:
        raise PepperError(f"{path} holds {len(pepper)} bytes instead of {PEPPER_BYTES}: restore it from a backup")
    return pepper


def write_once(path: Path, make: Callable[[], bytes]) -> bytes:
    """What is in `path`, made now when there is none; the first of two processes that start at the same moment wins.

    Raises:
        PepperError: Any user of the machine may use the file.
    """
    if not path.exists():
        _create(path, make())
    if path.stat().st_mode & _OTHERS:
        raise PepperError(f"{path} is open to every user of this machine: chmod 600 it")
    return path.read_bytes()


def _create(path: Path, content: bytes) -> None:
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        _write(draft, content)
        # unlike a rename, a link never replaces a file: the first of two starting processes wins
        path.hardlink_to(draft)
    except FileExistsError:
        pass  # the other process's file is as good as ours
    finally:
        draft.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)


def _sync_folder(folder: Path) -> None:
    """Makes the file's name as durable as its content."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
