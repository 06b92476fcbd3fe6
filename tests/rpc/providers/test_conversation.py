"""One attempt at an answer: what goes to the vendor, and what is made of what comes back."""

from dataclasses import replace
from typing import Any

import orjson
import pytest

from polyroute.api.chat.v1 import chat_pb2
from polyroute.api.chat.v1.chat_pb2 import (
    FINISH_REASON_STOP,
    OPERATION_COMPLETION,
    OPERATION_EMBEDDING,
    EncodedRequest,
    RequestFacts,
    Usage,
)
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.mesh.errors import MeshError
from polyroute.providers.account import Account
from polyroute.providers.spoken import CHAT
from polyroute.providers.transport import Transport
from polyroute.providers.vendor import CHAT_ONLY, Quirks
from tests.rpc.providers.wire import (
    ANSWER,
    DONE,
    END,
    FINISH,
    STREAM,
    USAGE,
    Do,
    Heard,
    Step,
    account,
    attempt,
    chunk,
    delta,
    head,
    request,
    stream,
    whole,
    wire,
)

ONE_TWO = [delta("one "), delta("two")]
COMPLETIONS = {"speaks": (replace(CHAT, operation=OPERATION_COMPLETION),)}
QUESTION = chat_pb2.ChatRequest(
    model="m",
    messages=[chat_pb2.Message(role=chat_pb2.ROLE_USER, parts=[chat_pb2.Part(text=chat_pb2.TextPart(text="hi"))])],
)


async def ask(*script: Any, members: dict[str, Any] | None = None, **asked: Any) -> tuple[Heard, dict[str, Any], str]:
    """What an attempt said, the JSON that the vendor got, and its request's head."""
    async with wire(script) as vendor:
        heard = await attempt(request(**asked), account(vendor.url, **(members or {})))
    [sent] = vendor.requests
    top, _, body = sent.partition(b"\r\n\r\n")
    return heard, orjson.loads(body), top.decode().lower()


def older(*, stream: bool) -> dict[str, Any]:
    """A question in another dialect than the vendor's."""
    facts = RequestFacts(operation=OPERATION_COMPLETION, model="m", stream=stream)
    body = orjson.dumps({"model": "m", "prompt": "hi", "stream": stream})
    return {"facts": facts, "encoded": EncodedRequest(dialect="openai.completions", body=body)}


def objects(data: bytes) -> list[Any]:
    """The JSON of each event."""
    return [orjson.loads(event.removeprefix(b"data: ")) for event in data.split(b"\n\n") if event]


class TestRequest:
    async def test_only_what_must_change_is_changed(self) -> None:
        """The model's name upstream, and usage, which metering needs."""
        _, sent, top = await ask(*stream(*ONE_TWO, FINISH, DONE))

        assert {
            "model": "up",
            "stream": True,
            "stream_options": {"include_usage": True},
            "messages": [{"role": "user", "content": "hi"}],
        } == sent
        assert "post /v1/chat/completions http/1.1" == top.split("\r\n")[0]
        assert {"authorization: bearer sk-1", "content-type: application/json"} <= set(top.split("\r\n"))

    async def test_vendors_quirks(self) -> None:
        """Members that it refuses do not reach it."""
        quirks = Quirks(drop=frozenset({"messages"}), stream_usage=False)
        _, sent, _ = await ask(*stream(FINISH, DONE), members={"quirks": quirks})

        assert {"model": "up", "stream": True} == sent

    async def test_callers_headers_for_the_vendor(self) -> None:
        """Those that a header can hold; none can end the head."""
        headers = {"x-beta": "on", "x-bad": "a\r\nx-evil: 1", "bad name": "x", "x-snow": "\u2603"}
        _, _, top = await ask(*stream(FINISH, DONE), headers=headers)

        assert "x-beta: on" in top.split("\r\n")
        assert not any(word in top for word in ("evil", "bad", "snow"))

    async def test_keys_are_used_in_turn(self) -> None:
        """So that their limits add up."""
        transport = Transport()
        async with wire(*[stream(FINISH, DONE)] * 3) as vendor:
            vendors = account("http://x").vendor
            at = Account("acme", vendors, base_url=vendor.url, keys=("sk-1", "sk-2"))
            for _ in range(3):
                await attempt(request(), at, transport=transport)
            await transport.close()

        keys = [sent.partition(b"Bearer ")[2][:4] for sent in vendor.requests]
        assert [b"sk-1", b"sk-2", b"sk-1"] == keys

    async def test_work_that_the_vendor_does_not_offer(self) -> None:
        """Said without asking it."""
        facts = RequestFacts(operation=OPERATION_EMBEDDING, model="m")
        heard = await attempt(request(facts=facts), account("http://127.0.0.1:1/v1", speaks=CHAT_ONLY))

        assert pb.FAULT_CLIENT == heard.error.fault


