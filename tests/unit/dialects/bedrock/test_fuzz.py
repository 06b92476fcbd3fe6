"""Nothing but a MeshError ever comes of `bedrock.converse`, whatever a vendor or a caller sends."""

import json
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.errors.v1 import errors_pb2
from polyroute.api.modality.v1.modality_pb2 import CountTokensTask, Task
from polyroute.dialects import bedrock_tasks
from polyroute.dialects.bedrock_converse import OUTBOUND
from polyroute.dialects.events import assemble
from polyroute.mesh.errors import MeshError
from tests.thorough import examples

NAMES = st.sampled_from(
    """text toolUse toolUseId name input type server_tool_use toolResult content json reasoningContent reasoningText
    signature redactedContent citation citationsContent citations image source bytes format delta start message role
    contentBlockIndex stopReason usage inputTokens totalTokens cacheDetails ttl serverToolUsage metrics output
    end_turn tool_use AAAA __type Message""".split()  # noqa: SIM905 - words read better than a list of texts
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 1 << 70) | st.floats(allow_nan=False) | NAMES | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
EVENTS = st.sampled_from(
    [
        "",
        "messageStart",
        "contentBlockStart",
        "contentBlockDelta",
        "contentBlockStop",
        "messageStop",
        "metadata",
        "exception.throttlingException",
    ]
)
BLOCK = st.fixed_dictionaries(
    {"contentBlockIndex": st.integers(0, 2) | JSON},
    optional={
        "start": st.dictionaries(st.sampled_from(["toolUse", "toolResult", "image", "x"]), JSON, max_size=1),
        "delta": st.dictionaries(
            st.sampled_from(["text", "toolUse", "reasoningContent", "citation", "toolResult", "image", "x"]),
            JSON,
            max_size=2,
        ),
    },
)


def encoded(value: Any) -> bytes:
    """JSON."""
    return json.dumps(value).encode()


def reason_of(work: Callable[[], object]) -> int:
    """The reason that work ends with; REASON_UPSTREAM as well when it ends well."""
    try:
        work()
    except MeshError as error:
        return error.reason
    return errors_pb2.REASON_UPSTREAM


def read(events: list[tuple[str, bytes]]) -> pb.ChatResponse:
    """The answer in a stream."""
    reader = OUTBOUND.reader()
    return assemble([*reader.feed(events), *reader.finish()])


@settings(max_examples=examples(60, 300))
@given(st.lists(st.tuples(EVENTS, BLOCK | JSON), max_size=6))
def test_any_stream(events: list[tuple[str, Any]]) -> None:
    """Any JSON in any event is steps, or a fault of the vendor."""
    assert errors_pb2.REASON_UPSTREAM == reason_of(lambda: read([(name, encoded(value)) for name, value in events]))


@settings(max_examples=examples(60, 300))
@given(st.lists(st.dictionaries(NAMES, JSON, max_size=3) | JSON, max_size=3), JSON, JSON)
def test_any_answer(content: list[Any], stop: Any, usage: Any) -> None:
    """Any JSON in any place of an answer is an answer, or a fault of the vendor."""
    message = {"role": "assistant", "content": content}
    for value in (
        {"output": {"message": message}, "stopReason": "end_turn", "usage": usage},
        {"output": {"message": message}, "stopReason": stop},
        {"output": content, "stopReason": stop},
        content,
        stop,
    ):
        assert errors_pb2.REASON_UPSTREAM == reason_of(partial(OUTBOUND.read_answer, encoded(value)))


@given(st.binary(max_size=40), st.integers(0, 999))
def test_any_bytes(body: bytes, status: int) -> None:
    """Any bytes are an error with a class, and no answer."""
    assert errors_pb2.REASON_UPSTREAM == OUTBOUND.fault_of(status, body, {"x-amzn-errortype": "a:b"}).reason
    assert errors_pb2.REASON_UPSTREAM == reason_of(lambda: OUTBOUND.read_answer(body))
    for task in (bedrock_tasks.COUNT_TOKENS, bedrock_tasks.RERANK):
        assert errors_pb2.REASON_UPSTREAM == reason_of(partial(task.read_outcome, body, ""))


