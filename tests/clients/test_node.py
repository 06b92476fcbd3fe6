"""Clients in another language: one of the gRPC door, which reads the protos at run time, and SDKs of the HTTP door.

Skipped where Node or its packages cannot be had; never skipped where $CI is set.
"""

import asyncio
import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import orjson
import pytest

from bench.script import Script, marker
from tests.clients.conftest import Stage
from tests.fakes.turns import Call, Turn
from tests.fakes.works import vector
from tests.spoken import Stage as SpokenStage

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


async def node(packages: Path, script: str, *arguments: str) -> Any:
    """What a script printed."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        "node", str(HERE / script), *arguments, cwd=packages, stdout=pipe, stderr=pipe
    )
    try:
        async with asyncio.timeout(20):
            out, problems = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert 0 == process.returncode, problems.decode()
    return orjson.loads(out)


async def run(packages: Path, stage: Stage, *, key: str = "", model: str = "m", prompt: str = "hello") -> Any:
    """What the client of the gRPC door printed."""
    return await node(packages, "client.mjs", str(PROTOS), stage.gateway.door, key or stage.gateway.key, model, prompt)


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


CALLS: Final = (Call("weather", '{"city":"Oslo"}', "call_a"), Call("weather", '{"city":"Rome"}', "call_b"))
BROKEN: Final = Turn(text="half of", breaks=True, says="lost my mind")
CITY: Final = Turn(text='{"name":"Oslo"}')
both_vendors = pytest.mark.parametrize("vendor", ["openai.chat", "gemini.generate"])


def check_loop(stage: SpokenStage, before: int) -> None:
    """The vendor heard both results and the schema."""
    heard = [seen.heard for seen in stage.vendors.seen[before:] if seen.dialect]
    assert ["Oslo is wet", "Rome is wet"] == [result.strip('"') for _, result in heard[3].results]
    assert ["name"] == heard[4].schema["required"]


@both_vendors
async def test_the_openai_package(packages: Path, spoken: SpokenStage, vendor: str) -> None:
    """Chat, stream, tools and their results, a parsed answer, the newer API, vectors, errors."""
    spoken.vendors.say(
        Turn(text="hi"), Turn(text="good day"), Turn(calls=CALLS), Turn(text="wet"), CITY, Turn(text="new"), BROKEN
    )
    before = len(spoken.vendors.seen)

    told = await node(packages, "openai.mjs", spoken.gateway.url, spoken.gateway.key, vendor)

    check_loop(spoken, before)
    assert (["hi", 19], "good day") == (told["whole"], "".join(told["pieces"]))
    assert len(told["pieces"]) > 1
    assert [call.given for call in CALLS] == [orjson.loads(call) for call in told["calls"]]
    assert ("wet", "Oslo", ["new", "completed"]) == (told["answered"], told["city"], told["response"])
    assert [vector("one"), vector("three")] == told["vectors"]
    assert "half of|lost my mind" == told["broken"]
    assert ["NotFoundError", 404, "model_not_found", True] == told["refused"]


@both_vendors
async def test_the_ai_package(packages: Path, spoken: SpokenStage, vendor: str) -> None:
    """Chat with thoughts, stream, tools that the package runs, an object, vectors, errors."""
    first = Turn(text="hi", reasoning="hm")
    spoken.vendors.say(first, Turn(text="good day"), Turn(calls=CALLS), Turn(text="wet"), CITY, BROKEN)
    before = len(spoken.vendors.seen)

    told = await node(packages, "ai.mjs", spoken.gateway.url, spoken.gateway.key, vendor)

    check_loop(spoken, before)
    assert (["hi", "hm", 19, "stop"], "good day", 19) == (told["whole"], "".join(told["pieces"]), told["total"])
    assert (["Oslo", "Rome"], "wet", "Oslo") == (sorted(told["cities"]), told["answered"], told["city"])
    assert [vector("one"), vector("three")] == told["vectors"]
    assert told["broken"].startswith("half of|")
    assert "lost my mind" in told["broken"]
    assert (404, False) == (told["refused"][0], told["refused"][2])


@pytest.mark.parametrize("vendor", ["openai.responses", "openai.chat", "gemini.generate"])
async def test_the_ai_package_that_asks_for_responses(packages: Path, spoken: SpokenStage, vendor: str) -> None:
    """Its provider of OpenAI's own: chat, stream, tools that the package runs, an object, errors."""
    spoken.vendors.say(Turn(text="hi"), Turn(text="good day"), Turn(calls=CALLS), Turn(text="wet"), CITY, BROKEN)
    before = len(spoken.vendors.seen)

    told = await node(packages, "ai_responses.mjs", spoken.gateway.url, spoken.gateway.key, vendor)

    check_loop(spoken, before)
    assert "openai.responses" == told["asked"]
    assert (["hi", 19, "stop"], "good day", 19) == (told["whole"], "".join(told["pieces"]), told["total"])
    assert (["Oslo", "Rome"], "wet", "Oslo") == (sorted(told["cities"]), told["answered"], told["city"])
    assert told["broken"].startswith("half of|")
    assert "lost my mind" in told["broken"]
    assert (404, False) == (told["refused"][0], told["refused"][2])
