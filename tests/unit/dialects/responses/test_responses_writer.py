"""Steps of any dialect as an `openai.responses` stream: complete, in order, and nothing lost on the way back."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import ChatEvent, VendorState
from polyroute.dialects import openai_responses
from polyroute.dialects.events import assemble, take_apart
from polyroute.dialects.sse import Framer
from tests.outbound import outcome

DIALECT = openai_responses.DIALECT
REQUEST_ID = "0190a6a8-1234-7000-8000-000000000000"
SEAL = VendorState(dialect="other.dialect", kind="signature", data=b"\x00seal")
START = ChatEvent(start=pb.AnswerStart(id="other-1", model="up-1", create_time=1700000000))
USAGE = ChatEvent(usage=pb.Usage(input_tokens=5, cache_read_tokens=2, output_tokens=3, reasoning_tokens=1))


def text(words: str, **more: Any) -> ChatEvent:
    """A piece of text."""
    return ChatEvent(text=pb.TextDelta(text=words, **more))


def thought(words: str, **more: Any) -> ChatEvent:
    """A piece of reasoning."""
    return ChatEvent(reasoning=pb.ReasoningDelta(text=words, **more))


def call(index: int, arguments: str = "", **more: Any) -> ChatEvent:
    """A piece of a call."""
    return ChatEvent(tool_call=pb.ToolCallDelta(index=index, arguments=arguments, **more))


def finished(reason: pb.FinishReason.ValueType = pb.FINISH_REASON_STOP, word: str = "stop") -> ChatEvent:
    """The end."""
    return ChatEvent(finished=pb.ChoiceFinished(reason=reason, vendor_reason=word))


def stream_of(*batches: list[ChatEvent], request_id: str = REQUEST_ID) -> list[dict[str, Any]]:
    """The events that a client gets, each under the name that its type is."""
    writer = DIALECT.writer(request_id=request_id, model="m", include_usage=False)
    written = Framer().feed(b"".join(writer.feed(batch) for batch in batches))
    events: list[dict[str, Any]] = [json.loads(data) for _, data in written]
    assert [event["type"] for event in events] == [name for name, _ in written]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events


def check_complete(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The rules that strict clients hold a stream to; gives the answer that it ends with."""
    items: dict[int, dict[str, Any]] = {}
    done: dict[int, dict[str, Any]] = {}
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    for event in events[2:-1]:
        kind, index = event["type"], event.get("output_index")
        if kind == "response.output_item.added":
            assert index == len(items)
            items[index] = event["item"]
        elif kind == "response.output_item.done":
            assert index is not None
            assert index not in done
            assert event["item"]["id"] == items[index]["id"]
            assert event["item"]["type"] == items[index]["type"]
            assert sorted(pieces_of(events, index)) == sorted(said_in(event["item"]))  # summaries stand first
            done[index] = event["item"]
        elif index is not None:
            assert event["item_id"] == items[index]["id"]
            assert index not in done
    assert items.keys() == done.keys()
    last: dict[str, Any] = events[-1]
    assert last["type"] in ("response.completed", "response.incomplete", "response.failed")
    assert last["response"]["output"] == [done[index] for index in sorted(done)]
    assert len({item["id"] for item in done.values()}) == len(done)
    answer: dict[str, Any] = last["response"]
    return answer


def pieces_of(events: list[dict[str, Any]], index: int) -> str:
    """What the pieces of an item say."""
    mine = [event for event in events if event.get("output_index") == index]
    return "".join(event["delta"] for event in mine if event["type"].endswith(".delta"))


def said_in(item: dict[str, Any]) -> str:
    """What an item says."""
    entries = [*item.get("summary", []), *item.get("content", [])]
    said = "".join(entry.get("text", entry.get("refusal", "")) for entry in entries)
    return said + str(item.get("arguments", item.get("input", "")))


