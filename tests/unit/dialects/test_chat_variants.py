"""Forms of `openai.chat` answers that only some vendors have: pictures, usage in a choice, a status of its own."""

import base64
from typing import Any

import orjson
import pytest

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects import gemini_generate, openai_chat
from polyroute.dialects.events import assemble
from polyroute.dialects.sse import Framer
from polyroute.mesh.errors import MeshError

DIALECT = openai_chat.DIALECT
PICTURE = base64.b64encode(b"not really a picture").decode()
IMAGES = [{"type": "image_url", "index": 0, "image_url": {"url": f"data:image/png;base64,{PICTURE}"}}]
USAGE = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}


def chunk(delta: dict[str, Any], finish: str | None = None, **choice: Any) -> bytes:
    """One event."""
    head = {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return orjson.dumps(head | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish, **choice}]})


def read(*events: bytes) -> pb.ChatResponse:
    """The answer in a stream of these events."""
    reader = DIALECT.reader()
    return assemble([*reader.feed([("", event) for event in events]), *reader.finish()])


def written(response: list[pb.ChatEvent]) -> list[dict[str, Any]]:
    """The deltas that a client gets."""
    framed = DIALECT.writer(request_id="r", model="m", include_usage=False).feed(response)
    return [orjson.loads(data)["choices"][0]["delta"] for _, data in Framer().feed(framed)]


def pictures(response: pb.ChatResponse) -> list[tuple[str, bytes]]:
    """Type and bytes of the pictures of an answer."""
    parts = response.choices[0].message.parts
    return [(part.image.media.media_type, part.image.media.data) for part in parts if part.HasField("image")]


@pytest.mark.parametrize("delta", [{"content": "", "images": IMAGES}, {"content": [*IMAGES]}], ids=["beside", "inside"])
def test_pictures_are_read(delta: dict[str, Any]) -> None:
    """Beside the content or in it, streamed or whole."""
    message = {
        "id": "c-1",
        "choices": [{"index": 0, "message": {"role": "assistant", **delta}, "finish_reason": "stop"}],
    }

    expected = [("image/png", b"not really a picture")]
    assert expected == pictures(read(chunk(delta), chunk({}, "stop")))
    assert expected == pictures(DIALECT.read_answer(orjson.dumps(message)))


def test_pictures_count_as_content() -> None:
    """An answer of a picture alone has begun with it."""
    meter = DIALECT.meter(hide_usage=False)
    whole = {"choices": [{"index": 0, "message": {"content": "", "images": IMAGES}, "finish_reason": "stop"}]}

    assert [1, 0] == [
        meter.feed([("", event)]).content_events for event in (chunk({"images": IMAGES}), chunk({}, "stop"))
    ]
    assert 1 == DIALECT.read_answer_facts(orjson.dumps(whole)).text_chars


def test_pictures_of_others_reach_clients() -> None:
    """A picture that another format's model drew, numbered within its answer."""
    part = {"inlineData": {"mimeType": "image/png", "data": PICTURE}}
    answer = {"candidates": [{"content": {"parts": [part, part]}, "finishReason": "STOP"}], "responseId": "r"}
    reader = gemini_generate.DIALECT.reader()
    steps = [*reader.feed([("", orjson.dumps(answer))]), *reader.finish()]
    second = [IMAGES[0] | {"index": 1}]

    told = orjson.loads(DIALECT.write_answer(assemble(steps), request_id="r", model="m"))
    assert [IMAGES, second] == [delta["images"] for delta in written(steps) if "images" in delta]
    assert [*IMAGES, *second] == told["choices"][0]["message"]["images"]


def test_what_is_no_picture_stays_what_it_is() -> None:
    """Under its name, for clients of the same format."""
    strange = [{"type": "sketch", "lines": 3}]

    response = read(chunk({"content": "x", "images": strange}), chunk({}, "stop"))

    assert strange == orjson.loads(response.choices[0].message.extensions["images"])


def test_usage_in_a_choice() -> None:
    """Where the answer itself tells none; otherwise that of the answer counts, whichever comes last."""
    own = {**orjson.loads(chunk({})), "choices": [], "usage": {**USAGE, "prompt_tokens": 6, "total_tokens": 9}}
    ends = chunk({"content": "x"}, "stop", usage=USAGE)
    for events, expected in (([ends], 5), ([ends, orjson.dumps(own)], 6), ([orjson.dumps(own), ends], 6)):
        meter = DIALECT.meter(hide_usage=False)
        told = [meter.feed([("", event)]).usage for event in events]

        assert expected == read(*events).usage.input_tokens
        assert expected == [usage for usage in told if usage][-1].input_tokens


def test_a_status_beside_the_answer() -> None:
    """One that is not 0 is an error with the vendor's words and code; 0 is nothing."""
    refused = orjson.dumps({"id": "x", "choices": None, "base_resp": {"status_code": 1008, "status_msg": "no balance"}})
    fine = orjson.loads(chunk({"content": "x"}, "stop")) | {"base_resp": {"status_code": 0, "status_msg": ""}}
    calls = (
        lambda: read(refused),
        lambda: DIALECT.read_answer(refused),
        lambda: DIALECT.meter(hide_usage=False).feed([("", refused)]),
        lambda: DIALECT.read_answer_facts(refused),
    )

    for call in calls:
        with pytest.raises(MeshError, match=r"no balance \(1008\)$") as told:
            call()
        assert (errors_pb2.REASON_UPSTREAM, "1008") == (told.value.reason, told.value.metadata["vendor_code"])
    assert "x" == read(orjson.dumps(fine)).choices[0].message.parts[0].text.text
