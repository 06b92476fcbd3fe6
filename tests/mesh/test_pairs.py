"""Any client with any vendor: what one says reaches the other, whatever both speak."""

import asyncio
from collections.abc import AsyncGenerator
from itertools import product
from typing import Any, Final

import pytest
import pytest_asyncio

from tests.callers import CALLERS, SCHEMA, Caller, Said
from tests.fakes.turns import Call, Heard, Turn
from tests.fakes.vendors import ALL
from tests.fakes.works import PNG
from tests.mesh.gateway import Answer
from tests.spoken import Stage, speaking

pytestmark = pytest.mark.asyncio(loop_scope="module")
every_pair = pytest.mark.parametrize(
    ("caller", "vendor"),
    [pytest.param(caller, vendor, id=f"{caller.dialect}-{vendor}") for caller in CALLERS for vendor in ALL],
)
both_ways = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
CALLS: Final = (
    Call("weather", '{"city":"Oslo"}', "call_oslo"),
    Call("weather", '{"city":"Rome é"}', "call_rome"),
)
RESULTS: Final = ["rain", "sun"]
SEALS: Final = frozenset({"openai.responses", "anthropic.messages", "bedrock.converse", "gemini.generate"})
SEAL: Final = "c2VhbGVkIHRob3VnaHRz"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Stage]:
    """One gateway for all pairs."""
    async with speaking(tmp_path_factory.mktemp("gateway")) as stage:
        yield stage


async def ask(stage: Stage, caller: Caller, model: str, body: Any, *, stream: bool) -> Answer:
    """The gateway's answer as it came."""
    answer: Answer = await stage.gateway.post(caller.path(model, stream=stream), body)
    return answer


async def said(stage: Stage, caller: Caller, model: str, body: Any, *, stream: bool) -> Said:
    """A complete answer, read by the caller."""
    answer = await ask(stage, caller, model, body, stream=stream)
    assert 200 == answer.status, answer.body
    found = (caller.streamed if stream else caller.whole)(answer.body)
    assert not found.error
    assert found.ended == stream
    return found


@every_pair
@both_ways
async def test_words(stage: Stage, caller: Caller, vendor: str, *, stream: bool) -> None:
    """Instructions and question reach the vendor, its answer and its bill the caller."""
    stage.vendors.say(Turn(text="gréat 🎉 news"))

    answer = await said(stage, caller, vendor, caller.question(vendor, "hellö", stream=stream), stream=stream)

    heard = stage.vendors.last.heard
    assert vendor == stage.vendors.last.dialect
    assert stream == heard.stream
    assert [("system", "be brief"), ("user", "hellö")] == heard.texts
    assert ("gréat 🎉 news", "", [], "stop") == (answer.text, answer.reasoning, answer.calls, answer.finish)


@every_pair
@both_ways
async def test_usage(stage: Stage, caller: Caller, vendor: str, *, stream: bool) -> None:
    """The sums are the vendor's, however either of them counts."""
    turn = Turn(text="much", fresh=70, cached=30, thought=11, spoken=5)
    stage.vendors.say(turn)

    answer = await said(stage, caller, vendor, caller.question(vendor, "count", stream=stream), stream=stream)

    counts = ALL[vendor].counts
    assert (100, 16) == (answer.asked, answer.answered)
    assert (30 if "cached" in counts else 0) == answer.cached
    if caller.dialect != "anthropic.messages":  # which does not tell thoughts apart
        assert (11 if "thought" in counts else 0) == answer.thought


@every_pair
@both_ways
async def test_the_bound_was_reached(stage: Stage, caller: Caller, vendor: str, *, stream: bool) -> None:
    """An answer that was cut short says so."""
    stage.vendors.say(Turn(text="and then", cut_short=True))

    answer = await said(stage, caller, vendor, caller.question(vendor, "tell", stream=stream), stream=stream)

    assert ("and then", "length") == (answer.text, answer.finish)


@every_pair
@both_ways
async def test_thoughts(stage: Stage, caller: Caller, vendor: str, *, stream: bool) -> None:
    """Thoughts stay thoughts."""
    stage.vendors.say(Turn(text="42", reasoning="let me sée", seal=SEAL))

    answer = await said(stage, caller, vendor, caller.question(vendor, "why", stream=stream), stream=stream)

    assert ("let me sée", "42", "stop") == (answer.reasoning, answer.text, answer.finish)


