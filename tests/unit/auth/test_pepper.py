"""The pepper file."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from polyroute.auth.pepper import PEPPER_BYTES, PepperError, load_or_create


def test_pepper_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    """The second start reads what the first one wrote."""
    path = tmp_path / "auth.db.pepper"
    first = load_or_create(path)

    assert len(first) == PEPPER_BYTES
    assert first == load_or_create(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [path] == list(tmp_path.iterdir())


def test_processes_that_start_together_agree(tmp_path: Path) -> None:
    """Whoever comes first decides; the others leave nothing behind."""
    path, start = tmp_path / "auth.db.pepper", Barrier(8)

    def begin(_: int) -> bytes:
        start.wait()
        return load_or_create(path)

    with ThreadPoolExecutor(8) as pool:
        peppers = set(pool.map(begin, range(8)))

    assert {path.read_bytes()} == peppers
    assert [path] == list(tmp_path.iterdir())


def test_pepper_cut_short_is_refused(tmp_path: Path) -> None:
    """Going on with another pepper would turn every key away."""
    path = tmp_path / "auth.db.pepper"
    path.touch(mode=0o600)

    with pytest.raises(PepperError, match="holds 0 bytes"):
        load_or_create(path)


def test_pepper_open_to_everyone_is_refused(tmp_path: Path) -> None:
    """A secret that any user of the machine can read is none."""
    path = tmp_path / "auth.db.pepper"
    load_or_create(path)
    path.chmod(0o644)

    with pytest.raises(PepperError, match="chmod 600"):
        load_or_create(path)
