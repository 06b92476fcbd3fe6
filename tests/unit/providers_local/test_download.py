"""The installer's command and what is made of its answer; the installers here are one line of shell."""

import asyncio
import importlib.util
import sys
from pathlib import Path

import pytest

from polyroute.providers.local import download
from polyroute.providers.local.download import FetchError, Wheel

WHEEL = Wheel("tiny-model", "1.0", "ab" * 32, 100)


def shell(script: str) -> list[str]:
    return ["/bin/sh", "-c", script]


def lives(pid: Path) -> bool:
    """Whether the process whose number stands in the file is there."""
    return Path(f"/proc/{pid.read_text(encoding='utf-8').strip()}").exists()


async def test_installer_is_told_the_one_wheel_by_its_hash(tmp_path: Path) -> None:
    """The requirements file pins version and sha256, and temporary files go into the folder."""
    await download.fetch(WHEEL, tmp_path, shell(f'cp {tmp_path}/requirements.txt "$TMPDIR"/seen'))

    assert f"tiny-model==1.0 --hash=sha256:{'ab' * 32}\n" == (tmp_path / "seen").read_text(encoding="utf-8")


async def test_refusal_is_told_in_the_installers_last_error(tmp_path: Path) -> None:
    """Of all that an installer writes, the error line is what helps."""
    script = "echo 'WARNING: retrying' >&2; echo 'ERROR: no matching distribution' >&2; echo bye >&2; exit 1"

    with pytest.raises(FetchError, match=r"could not fetch tiny-model 1\.0: no matching distribution$"):
        await download.fetch(WHEEL, tmp_path, shell(script))


async def test_silent_refusal_is_still_told(tmp_path: Path) -> None:
    """An installer that only fails gives no empty message."""
    with pytest.raises(FetchError, match="the installer said nothing"):
        await download.fetch(WHEEL, tmp_path, shell("exit 3"))


async def test_cancelling_ends_the_installer(tmp_path: Path) -> None:
    """The child is gone when the cancelled call returns."""
    pid = tmp_path / "pid"
    task = asyncio.create_task(download.fetch(WHEEL, tmp_path, shell(f"echo $$ > {pid}; exec sleep 60")))
    while not (pid.exists() and pid.read_text(encoding="utf-8")):
        await asyncio.sleep(0.001)

    task.cancel()
    await asyncio.wait((task,))

    assert task.cancelled()
    assert not lives(pid)


def test_pip_downloads_without_dependencies_or_building(tmp_path: Path) -> None:
    """Hash-checking mode, wheels only: nothing of the package can run."""
    command = download.installer(tmp_path)

    assert command[1:5] == ["-P", "-m", "pip", "download"]
    assert {"--no-deps", "--require-hashes", "--only-binary"} <= set(command)
    assert command[-2:] == ["--dest", str(tmp_path)]


def test_uv_stands_in_for_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment made by uv has no pip."""
    uv = tmp_path / "uv"
    uv.write_text("#!/bin/sh\n", encoding="utf-8")
    uv.chmod(0o755)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))

    command = download.installer(tmp_path)

    assert command[:3] == [str(uv), "pip", "install"]
    assert {"--no-deps", "--require-hashes", "--only-binary"} <= set(command)
    assert command[-2:] == ["--target", str(tmp_path)]


def test_no_installer_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what to install."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(FetchError, match="neither pip nor uv"):
        download.installer(tmp_path)
