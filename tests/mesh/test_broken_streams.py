"""After the commit point: what came is an exact prefix, an error stands in the stream, and no end marker follows."""

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest

from bench.script import Script
from polyroute.api.errors.v1 import errors_pb2
from polyroute.api.metrics.v1 import metrics_pb2
from tests.mesh.conftest import Stage
from tests.mesh.gateway import Answer, running, text_of
from tests.mesh.raw import EVENTS, RawVendor, Reply, Seen, events

pytestmark = pytest.mark.asyncio(loop_scope="module")

STREAM = (
    b'data: {"id":"x","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}\n\n'
    b": ping\n\n"
    b'data: {"id":"x","choices":[{"index":0,"delta":{"content":"\\u4f60 "},"finish_reason":null}]}\n\n'
    b'data: {"id":"x","choices":[{"index":0,"delta":{"content":"b\xc3\xa9 "},"finish_reason":null}]}\n\n'
    b'data: {"id":"x","choices":[{"index":0,"delta":{"content":"c"},"finish_reason":null}]}\n\n'
    b'data: {"id":"x","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    b'data: {"id":"x","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}}\n\n'
    b"data: [DONE]\n\n"
)
_END = b"null}]}\n\n"
FIRST_CONTENT = STREAM.index(_END, STREAM.index(b"\\u4f60")) + len(_END)  # from here on there is an event with content
FINISHED = STREAM.index(b'"stop"}]}\n\n') + len(b'"stop"}]}\n\n')
PATIENCE = 3.0  # s: bounds of 0.3 s have been noticed by then on any machine; pings would go on for 5 s
SHOWN: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}


@pytest.mark.parametrize(("piece", "step"), [(len(STREAM), 1), (5, 7)])
async def test_cut_at_every_byte(tmp_path: Path, piece: int, step: int) -> None:
    """Wherever a vendor's stream is cut: no hang, no end marker unless it was complete, and an exact prefix."""

    def cut(seen: Seen) -> Reply:
        data = STREAM[: orjson.loads(seen.body)["seed"]]
        pieces = tuple(data[at : at + piece] for at in range(0, len(data), piece))
        return Reply(pieces, kind=EVENTS, cut=True)

    offsets = range(0, len(STREAM), step)
    few = asyncio.Semaphore(32)  # or each would wait for all

    async def cut_after(offset: int) -> Answer:
        async with few:
            return await gateway.chat(seed=offset, **SHOWN)

    async with RawVendor(cut) as vendor, running(tmp_path, {"v": vendor.url}, router={"max_attempts": 1}) as gateway:
        answers = await asyncio.gather(*map(cut_after, offsets))

    for offset, answer in zip(offsets, answers, strict=True):
        _check_cut(offset, answer)


def _check_cut(offset: int, answer: Answer) -> None:
    failed = f"cut after {offset}: {answer}"
    if offset < FIRST_CONTENT:
        assert (502, "upstream_truncated") == (answer.status, answer.error["code"]), failed
        return
    assert 200 == answer.status, failed
    *said, last = answer.events
    frames = [frame for frame in STREAM[:offset].split(b"\n\n") if frame.startswith(b"data: {")]
    ended = STREAM[:offset].count(b"}\n\n")
    assert [frame.strip()[6:] for frame in frames][: len(said)] == said, failed
    assert ended <= len(said), failed
    if offset >= FINISHED:
        assert b"[DONE]" == last, failed
    else:
        assert "upstream_truncated" == orjson.loads(last)["error"]["code"], failed


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (Script(cut=3), "upstream_truncated"),
        (Script(stall=3), "upstream_timeout"),
        (Script(garbage=3), "upstream_bad_answer"),
        (Script(error=3), "upstream_error"),
    ],
)
async def test_broken_after_content(stage: Stage, script: Script, code: str) -> None:
    """Nobody else answers; the record has what was delivered and what it will cost."""
    before = stage.b.requests
    stage.a.inject(script)

    answer = await stage.gateway.chat("word " * 40, model="pair", stream=True)
    record = await stage.gateway.recorded(answer)

    *said, last = answer.events
    assert 200 == answer.status
    assert 3 == b"".join(said).count(b"@")
    assert code == orjson.loads(last)["error"]["code"]
    assert b"[DONE]" not in answer.body
    assert before == stage.b.requests
    assert metrics_pb2.OUTCOME_BROKEN == record.outcome
    assert (200, 1) == (record.http_status, len(record.attempts))
    assert errors_pb2.FAULT_UNSPECIFIED != record.attempts[0].fault
    assert (3, True) == (record.usage.output_tokens, record.usage.estimated)
    assert record.usage.input_tokens >= 50
    assert record.cost_nanos == record.usage.input_tokens * 1500 + 3 * 6000