@every_pair
@both_ways
async def test_tools(stage: Stage, caller: Caller, vendor: str, *, stream: bool) -> None:
    """Two calls of one tool at once, their results, the answer; the vendor sees its own calls and thoughts again."""
    stage.vendors.say(Turn(reasoning="look outside", seal=SEAL, calls=CALLS), Turn(text="rain, then sun"))
    question = caller.question(vendor, "weather?", stream=stream, tools=["weather", "time"])

    first = await said(stage, caller, vendor, question, stream=stream)
    asked = stage.vendors.last.heard
    second = await said(stage, caller, vendor, caller.followed(question, first, RESULTS), stream=stream)
    heard = stage.vendors.last.heard

    assert ["weather", "time"] == asked.tools
    assert "tools" == first.finish
    assert [(call.name, call.given) for call in CALLS] == [(call.name, call.given) for call in first.calls]
    if caller.ids:
        ids = [call.id for call in first.calls]
        assert 2 == len(set(ids))
        assert all(ids)
        assert not ALL[vendor].ids or ids == [call.id for call in CALLS]
    _check_loop(vendor, heard)
    assert ("rain, then sun", "stop") == (second.text, second.finish)


def _check_loop(vendor: str, heard: Heard) -> None:
    """The whole conversation as the vendor must get it back."""
    assert [(call.name, call.given) for call in CALLS] == [(call.name, call.given) for call in heard.calls]
    if ALL[vendor].ids:
        assert [call.id for call in CALLS] == [call.id for call in heard.calls]
        assert [("call_oslo", "rain"), ("call_rome", "sun")] == heard.results
    else:
        assert [("weather", "rain"), ("weather", "sun")] == heard.results
    if vendor in SEALS:
        assert [SEAL] == heard.seals
    assert ("user", "weather?") in heard.texts


@every_pair
@both_ways
async def test_structure(stage: Stage, caller: Caller, vendor: str, *, stream: bool) -> None:
    """The schema of the answer reaches the vendor."""
    stage.vendors.say(Turn(text='{"city":"Oslo"}'))
    question = caller.question(vendor, "which city?", stream=stream, schema=True)

    answer = await said(stage, caller, vendor, question, stream=stream)

    assert SCHEMA == stage.vendors.last.heard.schema
    assert '{"city":"Oslo"}' == answer.text


@every_pair
@both_ways
async def test_refusals(stage: Stage, caller: Caller, vendor: str, *, stream: bool) -> None:
    """The words of who declines are there, whether the caller's API tells them apart or not."""
    stage.vendors.say(Turn(refusal="I would rather not"))

    answer = await said(stage, caller, vendor, caller.question(vendor, "do evil", stream=stream), stream=stream)

    assert "I would rather not" == answer.text
    assert answer.finish


@every_pair
@both_ways
async def test_pictures(stage: Stage, caller: Caller, vendor: str, *, stream: bool) -> None:
    """A picture's bytes arrive."""
    stage.vendors.say(Turn(text="a dot"))
    question = caller.question(vendor, "what is it?", stream=stream, picture=PNG)

    answer = await said(stage, caller, vendor, question, stream=stream)

    assert [PNG] == stage.vendors.last.heard.pictures
    assert ("user", "what is it?") == stage.vendors.last.heard.texts[-1]
    assert "a dot" == answer.text


@every_pair
@both_ways
@pytest.mark.parametrize("status", [400, 503])
async def test_an_error_at_once(stage: Stage, caller: Caller, vendor: str, status: int, *, stream: bool) -> None:
    """It has a status and the caller's form, with the vendor's words."""
    stage.vendors.say(Turn(status=status, says="the parameter is bad" if status == 400 else "too many people"))

    answer = await ask(stage, caller, vendor, caller.question(vendor, "hi", stream=stream), stream=stream)

    overloaded = 529 if caller.dialect == "anthropic.messages" else 503
    assert (400 if status == 400 else overloaded) == answer.status
    assert ("parameter is bad" if status == 400 else "too many people") in caller.whole(answer.body).error


@every_pair
async def test_an_error_in_the_middle(stage: Stage, caller: Caller, vendor: str) -> None:
    """What came before it is there; then the error in the caller's form, and no end."""
    for turn in (Turn(text="half of", breaks=True, says="lost my mind"), Turn(text="half of", cut=True)):
        stage.vendors.say(turn)

        answer = await ask(stage, caller, vendor, caller.question(vendor, "hi", stream=True), stream=True)

        found = caller.streamed(answer.body)
        assert (200, "half of", False) == (answer.status, found.text, found.ended)
        assert found.error
        assert not turn.breaks or "lost my mind" in found.error


async def test_all_at_once(stage: Stage) -> None:
    """Calls side by side do not mix."""
    stage.vendors.say()
    stage.vendors.turn = Turn(echo=True)
    asked = [
        (caller, vendor, stream, f"question {number}")
        for number, (caller, vendor, stream) in enumerate(product(CALLERS, ALL, (False, True)))
    ]

    answers = await asyncio.gather(
        *(
            said(stage, caller, vendor, caller.question(vendor, words, stream=stream), stream=stream)
            for caller, vendor, stream, words in asked
        )
    )

    assert [words for *_, words in asked] == [answer.text for answer in answers]
