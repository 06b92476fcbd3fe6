"""What assistants make besides text: pictures, sound, code that ran. It reaches clients of all formats, and returns."""

import base64
from collections.abc import Callable
from typing import Any, Final

import orjson
import pytest

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.dialects import foreign
from polyroute.dialects.dialect import Dialect, Outbound
from polyroute.dialects.events import assemble
from polyroute.dialects.openai.request_writer import Options
from polyroute.dialects.openai_chat import OpenAIChat
from polyroute.dialects.registry import DIALECTS, OUTBOUND
from polyroute.dialects.sse import Framer
from tests.unit.dialects.xai.calls import sent as sent_by_xai

PICTURE: Final = base64.b64encode(b"a picture").decode()
CODE: Final = {"executableCode": {"language": "PYTHON", "code": "print(1)"}, "thoughtSignature": "c2VhbA=="}
RESULT: Final = {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1\n"}}
DRAWN: Final = {"inlineData": {"mimeType": "image/png", "data": PICTURE}, "thoughtSignature": "c2lnbmVk"}
GEMINI: Final = DIALECTS["gemini.generate"]
CLIENTS: Final = ("openai.chat", "openai.responses")
ASK: Final = {"role": "user", "content": "make it blue"}
SHOWN: Final = {"type": "image_url", "index": 0, "image_url": {"url": f"data:image/png;base64,{PICTURE}"}}


def gemini_answer(*parts: dict[str, Any], **candidate: Any) -> bytes:
    """A whole answer of a vendor."""
    found = {"content": {"role": "model", "parts": list(parts)}, "finishReason": "STOP", "index": 0, **candidate}
    return orjson.dumps({"candidates": [found], "modelVersion": "m", "responseId": "r"})


def told_whole(raw: bytes, client: str, vendor: Outbound = GEMINI) -> Any:
    """A vendor's answer as a client of another format gets it."""
    response = vendor.read_answer(raw)
    foreign.settle_answer(response, client)
    return orjson.loads(DIALECTS[client].write_answer(response, request_id="r", model="m"))


def told_streamed(raw: bytes, client: str, vendor: Outbound = GEMINI) -> Any:
    """The same answer as a stream, put together by the client."""
    reader = vendor.reader()
    steps = [*reader.feed([("", raw)]), *reader.finish()]
    foreign.settle_steps(steps, client)
    dialect = DIALECTS[client]
    framed = dialect.writer(request_id="r", model="m", include_usage=True).feed(steps)
    events = Framer().feed(framed)
    if client == "openai.responses":
        return orjson.loads(events[-1][1])["response"]
    read = dialect.reader()
    response = assemble([*read.feed(events), *read.feed([("", b"[DONE]")])])
    return orjson.loads(dialect.write_answer(response, request_id="r", model="m"))


def sent_back(answer: Any, client: str) -> pb.ChatRequest:
    """The next question of a client that returns what it got."""
    dialect: Dialect = DIALECTS[client]
    if client == "openai.chat":
        body: Any = {"messages": [ASK, answer["choices"][0]["message"], ASK]}
    else:
        body = {"input": [ASK, *answer["output"], ASK]}
    return dialect.read_request(orjson.dumps({"model": "m", **body}))


def to_gemini(request: pb.ChatRequest, source: str) -> list[Any]:
    """The parts of the model's turns."""
    body, _ = GEMINI.write_request(request, model="m", stream=False, source=source)
    return [part for turn in orjson.loads(body)["contents"] if turn["role"] == "model" for part in turn["parts"]]


@pytest.mark.parametrize("tell", [told_whole, told_streamed])
@pytest.mark.parametrize("client", CLIENTS)
def test_what_returns_is_what_came(client: str, tell: Callable[..., Any]) -> None:
    """Pictures with their signatures and code that ran go through other formats' clients and back.

    Each in its place, where the client's format has places: a message of `openai.chat` tells reasoning apart from text.
    """
    text: dict[str, Any] = {"text": "See:"}
    parts = [CODE, RESULT, text, DRAWN] if client == "openai.chat" else [text, CODE, RESULT, DRAWN]

    answer = tell(gemini_answer(*parts), client)

    assert parts == to_gemini(sent_back(answer, client), client)


def test_code_is_no_word_of_the_answer() -> None:
    """Clients show what the model said; what ran stays sealed beside it."""
    message = told_whole(gemini_answer(CODE, RESULT, {"text": "One."}), "openai.chat")["choices"][0]["message"]

    assert ("One.", None) == (message["content"], message.get("reasoning_content"))
    assert 2 == len(message["reasoning_details"])


def test_a_thought_before_code_stays_a_thought() -> None:
    """Streamed or not, the code does not become the seal of the thought."""
    raw = gemini_answer({"text": "Hm", "thought": True}, CODE, {"text": "One."})
    reader = GEMINI.reader()

    for response in (GEMINI.read_answer(raw), assemble([*reader.feed([("", raw)]), *reader.finish()])):
        thought, code, _ = response.choices[0].message.parts
        assert ("Hm", b"") == (thought.reasoning.text, thought.state.data)
        assert ("part", CODE) == (code.state.kind, orjson.loads(code.state.data))


def test_a_picture_without_a_signature() -> None:
    """Gets the word that stands for one: newer models refuse a history without."""
    chat = {"model": "m", "messages": [ASK, {"role": "assistant", "content": None, "images": [SHOWN]}, ASK]}

    [part] = to_gemini(DIALECTS["openai.chat"].read_request(orjson.dumps(chat)), "openai.chat")

    assert DRAWN["inlineData"] == part["inlineData"]
    assert "skip_thought_signature_validator" == part["thoughtSignature"]


def conversation(*after: dict[str, Any]) -> pb.ChatRequest:
    """A conversation in which the assistant drew, and what came after."""
    drew = {"role": "assistant", "content": "Here:", "images": [SHOWN]}
    return DIALECTS["openai.chat"].read_request(orjson.dumps({"model": "m", "messages": [ASK, drew, *after]}))


def written(form: str, request: pb.ChatRequest) -> tuple[list[Any], list[str]]:
    """The turns that a vendor gets, and what was dropped."""
    body, dropped = OUTBOUND[form].write_request(request, model="m", stream=False, source="openai.chat")
    value = sent_by_xai(body) if form == "xai.grpc" else orjson.loads(body)
    if form == "openai.responses":
        return value["input"], dropped
    return (value["input"] if form == "dashscope.generation" else value)["messages"], dropped


FROM_USERS: Final = (
    "openai.chat",
    "openai.responses",
    "anthropic.messages",
    "bedrock.converse",
    "cohere.chat",
    "dashscope.generation",
    "xai.grpc",
)


@pytest.mark.parametrize("form", FROM_USERS)
def test_pictures_are_shown_by_the_user(form: str) -> None:
    """Where a format takes them from users only, in the turn that follows and before its words."""
    turns, dropped = written(form, conversation(ASK))

    assert PICTURE in str(turns[-1])
    assert PICTURE not in str(turns[:-1])
    assert str(turns[-1]).index(PICTURE) < str(turns[-1]).index("make it blue")
    assert "Here:" in str(turns[-2])
    assert not dropped


@pytest.mark.parametrize("form", FROM_USERS)
def test_pictures_after_which_nobody_speaks_are_named(form: str) -> None:
    """Left out of what the vendor gets, and said to be."""
    turns, dropped = written(form, conversation())

    assert PICTURE not in str(turns)
    assert ["messages.images"] == dropped


def test_pictures_beside_calls() -> None:
    """Results follow their calls at once; the pictures come after them."""
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    drew = {"role": "assistant", "content": None, "images": [SHOWN], "tool_calls": [call]}
    result = {"role": "tool", "tool_call_id": "call_1", "content": "done"}
    body = orjson.dumps({"model": "m", "messages": [ASK, drew, result]})

    turns, dropped = written("openai.chat", DIALECTS["openai.chat"].read_request(body))

    assert ["user", "assistant", "tool", "user"] == [turn["role"] for turn in turns]
    assert PICTURE in str(turns[-1])
    assert not dropped


def test_pictures_stay_where_they_may() -> None:
    """Vendors of models that draw take them in the member in which they told them."""
    vendor = OpenAIChat(options=Options(accepts=frozenset({"images"})))
    body, _ = vendor.write_request(conversation(ASK), model="m", stream=False, source="gemini.generate")

    assert [SHOWN] == orjson.loads(body)["messages"][1]["images"]


def test_pictures_of_other_clients() -> None:
    """A block of an Anthropic client's history is the model's picture elsewhere, and itself among its own."""
    source = {"type": "base64", "media_type": "image/png", "data": PICTURE}
    said = [{"type": "text", "text": "Here:"}, {"type": "image", "source": source}]
    messages = [ASK, {"role": "assistant", "content": said}, ASK]
    dialect = DIALECTS["anthropic.messages"]
    request = dialect.read_request(orjson.dumps({"model": "m", "max_tokens": 9, "messages": messages}))

    own, _ = dialect.write_request(request, model="m", stream=False, source="anthropic.messages")

    assert DRAWN["inlineData"] == to_gemini(request, "anthropic.messages")[1]["inlineData"]
    assert said == orjson.loads(own)["messages"][1]["content"]


def responses_answer(*content: dict[str, Any]) -> dict[str, Any]:
    """An answer with one message."""
    item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": list(content)}
    return {"id": "resp_1", "object": "response", "status": "completed", "model": "m", "output": [item]}


SOUND: Final = {"type": "output_audio", "data": base64.b64encode(b"sound").decode(), "transcript": "Hello"}


def heard(response: pb.ChatResponse) -> list[tuple[bytes, str]]:
    """The sound of an answer."""
    parts = response.choices[0].message.parts
    return [(part.audio.media.data, part.audio.transcript) for part in parts if part.HasField("audio")]


def test_sound_of_responses() -> None:
    """Whole, in pieces, or both, it is said once, and reaches clients of `openai.chat` as their kind of sound."""
    vendor = DIALECTS["openai.responses"]
    answer = responses_answer(SOUND)
    pieces = [
        {"type": "response.audio.delta", "delta": base64.b64encode(b"sou").decode()},
        {"type": "response.audio.transcript.delta", "delta": "Hello"},
        {"type": "response.audio.delta", "delta": base64.b64encode(b"nd").decode()},
    ]
    place = {"output_index": 0, "content_index": 0, "item_id": "msg_1"}
    closing = [
        {"type": "response.content_part.done", **place, "part": SOUND},
        {"type": "response.output_item.done", "output_index": 0, "item": answer["output"][0]},
        {"type": "response.completed", "response": answer},
    ]

    def read(events: list[Any]) -> pb.ChatResponse:
        return assemble(vendor.reader().feed([("", orjson.dumps(event)) for event in events]))

    expected = [(b"sound", "Hello")]
    assert expected == heard(vendor.read_answer(orjson.dumps(answer)))
    assert expected == heard(read(closing)) == heard(read(pieces + closing)) == heard(read(closing[-1:]))
    told = told_whole(orjson.dumps(answer), "openai.chat", vendor)["choices"][0]["message"]["audio"]
    assert (SOUND["data"], SOUND["transcript"]) == (told["data"], told["transcript"])


@pytest.mark.parametrize("form", FROM_USERS)
def test_sound_of_a_history(form: str) -> None:
    """Is told by its words where a format has no sound of assistants."""
    said = {"type": "message", "role": "assistant", "content": [SOUND]}
    body = orjson.dumps({"model": "m", "input": [ASK, said, ASK]})
    request = DIALECTS["openai.responses"].read_request(body)

    raw, dropped = OUTBOUND[form].write_request(request, model="m", stream=False, source="openai.chat")

    assert b"Hello" in raw
    assert SOUND["data"].encode() not in raw
    assert not dropped


@pytest.mark.parametrize("client", CLIENTS)
def test_grounding_becomes_citations(client: str) -> None:
    """With places in characters, where the vendor counts bytes."""
    segment = {"startIndex": 6, "endIndex": 11, "text": "cited"}
    grounding = {
        "groundingChunks": [{"web": {"uri": "https://a.test", "title": "A"}}, {"web": {"uri": "https://b.test"}}],
        "groundingSupports": [{"segment": segment, "groundingChunkIndices": [1, 0, 7]}],
    }
    raw = gemini_answer({"text": "üüx cited"}, groundingMetadata=grounding)

    told = str(told_whole(raw, client)), str(told_streamed(raw, client))

    for answer in told:
        assert answer.index("https://b.test") < answer.index("https://a.test")
        assert "'start_index': 4, 'end_index': 9" in answer


def test_grounding_of_a_whole_answer() -> None:
    """Pages that stand behind no words in particular stand behind all of them."""
    raw = gemini_answer({"text": "Rome"}, groundingMetadata={"groundingChunks": [{"web": {"uri": "https://a.test"}}]})

    [note] = told_whole(raw, "openai.chat")["choices"][0]["message"]["annotations"]

    assert {"start_index": 0, "end_index": 4, "url": "https://a.test", "title": ""} == note["url_citation"]
