"""LangChain and LlamaIndex, each in one script that does what applications do with it.

They live in an environment of their own, `clients` in that of the tests; skipped where it is not, but where $CI is set.
"""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any, Final

import orjson
import pytest

from tests.fakes.turns import Call, Turn
from tests.fakes.works import vector
from tests.spoken import Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")

PYTHON: Final = Path(sys.prefix) / "clients" / "bin" / "python"
SCRIPT: Final = Path(__file__).parent / "python" / "frameworks.py"
SECONDS: Final = 60.0
CALLS: Final = (Call("weather", '{"city":"Oslo"}', "call_a"), Call("weather", '{"city":"Rome"}', "call_b"))
CITY: Final = Turn(text='{"name":"Oslo"}')
VENDORS: Final = ("openai.chat", "gemini.generate")
FRAMEWORKS: Final = {
    "langchain": (Turn(text="hi"), Turn(text="good day"), Turn(calls=CALLS), Turn(text="wet"), CITY, Turn(text="new")),
    "llamaindex": (Turn(text="hi"), Turn(text="good day"), Turn(calls=CALLS), Turn(text="wet"), CITY),
}


async def run(stage: Stage, name: str, *models: str) -> Any:
    """What a script printed."""
    if not PYTHON.exists():
        reason = f"no environment with the frameworks at {PYTHON.parents[1].name}"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    command = [str(PYTHON), "-W", "ignore", str(SCRIPT), name, stage.gateway.url, stage.gateway.key, *models]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
    try:
        async with asyncio.timeout(SECONDS):
            out, problems = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert 0 == process.returncode, problems.decode()
    return orjson.loads(out.splitlines()[-1])


@pytest.mark.parametrize("name", FRAMEWORKS)
async def test_a_framework(spoken: Stage, name: str) -> None:
    """Chat, stream, tools and their results, structured output, vectors; with vendors of two formats."""
    spoken.vendors.say(*FRAMEWORKS[name] * 2)

    told = await run(spoken, name, *VENDORS)

    for vendor, one in zip(VENDORS, told, strict=True):
        heard = [seen.heard for seen in spoken.vendors.seen if seen.dialect == vendor][-len(FRAMEWORKS[name]) :]
        assert ("hi", "good day") == (one["whole"], "".join(one["pieces"]))
        assert len(one["pieces"]) > 1
        assert [{"city": "Oslo"}, {"city": "Rome"}] == one["calls"]
        assert ["Oslo is wet", "Rome is wet"] == [result for _, result in heard[3].results]
        assert ["name"] == heard[4].schema["required"]
        assert ("wet", "Oslo") == (one["answered"], one["city"])
        assert [vector("one"), vector("three")] == one["vectors"]
        assert name != "langchain" or (one["newer"], one["total"]) == ("new", 19)
