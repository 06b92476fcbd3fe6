"""One process a role: a second gateway on the same data folder would take the first one's sockets and databases."""

import fcntl
from collections.abc import Generator, Iterable
from contextlib import ExitStack, contextmanager
from pathlib import Path

from polyroute.mesh.roles import ConfigError


@contextmanager
def claimed(folder: Path, roles: Iterable[str]) -> Generator[None]:
    """Holds `roles` of the data folder's `folder` while the body runs; the system lets go of them when a process dies.

    Raises:
        ConfigError: Another process plays one of them there.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExitStack() as stack:
        for role in sorted(roles):
            lock = stack.enter_context((folder / f"{role}.lock").open("w"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigError(
                    f"another process plays {role} with {folder}; stop it, or name another folder with --data-dir"
                ) from None
        yield
