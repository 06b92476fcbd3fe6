"""The older form: one text in, its continuation out."""

import json
from typing import Any

import pytest

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects import openai_completions
from polyroute.dialects.registry import DIALECTS
from polyroute.dialects.sse import Framer
from polyroute.mesh.errors import MeshError

DIALECT = openai_completions.DIALECT


def body(**members: Any) -> bytes:
    """A request with these members."""
    return json.dumps({"model": "m", "prompt": "Once upon", **members}).encode()


@pytest.mark.parametrize(
    ("prompt", "tokens"),
    [("x" * 400, 100), (["x" * 400, "x" * 400], 200), ([1, 2, 3], 3), ([[1, 2], [3]], 3), (["x"], 0)],
)
def test_every_form_of_prompt_gives_facts(prompt: object, tokens: int) -> None:
    """Texts count by their bytes, token ids by their number."""
    facts = DIALECT.read_facts(body(prompt=prompt, max_tokens=5, stream=True))

    assert (pb.OPERATION_COMPLETION, tokens, 5, True) == (
        facts.operation,
        facts.input_tokens_estimate,
        facts.max_output_tokens,
        facts.stream,
    )


@pytest.mark.parametrize("prompt", [None, [], 5, {}, ["x", 1], [1.5], [None], ["x"] * 3000])
def test_other_prompts_are_refused(prompt: object) -> None:
    """Nothing, mixtures, other types and floods."""
    with pytest.raises(MeshError) as caught:
        DIALECT.read_facts(body(prompt=prompt))

    assert caught.value.metadata["param"] == "prompt"


def test_one_prompt_is_a_message_of_the_user() -> None:
    """Alone or as the only entry of a list; parameters come along."""
    for prompt in ("Once upon", ["Once upon"]):
        request = DIALECT.read_request(body(prompt=prompt, max_tokens=5, stop="end", logprobs=2, echo=False, best_of=1))

        expected = pb.ChatRequest(
            model="m",
            messages=[pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text=pb.TextPart(text="Once upon"))])],
            max_output_tokens=5,
            stop=["end"],
            sampling=pb.Sampling(logprobs=True, top_logprobs=2),
        )
        assert expected == request


@pytest.mark.parametrize(
    "members",
    [
        {"echo": True},
        {"suffix": "the end"},
        {"best_of": 3},
        {"prompt": ["a", "b"]},
        {"prompt": [1, 2]},
        {"prompt": [[1]]},
    ],
)
def test_what_only_this_format_can_say_is_not_translated(members: dict[str, Any]) -> None:
    """The facts are fine, so a deployment of this dialect can serve it; the typed form refuses by name."""
    assert DIALECT.read_facts(body(**members)).model == "m"
    with pytest.raises(MeshError) as caught:
        DIALECT.read_request(body(**members))

    assert caught.value.reason == errors_pb2.REASON_INVALID_REQUEST
    assert caught.value.metadata["param"] == next(iter(members))


def test_a_conversation_of_text_is_one_prompt() -> None:
    """Tools and forms of answers are dropped by name; pictures are refused."""
    text = [pb.Part(text=pb.TextPart(text="Hi"))]
    request = pb.ChatRequest(
        model="m",
        messages=[pb.Message(role=pb.ROLE_SYSTEM, parts=text), pb.Message(role=pb.ROLE_USER, parts=text)],
        tools=[pb.Tool(name="f")],
        sampling=pb.Sampling(temperature=0.0, logprobs=True, top_logprobs=3),
        max_output_tokens=9,
    )

    written, dropped = DIALECT.write_request(request, model="up", stream=False)

    expected = {"prompt": "Hi\n\nHi", "model": "up", "temperature": 0.0, "logprobs": 3, "max_tokens": 9}
    assert expected == json.loads(written)
    assert ["tools"] == dropped
    request.messages[0].parts[0].image.media.url = "https://example.org/a.png"
    with pytest.raises(MeshError):
        DIALECT.write_request(request, model="up", stream=False)


def test_an_answer_and_back() -> None:
    """Text, reason, usage and log probabilities, in the form of this endpoint."""
    raw = {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 1,
        "model": "up",
        "choices": [{"index": 0, "text": " a time", "logprobs": {"tokens": [" a"]}, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 2, "completion_tokens": 2, "total_tokens": 4},
    }
    response = DIALECT.read_answer(json.dumps(raw).encode())

    again = json.loads(DIALECT.write_answer(response, request_id="r", model="m"))

    assert (raw["choices"], "text_completion", "cmpl-r", "m") == (
        again["choices"],
        again["object"],
        again["id"],
        again["model"],
    )
    assert again["usage"]["total_tokens"] == 4
    assert (pb.Usage(input_tokens=2, output_tokens=2), pb.FINISH_REASON_LENGTH, 7) == DIALECT.read_answer_facts(
        json.dumps(raw).encode()
    )


def test_a_stream() -> None:
    """Texts in choices are content, in passing and when read."""
    raw = b"".join(
        b'data: {"id":"c","object":"text_completion","created":1,"model":"up","choices":[' + choice + b"]}\n\n"
        for choice in (b'{"index":0,"text":" a"}', b'{"index":0,"text":" time","finish_reason":"stop"}')
    )
    events = Framer().feed(raw)
    reader, meter = DIALECT.reader(), DIALECT.meter(hide_usage=False)

    steps = [*reader.feed(events), *reader.finish()]
    metered = meter.feed(events)

    assert [" a", " time"] == [step.text.text for step in steps if step.HasField("text")]
    assert steps[-1].finished.reason == pb.FINISH_REASON_STOP
    assert (2, 7, pb.FINISH_REASON_STOP) == (metered.content_events, metered.text_chars, metered.finish)


def test_the_registry_knows_each_by_its_name() -> None:
    """Names are keys."""
    assert {"openai.chat", "openai.completions"} <= DIALECTS.keys()
    assert all(name == dialect.name for name, dialect in DIALECTS.items())