class TestPassthrough:
    async def test_stream(self) -> None:
        """The vendor's own events, the end marker and the usage that nobody asked for left out."""
        heard, _, _ = await ask(*stream(*ONE_TWO, FINISH, USAGE, DONE))

        assert (None, b"".join([*ONE_TWO, FINISH])) == (heard.error, heard.data)
        assert (True, []) == (heard.started.passthrough, list(heard.started.dropped))
        assert (Usage(input_tokens=5, output_tokens=2), FINISH_REASON_STOP) == (heard.usage, heard.finished.reason)

    async def test_usage_that_was_asked_for(self) -> None:
        """Is shown as the vendor wrote it."""
        heard, _, _ = await ask(*stream(*ONE_TWO, FINISH, USAGE, DONE), stream_usage=True)

        assert heard.data.endswith(USAGE)

    async def test_order_of_the_steps(self) -> None:
        """Opening, content, what it used, the end."""
        heard, _, _ = await ask(STREAM, chunk(delta("one")), 0.01, chunk(FINISH), 0.01, chunk(DONE), END)

        assert ["started", "encoded", "encoded", "usage", "finished"] == heard.kinds
        assert 0 < heard.started.upstream_microseconds
        assert 0 < heard.finished.first_token_microseconds < heard.finished.total_microseconds

    async def test_what_comes_together_stays_together(self) -> None:
        """One read, one message, however many events; content is counted."""
        together = b"".join([*ONE_TWO, delta("three")])
        heard, _, _ = await ask(STREAM, chunk(together), 0.02, chunk(FINISH + DONE), END)

        assert 2 == len(heard.responses)
        assert (together, 3) == (heard.events[1].encoded.data, heard.events[1].encoded.content_events)

    async def test_event_in_pieces(self) -> None:
        """A message never holds a part of one."""
        event = delta("snow \u2603")
        pieces: list[Step] = [STREAM]
        for at in range(0, len(event), 5):
            pieces += [chunk(event[at : at + 5]), 0.0005]
        heard, _, _ = await ask(*pieces, chunk(FINISH + DONE), END)

        assert [event, FINISH] == [one.encoded.data for one in heard.events if one.HasField("encoded")]

    async def test_opening_without_content_is_no_content(self) -> None:
        """It must not commit the call."""
        role = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'
        heard, _, _ = await ask(STREAM, chunk(role), 0.01, chunk(delta("a") + FINISH + DONE), END)

        assert [0, 1] == [one.encoded.content_events for one in heard.events if one.HasField("encoded")]

    async def test_vendors_own_ids_and_limits(self) -> None:
        """The state of the account that serves; nothing else of its headers."""
        headers = {"x_request_id": "req_1", "X_RateLimit_Remaining_Tokens": "9", "set_cookie": "a=b", "x_secret": "s"}
        heard, _, _ = await ask(whole(ANSWER, **headers), stream=False)

        assert ("req_1", {"x-ratelimit-remaining-tokens": "9"}) == (
            heard.started.upstream_request_id,
            dict(heard.started.headers),
        )

    async def test_whole_answer(self) -> None:
        """Byte for byte."""
        heard, sent, _ = await ask(whole(b"\n" + ANSWER + b"\n"), stream=False)

        assert (ANSWER, Usage(input_tokens=5, output_tokens=2)) == (heard.data, heard.usage)
        assert 1 == len(heard.responses)
        assert "stream_options" not in sent

    async def test_whole_answer_where_a_stream_was_asked_for(self) -> None:
        """Some vendors cannot stream some models: the caller gets the stream it expects."""
        heard, _, _ = await ask(whole(ANSWER), stream_usage=True)
        events = objects(heard.data)
        text = "".join(choice["delta"].get("content") or "" for event in events for choice in event["choices"])

        assert ("one two", 7) == (text, events[-1]["usage"]["total_tokens"])
        assert {"chat.completion.chunk"} == {event["object"] for event in events}
        assert (FINISH_REASON_STOP, Usage(input_tokens=5, output_tokens=2)) == (heard.finished.reason, heard.usage)

    @pytest.mark.parametrize("older_dialect", [False, True])
    async def test_stream_where_a_whole_answer_was_asked_for(self, older_dialect: bool) -> None:
        """Events are no JSON: another attempt may do better."""
        asked = older(stream=False) if older_dialect else {"stream": False}
        heard, _, _ = await ask(
            *stream(*ONE_TWO, FINISH, DONE), members=COMPLETIONS if older_dialect else None, **asked
        )

        assert isinstance(heard.error, MeshError)
        assert (pb.FAULT_BAD_ANSWER, b"") == (heard.error.fault, heard.data)


