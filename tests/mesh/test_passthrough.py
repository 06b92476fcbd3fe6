"""What a client and a vendor of the same dialect say to each other arrives byte for byte."""

import orjson
import pytest

from tests.mesh.conftest import Stage
from tests.mesh.gateway import events_of, question
from tests.mesh.raw import Reply, events, json

pytestmark = pytest.mark.asyncio(loop_scope="module")

# unknown members, numbers in forms that no encoder keeps, escapes, odd white space, an object in another order
ASKED = (
    b'{ "seed": 1e2,"messages": [{"role":"user","content":"\\u4f60\\u597d \\ud83d\\ude00 \\/","x":{"y":[1.50,-0.0]}}],'
    b'\n  "temperature":0.70, "model" : "raw" ,"invented":{"a":123456789012345678901234567890,"model":"not this"}%s}'
)
SAID = (
    b'{"id":"x","choices":[{"index":0,"message":{"role":"assistant","content":"\\u00e9\\ud83d\\ude00 \\/"},'
    b'"finish_reason":"stop","spice":1.0e-7}],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5},\n'
    b' "model":"vendor-says","invented":[1.10,123456789012345678901234567890]}'
)
STREAMED = (
    b'{"id":"x","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],"p":1.0}',
    b'{"choices":[{"delta":{"content":"\\u00e9\\ud83d\\ude00"},"index":0,"finish_reason":null}] ,"q":1.10e3}',
    b'{"choices":[{"delta":{"content":" b","invented":{"z":0.10}},"index":0,"finish_reason":null}]}',
    b'{"choices":[{"delta":{},"index":0,"finish_reason":"stop"}]}',
    b'{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5,"spice":1.50}}',
    b"[DONE]",
)


async def test_a_question_is_changed_in_its_model_only(stage: Stage) -> None:
    """Every other byte of a unary request reaches the vendor as the client wrote it."""
    stage.raw.queue(json(SAID))
    body = ASKED % b""

    answer = await stage.gateway.post(body=body)

    assert 200 == answer.status
    assert body.replace(b'"model" : "raw"', b'"model" : "up-raw"') == stage.raw.seen[-1].body


async def test_an_answer_is_not_changed(stage: Stage) -> None:
    """A vendor's whole answer reaches the client as the vendor wrote it."""
    stage.raw.queue(json(SAID))

    answer = await stage.gateway.post(body=ASKED % b"")

    assert SAID == answer.body
    assert "application/json" == answer.headers["content-type"]


async def test_a_streamed_question_with_usage_is_changed_in_its_model_only(stage: Stage) -> None:
    """A client that asked for usage itself gets its request through unchanged apart from the model."""
    stage.raw.queue(events(*STREAMED))
    body = ASKED % b', "stream":true,"stream_options":{"include_usage":true,"z":1.0}'

    await stage.gateway.post(body=body)

    assert body.replace(b'"model" : "raw"', b'"model" : "up-raw"') == stage.raw.seen[-1].body


async def test_a_stream_with_usage_is_not_changed(stage: Stage) -> None:
    """Every event arrives as the vendor wrote it, the end marker once."""
    stage.raw.queue(events(*STREAMED))

    answer = await stage.gateway.post(body=ASKED % b', "stream":true,"stream_options":{"include_usage":true}')

    assert b"".join(b"data: " + event + b"\n\n" for event in STREAMED) == answer.body
    assert "text/event-stream; charset=utf-8" == answer.headers["content-type"]


async def test_usage_is_asked_for_and_hidden(stage: Stage) -> None:
    """A client that did not ask for usage does not see it; the vendor was asked all the same, and the record has it."""
    stage.raw.queue(events(*STREAMED))

    answer = await stage.gateway.post(body=ASKED % b', "stream":true')
    record = await stage.gateway.recorded(answer)

    assert {"include_usage": True} == orjson.loads(stage.raw.seen[-1].body)["stream_options"]
    assert [*STREAMED[:4], b"[DONE]"] == answer.events
    assert (3, 2) == (record.usage.input_tokens, record.usage.output_tokens)