def test_text_is_told_piece_by_piece_and_whole() -> None:
    """The sequence that clients expect for a text, with the usage and the model that the client asked for."""
    events = stream_of([START], [text("Hel")], [text("lo")], [finished(), USAGE])

    answer = check_complete(events)
    assert [event["type"].removeprefix("response.") for event in events] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert events[6]["text"] == "Hello"
    assert (answer["id"], answer["model"], answer["created_at"]) == (f"resp_{REQUEST_ID}", "m", 1700000000)
    assert answer["usage"] == {
        "input_tokens": 7,
        "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 0},
        "output_tokens": 4,
        "output_tokens_details": {"reasoning_tokens": 1},
        "total_tokens": 11,
    }


@pytest.mark.parametrize(
    ("reason", "word", "status", "details"),
    [
        (pb.FINISH_REASON_STOP, "stop", "completed", None),
        (pb.FINISH_REASON_TOOL_CALLS, "tool_calls", "completed", None),
        (pb.FINISH_REASON_PAUSE, "pause_turn", "completed", None),
        (pb.FINISH_REASON_LENGTH, "length", "incomplete", {"reason": "max_output_tokens"}),
        (pb.FINISH_REASON_CONTENT_FILTER, "safety", "incomplete", {"reason": "content_filter"}),
        (pb.FINISH_REASON_OTHER, "max_messages", "incomplete", {"reason": "max_messages"}),
        (pb.FINISH_REASON_OTHER, "whatever", "completed", None),
        (pb.FINISH_REASON_ERROR, "error", "failed", None),
    ],
)
def test_how_an_answer_ends(reason: pb.FinishReason.ValueType, word: str, status: str, details: Any) -> None:
    """Every finish reason has its last event, status and details."""
    events = stream_of([START, text("Hi"), finished(reason, word)])

    answer = check_complete(events)
    assert (answer["status"], answer["incomplete_details"]) == (status, details)
    assert events[-1]["type"] == f"response.{status}"
    assert bool(answer["error"]) == (status == "failed")


def test_an_end_is_never_made_up() -> None:
    """Without a finish reason there is no last event."""
    events = stream_of([START], [text("Hi")], [USAGE])

    assert events[-1]["type"] == "response.output_text.delta"


def test_nothing_follows_the_end() -> None:
    """Whatever comes after the last event is not told."""
    assert stream_of([START, finished()], [text("late")])[-1]["type"] == "response.completed"


def test_everything_in_one_answer() -> None:
    """Reasoning, its summary, text, refusal and calls each become items of their own, in order."""
    events = stream_of(
        [START, thought("Deep. ")],
        [thought("Deeper.")],
        [thought("In short", summary=True)],
        [text("Hel"), text("lo"), ChatEvent(refusal=pb.RefusalDelta(text="But no"))],
        [call(0, id="call_1", name="add", kind=pb.TOOL_KIND_FUNCTION), call(0, '{"a"'), call(0, ":1}")],
        [call(1, "ls", id="call_2", name="shell", kind=pb.TOOL_KIND_CUSTOM)],
        [finished(pb.FINISH_REASON_TOOL_CALLS, "tool_calls"), USAGE],
    )

    output = check_complete(events)["output"]
    assert [item["type"] for item in output] == ["reasoning", "message", "function_call", "custom_tool_call"]
    assert output[0]["content"] == [{"type": "reasoning_text", "text": "Deep. Deeper."}]
    assert output[0]["summary"] == [{"type": "summary_text", "text": "In short"}]
    assert [part["type"] for part in output[1]["content"]] == ["output_text", "refusal"]
    assert (output[2]["call_id"], output[2]["arguments"]) == ("call_1", '{"a":1}')
    assert (output[3]["call_id"], output[3]["input"]) == ("call_2", "ls")


def test_pieces_of_calls_may_alternate() -> None:
    """Calls stay open side by side; each is whole when it is closed."""
    first = call(0, '{"a"', id="call_1", name="add")
    second = call(1, '{"b"', id="call_2", name="add")

    output = check_complete(stream_of([START], [first], [second], [call(0, ":1}")], [call(1, ":2}")], [finished()]))[
        "output"
    ]

    assert [item["arguments"] for item in output] == ['{"a":1}', '{"b":2}']


def test_a_late_piece_of_a_call_is_in_the_answer() -> None:
    """What comes for a call that text had closed is not lost."""
    first = call(0, "{", id="call_1", name="add")

    events = stream_of([START, first], [text("and")], [call(0, "}")], [finished()])

    assert events[-1]["response"]["output"][0]["arguments"] == "{}"