class TestEnds:
    @pytest.mark.parametrize(
        "ending",
        [[END], [Do.CLOSE], [Do.RESET], [chunk(DONE), END], [chunk(DONE), Do.RESET], [chunk(DONE), b"garbage"]],
        ids=["no marker", "closed", "reset", "marker", "marker and reset", "marker and garbage"],
    )
    async def test_finish_reason_is_the_end(self, ending: list[Step]) -> None:
        """What only frames the answer may be missing or broken."""
        heard, _, _ = await ask(STREAM, chunk(delta("one")), chunk(FINISH), 0.01, *ending)

        assert (None, delta("one") + FINISH, FINISH_REASON_STOP) == (heard.error, heard.data, heard.finished.reason)

    async def test_marker_without_a_finish_reason(self) -> None:
        """It says as well that the answer is whole."""
        heard, _, _ = await ask(*stream(delta("one"), DONE))

        assert (None, delta("one")) == (heard.error, heard.data)

    async def test_content_after_the_finish_reason(self) -> None:
        """Is handed out; the first reason stands."""
        heard, _, _ = await ask(*stream(delta("one"), FINISH, delta("more"), DONE))

        assert (None, delta("one") + FINISH + delta("more"), FINISH_REASON_STOP) == (
            heard.error,
            heard.data,
            heard.finished.reason,
        )

    async def test_nothing_after_the_marker_is_read(self) -> None:
        """The answer is over."""
        heard, _, _ = await ask(*stream(delta("one"), FINISH, DONE, delta("ghost")))

        assert b"ghost" not in heard.data

    @pytest.mark.parametrize("streamed", [True, False])
    async def test_usage_that_the_vendor_does_not_tell(self, streamed: bool) -> None:
        """Is estimated from what passed, and says so."""
        bare = orjson.loads(ANSWER)
        del bare["usage"]
        script = stream(delta("x" * 9), FINISH, DONE) if streamed else [whole(orjson.dumps(bare))]
        heard, _, _ = await ask(*script, stream=streamed)

        assert Usage(input_tokens=9, output_tokens=3 if streamed else 2, estimated=True) == heard.usage