async def test_usage_null_is_hidden_too(stage: Stage) -> None:
    """A vendor that was asked for usage writes `usage: null` into every event: the client never asked for that."""
    stage.raw.queue(
        events(
            b'{"choices":[{"delta":{"content":"a"},"index":0}],"usage":null}',
            b'{"choices":[{"delta":{"content":"\\"usage\\":null"},"index":0,"finish_reason":"stop"}],"usage":null}',
            STREAMED[4],
            b"[DONE]",
        )
    )

    answer = await stage.gateway.chat(model="raw", stream=True)

    assert [
        b'{"choices":[{"delta":{"content":"a"},"index":0}]}',
        b'{"choices":[{"delta":{"content":"\\"usage\\":null"},"index":0,"finish_reason":"stop"}]}',
        b"[DONE]",
    ] == answer.events


async def test_usage_is_shown_to_who_asked(stage: Stage) -> None:
    """The last event before the end marker has the usage and no choices."""
    answer = await stage.gateway.chat(stream=True, stream_options={"include_usage": True})

    last = orjson.loads(answer.events[-2])
    assert [] == last["choices"]
    assert 16 == last["usage"]["completion_tokens"]
    assert b"[DONE]" == answer.events[-1]


async def test_other_framings_become_the_usual_one(stage: Stage) -> None:
    """CR LF, comments, event names, `data:` without a space and pieces cut anywhere: LF and `data: ` come out, once."""
    body = (
        b": hello\r\n\r\nevent: message\r\ndata:" + STREAMED[0] + b"\r\n\r\nid: 7\r\ndata: " + STREAMED[1] + b"\r\n\r\n"
        b"data: " + STREAMED[2] + b"\r\n\r\ndata: " + STREAMED[3] + b"\r\n\r\ndata: [DONE]\r\n\r\ndata: [DONE]\r\n\r\n"
    )
    stage.raw.queue(Reply(tuple(body[at : at + 7] for at in range(0, len(body), 7)), kind="text/event-stream"))

    answer = await stage.gateway.chat(model="raw", stream=True)

    assert b"\r" not in answer.body
    assert b"event:" not in answer.body
    assert [*STREAMED[:4], b"[DONE]"] == answer.events


async def test_the_end_marker_is_added_when_the_vendor_forgets_it(stage: Stage) -> None:
    """A finish reason makes an answer complete; the client gets its end marker."""
    stage.raw.queue(events(*STREAMED[:4]))

    answer = await stage.gateway.chat(model="raw", stream=True)

    assert [*STREAMED[:4], b"[DONE]"] == answer.events


async def test_a_whole_answer_to_a_streamed_question_becomes_a_stream(stage: Stage) -> None:
    """A vendor that cannot stream is still streamed to the client."""
    stage.raw.queue(json(SAID))

    answer = await stage.gateway.chat(model="raw", stream=True)

    assert "text/event-stream; charset=utf-8" == answer.headers["content-type"]
    assert b"[DONE]" == answer.events[-1]
    words = "".join(orjson.loads(event)["choices"][0]["delta"].get("content") or "" for event in answer.events[:-1])
    assert "é😀 /" == words


async def test_a_vendor_gets_its_own_credential_and_none_of_the_callers_headers(stage: Stage) -> None:
    """The caller's key, cookies and own headers stay at the door."""
    stage.raw.queue(json(SAID))
    own = stage.gateway.headers(cookie="secret=1", **{"x-stainless-lang": "python", "openai-organization": "o"})

    await stage.gateway.post(body=ASKED % b"", headers=own)

    headers = stage.raw.seen[-1].headers
    assert headers["authorization"].startswith("Bearer sk-raw")
    assert stage.gateway.key not in str(headers)
    assert not {"cookie", "x-stainless-lang", "openai-organization"} & headers.keys()


async def test_a_paced_stream_arrives_as_it_is_made(stage: Stage) -> None:
    """Tokens are not gathered: each is handed on when it comes."""
    async with stage.gateway.call(body=question("[[chunks=4 gap=60]]", stream=True)) as response:
        pieces = [piece async for piece in response.content.iter_any()]

    assert len(pieces) >= 4
    assert b"[DONE]" == events_of(b"".join(pieces))[-1]
