"""A client in another language, from the same protos: Node, which reads them at run time.

Skipped where Node or its packages cannot be had; never skipped where $CI is set.
"""

import asyncio
import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import orjson
import pytest

from bench.script import Script, marker
from tests.clients.conftest import Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")

HERE = Path(__file__).parent / "node"
PROTOS = Path(__file__).parents[2] / "protos"
INSTALL_SECONDS = 90


@pytest.fixture(scope="module")
def packages(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the locked packages, kept between runs of the tests."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        _cannot("node or npm is not installed")
    lock = HERE / "package-lock.json"
    cache: pytest.Cache | None = getattr(request.config, "cache", None)
    name = f"node-{hashlib.sha256(lock.read_bytes()).hexdigest()[:16]}"
    folder = cache.mkdir(name) if cache is not None else tmp_path_factory.mktemp(name)
    if not (folder / "installed").exists():
        _install(folder, lock)
    return folder


def _install(folder: Path, lock: Path) -> None:
    for file in (lock, HERE / "package.json"):
        shutil.copy(file, folder)
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=INSTALL_SECONDS)
    except subprocess.CalledProcessError as error:
        _cannot(f"npm ci: {error.stderr.decode(errors='replace')[-300:]}")
    except subprocess.TimeoutExpired:
        _cannot(f"npm ci took more than {INSTALL_SECONDS} s")
    (folder / "installed").touch()


def _cannot(reason: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


async def run(packages: Path, stage: Stage, *, key: str = "", model: str = "m", prompt: str = "hello") -> Any:
    """What the client printed."""
    process = await asyncio.create_subprocess_exec(
        "node",
        str(HERE / "client.mjs"),
        str(PROTOS),
        stage.gateway.door,
        key or stage.gateway.key,
        model,
        prompt,
        cwd=packages,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(20):
            out, problems = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert 0 == process.returncode, problems.decode()
    return orjson.loads(out)


async def test_a_streamed_chat(packages: Path, stage: Stage) -> None:
    """Several messages, all the words, who served, what it cost."""
    answer = await run(packages, stage, prompt=marker(chunks=6, gap=20))

    assert ("OK", "v/up", "FINISH_REASON_STOP") == (answer["code"], answer["deployment"], answer["finish"])
    assert 6 == answer["text"].count("@")
    assert answer["messages"] > 2
    usage = answer["completed"]["usage"]
    assert 6 == usage["output_tokens"]
    assert usage["input_tokens"] * 1500 + 6 * 6000 == answer["completed"]["cost_nanos"]


async def test_errors(packages: Path, stage: Stage) -> None:
    """A status of its own for each, with details to branch on."""
    stage.vendor.inject(Script(cut=2))

    broken, unknown, refused = await asyncio.gather(
        run(packages, stage),
        run(packages, stage, model="no-such"),
        run(packages, stage, key="pr-" + "E" * 43),
    )

    assert ("UNAVAILABLE", 2) == (broken["code"], broken["text"].count("@"))
    assert "NOT_FOUND" == unknown["code"]
    assert "MODEL_NOT_FOUND" in unknown["details"]
    assert ("UNAUTHENTICATED", "") == (refused["code"], refused["text"])
