"""`ollama.chat` where a rule is sharp: lines in pieces, arguments to the byte, nothing breaks the reader."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.dialects.events import assemble
from polyroute.dialects.ollama_chat import OUTBOUND
from tests.outbound import GOLDEN, VALUES, broken, check_robust

ARGUMENTS = st.dictionaries(st.text(max_size=3), VALUES, max_size=3)


@given(st.text(), st.text(), st.lists(ARGUMENTS, max_size=2))
def test_a_stream_is_the_answer_in_pieces(content: str, thinking: str, arguments: list[dict[str, Any]]) -> None:
    """Words one by one give what the whole gives, ids of calls included."""
    calls = [{"function": {"name": "f", "arguments": value}} for value in arguments]
    base = {"model": "m", "created_at": "2026-01-02T03:04:05.6Z"}
    end = {"done": True, "done_reason": "stop", "prompt_eval_count": 3, "eval_count": 4, "total_duration": 5}
    message = {"role": "assistant", "content": content, "thinking": thinking, "tool_calls": calls}
    pieces: list[dict[str, Any]] = [{"thinking": letter, "content": ""} for letter in thinking]
    pieces += [{"content": letter} for letter in content] + [{"content": "", "tool_calls": [call]} for call in calls]
    lines = [json.dumps({**base, "message": piece, "done": False}) for piece in pieces]
    lines.append(json.dumps({**base, "message": {"role": "assistant", "content": ""}, **end}))
    reader = OUTBOUND.reader()

    whole = OUTBOUND.read_answer(json.dumps({**base, "message": message, **end}).encode())

    assert whole == assemble(reader.feed([("", line.encode()) for line in lines]) + reader.finish())
    found = [part.tool_call for part in whole.choices[0].message.parts if part.HasField("tool_call")]
    assert [json.dumps(value) for value in arguments] == [call.arguments for call in found]
    assert len({call.id for call in found}) == len(found)


@given(ARGUMENTS)
def test_arguments_return_to_the_byte(arguments: dict[str, Any]) -> None:
    """What the model wrote is sent again as it was, numbers of any size included."""
    text = json.dumps(arguments | {"big": 10**30, "real": 1.0}, indent=1)
    call = pb.Part(tool_call=pb.ToolCall(id="c", name="f", arguments=text))
    chat = pb.ChatRequest(messages=[pb.Message(role=pb.ROLE_ASSISTANT, parts=[call])])

    body, dropped = OUTBOUND.write_request(chat, model="m", stream=False)

    assert text.encode() in body
    assert not dropped


def samples() -> list[Any]:
    """Lines of the golden cases."""
    paths = (GOLDEN / "ollama_chat").glob("*/response.ndjson")
    lines = [line for path in paths for line in path.read_text().splitlines()]
    return [json.loads(line) for line in lines if line.startswith('{"model') and line.endswith("}}")] + [
        json.loads(line) for line in lines if line.endswith('"eval_duration": 3}')
    ]


@settings(max_examples=200)
@given(st.lists(broken(samples()) | VALUES, max_size=5))
def test_no_line_breaks_the_reader(lines: list[Any]) -> None:
    """Any JSON in any place is an answer or an error of the vendor."""
    check_robust(OUTBOUND, lines, [""] * len(lines))


def test_options_and_keep_alive_of_a_typed_caller() -> None:
    """Its own options stand beside what the contract models; the contract's own win."""
    chat = pb.ChatRequest(sampling=pb.Sampling(temperature=0.5), max_output_tokens=3)
    chat.extensions["options"] = b'{"num_ctx":4096,"temperature":1}'
    chat.extensions["keep_alive"] = b'"5m"'

    body, dropped = OUTBOUND.write_request(chat, model="m", stream=True)

    written = json.loads(body)
    assert {"num_ctx": 4096, "temperature": 0.5, "num_predict": 3} == written["options"]
    assert ("5m", True, []) == (written["keep_alive"], written["stream"], dropped)


@pytest.mark.parametrize(
    ("options", "think"),
    [
        ({"effort": "minimal"}, "low"),
        ({"effort": "xhigh"}, "high"),
        ({"effort": "none"}, False),
        ({"effort": "odd"}, True),
        ({"enabled": True}, True),
        ({"enabled": False}, False),
    ],
)
def test_how_much_to_think(options: dict[str, Any], think: object) -> None:
    """A level, or the switch."""
    body, _ = OUTBOUND.write_request(pb.ChatRequest(reasoning=pb.ReasoningOptions(**options)), model="m", stream=False)

    assert think == json.loads(body)["think"]