def test_log_probabilities_travel_with_their_text() -> None:
    """They stand in the piece they belong to, and in the whole."""
    tokens = [{"token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": []}]
    weighed = ChatEvent(logprobs=json.dumps({"content": tokens}).encode())

    events = stream_of([START, text("Hi"), weighed, finished()])

    part = check_complete(events)["output"][0]["content"][0]
    assert [event["logprobs"] for event in events if event["type"] == "response.output_text.delta"] == [tokens]
    assert part["logprobs"] == tokens
    assert assemble(outcome(DIALECT, [as_bytes(events)], ".sse")[0]).choices[0].logprobs


def as_bytes(events: list[dict[str, Any]]) -> bytes:
    """Events as they travel."""
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


def test_citations_of_the_sibling_dialect_are_flattened() -> None:
    """Citations that came nested stand flat on the text, and nested again once they are read."""
    cited = {"type": "url_citation", "url_citation": {"url": "https://example.com", "start_index": 0, "end_index": 2}}
    last = finished()
    last.extensions["delta.annotations"] = json.dumps([cited]).encode()

    events = stream_of([START, text("So")], [last])

    part = check_complete(events)["output"][0]["content"][0]
    assert part["annotations"] == [{"type": "url_citation", **cited["url_citation"]}]  # type: ignore[dict-item]
    again = assemble(outcome(DIALECT, [as_bytes(events)], ".sse")[0])
    assert json.loads(again.choices[0].message.extensions["annotations"]) == [cited]


def test_sound_and_pictures_of_other_vendors() -> None:
    """Sound is told as it comes and whole at the end; a picture is an item of its own."""
    sound = ChatEvent(audio=pb.AudioDelta(data=b"abc", transcript="Hi"))
    image = ChatEvent(image=pb.ImagePart(media=pb.Media(data=b"png", media_type="image/webp")))

    events = stream_of([START, image, sound, sound, finished()])

    drawn, message = check_complete(events)["output"]
    assert (drawn["type"], base64.b64decode(drawn["result"]), drawn["output_format"]) == (
        "image_generation_call",
        b"png",
        "webp",
    )
    assert message["content"] == [
        {"type": "output_audio", "data": base64.b64encode(b"abcabc").decode(), "transcript": "HiHi"}
    ]


@pytest.mark.parametrize("whole", [True, False], ids=["one batch", "single steps"])
def test_states_of_other_dialects_come_back(whole: bool) -> None:
    """Seals on reasoning, text and calls reach the client in encrypted content, and return to where they were."""
    steps = [
        START,
        thought("Deep", state=SEAL),
        thought("", state=SEAL, redacted=True),
        text("Hello", state=SEAL),
        call(0, "{}", id="call_1", name="add"),
        call(1, "{}", id="call_2", name="add", state=SEAL),
        finished(pb.FINISH_REASON_TOOL_CALLS, "tool_calls"),
    ]

    answer = check_complete(stream_of(steps) if whole else stream_of(*([step] for step in steps)))

    request = DIALECT.read_request(json.dumps({"model": "m", "input": answer["output"]}).encode())
    [message] = request.messages
    said = [(part.WhichOneof("part"), part.HasField("state") and part.state.data) for part in message.parts]
    own = [(kind, data) for kind, data in said]
    assert [kind for kind, _ in own] == ["reasoning", "reasoning", "text", "tool_call", "tool_call"]
    assert [data == SEAL.data for _, data in own] == [True, True, True, False, True]
    assert [part.reasoning.redacted for part in message.parts[:2]] == [False, True]
    assert message.parts[4].tool_call.id == "call_2"


def test_the_vendors_own_id_is_kept() -> None:
    """An answer of this dialect keeps its id, with which a client may continue it; any other gets the call's."""
    own = ChatEvent(start=pb.AnswerStart(id="resp_1"))

    assert stream_of([own, finished()])[-1]["response"]["id"] == "resp_1"
    assert stream_of([START, finished()])[-1]["response"]["id"] == f"resp_{REQUEST_ID}"
    assert stream_of([START, finished()], request_id="")[-1]["response"]["id"] == "other-1"


