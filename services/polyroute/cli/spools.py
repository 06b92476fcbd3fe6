"""The spools of this machine's edges in a backup: what is on its way to the databases while these are copied.

Databases are copied one after the other, and calls go on meanwhile. So the place up to which a spool is done with is
read before the first database is copied, and the spool itself after the last one: whatever was delivered in between is
in the copy of the spool still, and whatever the receiver has already it takes no second time. Of a spool the records
are read first, then the intents, then the charges: an attempt leaves its intent when its charge is written down, so
that each call whose record is in the copy has one of them there, or a record that says what to charge.
"""

import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Final, Self

from polyroute.mesh.roles import ConfigError

FOLDER: Final = "spool"  # in the data directory
_CHARGES: Final = "charges"
_INTENTS: Final = "intents"
_HOLDER: Final = "holder"
_POSITION: Final = "position"
_LOOK_SECONDS: Final = 0.05  # much less than it takes to fill a segment


class _Watched:
    """One spool: its segments are held open, so that those which are dropped meanwhile can still be read.

    Args:
        folder: Where it lies.
    """

    def __init__(self, folder: Path) -> None:
        place = folder / _POSITION
        self._folder = folder
        self._position = place.read_bytes() if place.exists() else b""
        self._open: dict[Path, BinaryIO] = {}

    def look(self, files: ExitStack) -> None:
        """Opens the segments that are new."""
        for path in sorted(self._folder.glob("*.seg")):
            if path not in self._open:
                try:
                    self._open[path] = files.enter_context(path.open("rb"))
                except FileNotFoundError:  # done with, and dropped
                    continue

    def copied(self, target: Path) -> Iterator[Path]:
        """Writes what it holds into a folder; the files.

        Raises:
            ConfigError: A segment came and went unseen.
        """
        numbers = [int(path.stem) for path in self._open]
        if numbers and max(numbers) - min(numbers) + 1 != len(numbers):
            raise ConfigError(f"{self._folder} moved on faster than it could be copied; make the backup again")
        for path, file in self._open.items():
            with (target / path.name).open("wb") as copy:
                shutil.copyfileobj(file, copy)
            yield target / path.name
        (target / _POSITION).write_bytes(self._position)
        yield target / _POSITION


class Spools:
    """Follows the spools of a data directory while the body runs.

    Args:
        data_dir: The data directory.
    """

    def __init__(self, data_dir: Path) -> None:
        self._root = data_dir / FOLDER
        self._files = ExitStack()
        self._watched: dict[Path, _Watched] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> Self:
        self._look()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._files.close()

    def copied(self, folder: Path) -> Mapping[str, Path]:
        """Copies them, after the databases; the copies by their names in the backup.

        Args:
            folder: Where the copies are written.

        Raises:
            ConfigError: They moved on too fast.
        """
        self._stop()
        self._look()
        copies: dict[str, Path] = {}
        for owner in sorted(path for path in self._watched if path.name != _CHARGES):
            target = folder / FOLDER / owner.name
            (target / _CHARGES).mkdir(mode=0o700, parents=True)
            written = [*self._watched[owner].copied(target)]
            small = [name for name in (_HOLDER, _INTENTS) if (owner / name).exists()]
            written += [Path(shutil.copyfile(owner / name, target / name)) for name in small]
            charges = self._watched.get(owner / _CHARGES)
            if charges is not None:
                charges.look(self._files)  # one that began since the records were read
                written += charges.copied(target / _CHARGES)
            copies |= {path.relative_to(folder).as_posix(): path for path in written}
        return copies

    def _look(self) -> None:
        for owner in self._root.glob("*/"):
            for folder in (owner, owner / _CHARGES):
                if folder not in self._watched and folder.is_dir():
                    self._watched[folder] = _Watched(folder)
                if folder in self._watched:
                    self._watched[folder].look(self._files)

    def _follow(self) -> None:
        while not self._done.wait(_LOOK_SECONDS):
            self._look()

    def _stop(self) -> None:
        self._done.set()
        if self._thread.ident is not None:
            self._thread.join()


def hold_something(data_dir: Path) -> bool:
    """Whether there are spools in a data directory."""
    return any((data_dir / FOLDER).glob("*/*"))