@settings(max_examples=examples(60, 200))
@given(JSON)
def test_any_result_of_a_task(value: Any) -> None:
    """Any JSON is a count or an order, or a fault of the vendor."""
    ranked = {"results": [{"index": 0, "relevanceScore": value, "document": value}]}
    for shape in (value, {"inputTokens": value}, {"results": value}, ranked):
        for task in (bedrock_tasks.COUNT_TOKENS, bedrock_tasks.RERANK):
            assert errors_pb2.REASON_UPSTREAM == reason_of(partial(task.read_outcome, encoded(shape), ""))


WORDS = st.text(max_size=6)
MEDIA = st.builds(pb.Media, data=st.binary(min_size=1, max_size=4), media_type=st.sampled_from(["", "image/png", "x"]))
EXTENSIONS = st.dictionaries(
    st.sampled_from(["cache_control", "cachePoint", "guardContent", "json", "contentBlocks", "x"]),
    st.binary(max_size=3) | JSON.map(encoded),
    max_size=2,
)
PARTS = st.one_of(
    st.builds(pb.Part, text=st.builds(pb.TextPart, text=WORDS), extensions=EXTENSIONS),
    st.builds(pb.Part, image=st.builds(pb.ImagePart, media=MEDIA)),
    st.builds(pb.Part, file=st.builds(pb.FilePart, media=MEDIA, filename=WORDS)),
    st.builds(pb.Part, audio=st.builds(pb.AudioPart, id=WORDS)),
    st.builds(pb.Part, tool_call=st.builds(pb.ToolCall, id=WORDS, name=WORDS, arguments=WORDS)),
    st.builds(pb.Part, reasoning=st.builds(pb.ReasoningPart, text=WORDS)),
    st.builds(pb.Part, refusal=st.builds(pb.RefusalPart, text=WORDS)),
    st.builds(pb.Part),
)
RESULTS = st.builds(
    pb.Part,
    tool_result=st.builds(pb.ToolResult, tool_call_id=WORDS, name=WORDS, parts=st.lists(PARTS, max_size=2)),
)
MESSAGES = st.builds(
    pb.Message, role=st.integers(1, 5), parts=st.lists(PARTS | RESULTS, max_size=3), extensions=EXTENSIONS
)
REQUESTS = st.builds(
    pb.ChatRequest,
    messages=st.lists(MESSAGES, max_size=4),
    tools=st.lists(st.builds(pb.Tool, name=WORDS, parameters=st.binary(max_size=3), extensions=EXTENSIONS), max_size=2),
    tool_choice=st.builds(pb.ToolChoice, mode=st.integers(0, 4), name=WORDS, raw=st.just(b"") | st.binary(max_size=3)),
    sampling=st.builds(pb.Sampling, temperature=st.floats(0, 2), top_k=st.integers(0, 9)),
    reasoning=st.builds(pb.ReasoningOptions, effort=WORDS | st.sampled_from(["low", "none"]), summary=WORDS),
    extensions=EXTENSIONS,
)
MODELS = st.sampled_from(["anthropic.claude-sonnet-5", "anthropic.claude-sonnet-4-20250514-v1:0", "nova-2-lite", "x"])


@settings(max_examples=examples(60, 300))
@given(REQUESTS, MODELS, st.sampled_from(["", "openai.chat"]))
def test_any_request(request: pb.ChatRequest, model: str, source: str) -> None:
    """Any conversation is written as JSON whose roles alternate, or refused."""
    bodies: list[bytes] = []
    task = Task(count_tokens=CountTokensTask(chat=request))

    reasons = {
        reason_of(lambda: bodies.append(OUTBOUND.write_request(request, model=model, stream=True, source=source)[0])),
        reason_of(lambda: bedrock_tasks.COUNT_TOKENS.write_task(task, model=model, source=source)),
    }

    assert reasons <= {errors_pb2.REASON_INVALID_REQUEST, errors_pb2.REASON_UPSTREAM}
    for body in bodies:
        roles = [message["role"] for message in json.loads(body)["messages"]]
        assert all(one != other for one, other in pairwise(roles))