def test_only_one_answer_is_told() -> None:
    """This format has no place for more answers than one."""
    other = text("other")
    other.choice = 1

    assert said_in(check_complete(stream_of([START, text("one"), other, finished()]))["output"][0]) == "one"


def test_a_picture_keeps_what_is_said_of_it() -> None:
    """A picture that a vendor drew is a picture in the contract, and the same item when it is written again."""
    drawn = {
        "id": "ig_1",
        "type": "image_generation_call",
        "status": "completed",
        "result": "AAAA",
        "revised_prompt": "p",
    }
    body = json.dumps({"id": "resp_1", "status": "completed", "output": [drawn]}).encode()

    response = DIALECT.read_answer(body)
    events = stream_of(take_apart(response))

    assert [part.WhichOneof("part") for part in response.choices[0].message.parts] == ["reasoning", "image"]
    assert check_complete(events)["output"] == [drawn]
    assert assemble(outcome(DIALECT, [as_bytes(events)], ".sse")[0]).choices == response.choices


def test_an_answer_without_choices_is_an_answer() -> None:
    """Even nothing is written as something that can be read."""
    assert json.loads(DIALECT.write_answer(pb.ChatResponse(), request_id="r", model="m"))["output"] == []


WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
OWN_SEAL = st.builds(
    lambda data: VendorState(dialect=DIALECT.name, kind="reasoning", data=json.dumps(data).encode()),
    st.fixed_dictionaries({"id": st.uuids().map(lambda uuid: f"rs_{uuid}")}, optional={"encrypted_content": WORDS}),
)
PARTS = st.lists(
    st.one_of(
        st.builds(
            lambda words, uuid: pb.Part(
                text=pb.TextPart(text=words),
                state=VendorState(
                    dialect=DIALECT.name,
                    kind="message",
                    data=json.dumps({"item": {"id": f"msg_{uuid}", "status": "completed"}}).encode(),
                ),
            ),
            WORDS,
            st.uuids(),
        ),
        st.builds(
            lambda words, summary, state: pb.Part(reasoning=pb.ReasoningPart(text=words, summary=summary), state=state),
            WORDS,
            st.booleans(),
            OWN_SEAL,
        ),
        st.builds(
            lambda name, arguments, uuid, kind: pb.Part(
                tool_call=pb.ToolCall(id=f"call_{uuid}", name=name, arguments=arguments, kind=kind)
            ),
            WORDS,
            st.text(max_size=8),
            st.uuids(),
            st.sampled_from([pb.TOOL_KIND_FUNCTION, pb.TOOL_KIND_CUSTOM]),
        ),
    ),
    max_size=6,
)


@given(PARTS, st.booleans())
def test_answers_are_the_same_again(parts: list[pb.Part], streamed: bool) -> None:
    """ChatResponse -> bytes -> ChatResponse keeps every part, and a stream says what the whole does."""
    called = any(part.HasField("tool_call") for part in parts)
    reason = pb.FINISH_REASON_TOOL_CALLS if called else pb.FINISH_REASON_STOP
    message = pb.Message(role=pb.ROLE_ASSISTANT, parts=parts)
    choice = pb.Choice(message=message, finish_reason=reason, vendor_finish_reason="completed")
    response = pb.ChatResponse(id="resp_1", model="m", create_time=1, choices=[choice], usage=USAGE.usage)

    if streamed:
        events = stream_of(take_apart(response))
        check_complete(events)
        again = assemble(outcome(DIALECT, [as_bytes(events)], ".sse")[0])
    else:
        again = DIALECT.read_answer(DIALECT.write_answer(response, request_id="", model="m"))

    assert [kept(part) for part in again.choices[0].message.parts] == [kept(part) for part in parts]
    assert (again.id, again.usage) == (response.id, response.usage)
    assert again.choices[0].finish_reason == reason


def kept(part: pb.Part) -> tuple[Any, ...]:
    """A part; of calls without the id that their item got."""
    state = json.loads(part.state.data) if part.HasField("state") and not part.HasField("tool_call") else None
    bare = pb.Part()
    bare.CopyFrom(part)
    bare.ClearField("state")
    return bare, state