class TestTyped:
    async def test_stream(self) -> None:
        """As messages of the contract; the usage once, as a step of the attempt."""
        heard, sent, _ = await ask(*stream(*ONE_TWO, FINISH, USAGE, DONE), chat=QUESTION)

        assert (True, {"include_usage": True}) == (sent["stream"], sent["stream_options"])
        assert ("one two", Usage(input_tokens=5, output_tokens=2), False) == (
            heard.text,
            heard.usage,
            heard.started.passthrough,
        )
        assert not any(event.chat.HasField("usage") for event in heard.events)

    async def test_whole_answer_where_a_stream_was_asked_for(self) -> None:
        """The steps are the same."""
        heard, _, _ = await ask(whole(ANSWER), chat=QUESTION)

        assert (None, "one two", FINISH_REASON_STOP) == (heard.error, heard.text, heard.finished.reason)

    async def test_whole_answer_is_never_asked_for(self) -> None:
        """Also when the facts do not say that it is a stream."""
        heard, sent, _ = await ask(*stream(*ONE_TWO, FINISH, DONE), stream=False, chat=QUESTION)

        assert (True, "one two") == (sent["stream"], heard.text)

    async def test_what_the_vendor_cannot_express_is_named(self) -> None:
        """Dropped, not refused."""
        question = chat_pb2.ChatRequest()
        question.CopyFrom(QUESTION)
        question.sampling.top_k = 5
        heard, sent, _ = await ask(*stream(FINISH, DONE), chat=question)

        assert ("top_k" in sent) != any("top_k" in name for name in heard.started.dropped)

    async def test_break(self) -> None:
        """What came before it is handed out."""
        heard, _, _ = await ask(STREAM, chunk(delta("one") + b"data: {broken\n\n"), END, chat=QUESTION)

        assert ("one", pb.FAULT_BAD_ANSWER) == (heard.text, heard.error.fault)


class TestTranslated:
    async def test_stream(self) -> None:
        """A caller of the older dialect hears the newer one's answer in its own."""
        heard, sent, _ = await ask(*stream(*ONE_TWO, FINISH, USAGE, DONE), members=COMPLETIONS, **older(stream=True))
        events = objects(heard.data)

        assert [{"role": "user", "content": "hi"}] == sent["messages"]
        assert "one two" == "".join(event["choices"][0]["text"] for event in events if event["choices"])
        assert {("text_completion", "m")} == {(event["object"], event["model"]) for event in events}
        assert (False, Usage(input_tokens=5, output_tokens=2)) == (heard.started.passthrough, heard.usage)

    async def test_whole_answer(self) -> None:
        """And a whole one, whole."""
        heard, _, _ = await ask(whole(ANSWER), members=COMPLETIONS, **older(stream=False))
        answer = orjson.loads(heard.data)

        assert ("text_completion", "one two", "m") == (answer["object"], answer["choices"][0]["text"], answer["model"])
        assert FINISH_REASON_STOP == heard.finished.reason

    async def test_whole_answer_where_a_stream_was_asked_for(self) -> None:
        """Translated, and as a stream."""
        heard, _, _ = await ask(whole(ANSWER), members=COMPLETIONS, **older(stream=True))

        assert "one two" == "".join(event["choices"][0]["text"] for event in objects(heard.data) if event["choices"])

    async def test_break(self) -> None:
        """What came before it is handed out in the caller's dialect."""
        script: list[Step] = [STREAM, chunk(delta("one") + b"data: {broken\n\n"), END]
        heard, _, _ = await ask(*script, members=COMPLETIONS, **older(stream=True))

        assert ("one", pb.FAULT_BAD_ANSWER) == (objects(heard.data)[-1]["choices"][0]["text"], heard.error.fault)


async def test_content_type_is_case_insensitive() -> None:
    """As media types are."""
    kind = head("Text/Event-Stream; charset=utf-8", transfer_encoding="chunked")
    heard, _, _ = await ask(kind, *map(chunk, [delta("one"), FINISH, DONE]), END)

    assert (None, delta("one") + FINISH) == (heard.error, heard.data)