async def test_a_stall_ends_at_its_bound(stage: Stage) -> None:
    """A vendor that falls silent in mid-answer is given up after the inter-token bound, 0.3 s here."""
    loop = asyncio.get_running_loop()
    stage.a.inject(Script(stall=2))
    began = loop.time()

    answer = await stage.gateway.chat(model="pair", stream=True)

    assert 0.25 < loop.time() - began < PATIENCE
    assert b"upstream_timeout" in answer.body


async def test_pings_do_not_keep_a_silent_vendor_alive(stage: Stage) -> None:
    """Comments put off the bound between two tokens a few times only, and that of the first token never."""
    loop = asyncio.get_running_loop()
    pings = (b": ping\n\n",) * 100
    opening = STREAM[: STREAM.index(b'data: {"id":"x","choices":[{"index":0,"delta":{"content":"c')]
    stage.raw.queue(*[Reply(pings, kind=EVENTS, pause=0.05)] * 3, Reply((opening, *pings), kind=EVENTS, pause=0.05))
    began = loop.time()
    silent = await stage.gateway.chat(model="raw-pair", stream=True)
    between = loop.time()
    stage.raw.replies.popleft()
    stage.raw.replies.popleft()
    broken = await stage.gateway.chat(model="raw-pair", stream=True)

    assert between - began < PATIENCE
    assert b"[DONE]" in silent.body
    assert loop.time() - between < PATIENCE
    assert b"upstream_timeout" in broken.body


async def test_keep_alive_before_a_slow_first_token(stage: Stage) -> None:
    """A client of a slow model hears comments, every half second here, and then a whole answer."""
    stage.a.inject(Script(first=1300))
    began = asyncio.get_running_loop().time()

    answer = await stage.gateway.chat(stream=True)

    most = (asyncio.get_running_loop().time() - began) / 0.5
    assert 2 <= answer.body.count(b": keep-alive\n\n") <= most
    assert answer.body.startswith(b": keep-alive\n\n")
    assert 1 == answer.body.count(b"[DONE]")
    assert 16 == text_of(answer.events).count("@")


async def test_no_keep_alive_in_a_whole_answer(stage: Stage) -> None:
    """Only streams can hold comments."""
    stage.a.inject(Script(first=700))

    answer = await stage.gateway.chat()

    assert answer.body.startswith(b"{")


async def test_failover_goes_on_behind_keep_alives(stage: Stage) -> None:
    """Once a comment was sent the status is out, but the commit point has not come."""
    stage.a.inject(Script(first=550, status=500))

    answer = await stage.gateway.chat(model="patient", stream=True)

    assert answer.body.startswith(b": keep-alive\n\n")
    assert b"[DONE]" == answer.events[-1]
    assert 16 == answer.body.count(b"@")


async def test_an_error_behind_keep_alives_is_in_the_stream(stage: Stage) -> None:
    """With the status gone, the error can only be said in the stream."""
    stage.a.inject(Script(first=700, status=400))

    answer = await stage.gateway.chat(stream=True)

    assert 200 == answer.status
    assert 1 == len(answer.events)
    assert "refused on request" == orjson.loads(answer.events[0])["error"]["message"]


async def test_nothing_is_sent_before_the_commit_point(stage: Stage) -> None:
    """Headers wait for the first content: until then an error still has its own status."""
    stage.a.inject(Script(first=300, status=400))
    refusal = b'{"error":{"message":"x","code":"invalid_value"}}'
    stage.raw.queue(events(b'{"choices":[{"index":0,"delta":{"role":"assistant"}}]}', refusal, pause=0.1))

    late = await stage.gateway.chat(stream=True)
    opened = await stage.gateway.chat(model="raw", stream=True)

    assert 400 == late.status
    assert 400 == opened.status
