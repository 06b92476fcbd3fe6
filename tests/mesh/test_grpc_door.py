"""The gRPC door: the same path, typed; no bytes of a dialect are passed through."""

from collections.abc import AsyncGenerator, Callable
from typing import Any

import grpc
import orjson
import pytest
import pytest_asyncio
from google.rpc import error_details_pb2, status_pb2

from bench.script import Script, marker
from polyroute.api.chat.v1 import chat_pb2
from polyroute.api.gateway.v1 import gateway_pb2 as pb
from polyroute.api.gateway.v1.gateway_pb2_grpc import GatewayServiceStub
from polyroute.api.metrics.v1 import metrics_pb2
from tests.mesh.conftest import Stage
from tests.mesh.gateway import SECONDS
from tests.mesh.raw import events

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def door(stage: Stage) -> AsyncGenerator["Door"]:
    """A client of the gRPC door with a good key."""
    async with grpc.aio.insecure_channel(stage.gateway.door) as channel:
        yield Door(GatewayServiceStub(channel), (("authorization", f"Bearer {stage.gateway.key}"),))


class Door:
    """What an application does with the generated stub."""

    def __init__(self, stub: Any, metadata: tuple[tuple[str, str], ...]) -> None:
        self.stub = stub
        self.metadata = metadata

    async def chat(self, text: str = "hello", *, seconds: float = SECONDS, **members: Any) -> list[pb.ChatStep]:
        """Every step of an answer."""
        request = pb.ChatRequest(chat=chat_pb2.ChatRequest(messages=[user(text)], **{"model": "m", **members}))
        steps: list[pb.ChatStep] = []
        async for response in self.stub.Chat(request, timeout=seconds, metadata=self.metadata):
            steps += response.steps
        return steps


def user(text: str) -> chat_pb2.Message:
    """A message of a person."""
    return chat_pb2.Message(role=chat_pb2.ROLE_USER, parts=[chat_pb2.Part(text=chat_pb2.TextPart(text=text))])


def text_of(steps: list[pb.ChatStep]) -> str:
    """The words of an answer."""
    return "".join(step.event.text.text for step in steps if step.event.HasField("text"))


def details_of(error: grpc.aio.AioRpcError) -> dict[str, Any]:
    """The error's details by the name of their type."""
    found: dict[str, Any] = {}
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(value).details:
                kind = getattr(error_details_pb2, detail.type_url.rpartition(".")[2])
                found[kind.__name__] = kind.FromString(detail.value)
    return found


async def test_an_answer(stage: Stage, door: Door) -> None:
    """Served comes first, Completed last with usage, cost and times; the record agrees."""
    steps = await door.chat(marker(chunks=6))
    first, *between, last = steps
    record = await stage.gateway.record(first.served.request_id)

    assert ("a/up", "a", "m", 1) == (
        first.served.deployment,
        first.served.provider,
        first.served.model,
        first.served.attempt,
    )
    assert {"event"} == {step.WhichOneof("step") for step in between}
    assert 6 == text_of(steps).count("@")
    assert chat_pb2.FINISH_REASON_STOP in [step.event.finished.reason for step in between]
    assert 6 == last.completed.usage.output_tokens
    assert last.completed.usage.input_tokens * 1500 + 6 * 6000 == last.completed.cost_nanos
    assert 0 < last.completed.overhead_microseconds <= last.completed.first_token_microseconds
    assert (metrics_pb2.OUTCOME_COMPLETED, 0) == (record.outcome, record.http_status)
    assert record.cost_nanos == last.completed.cost_nanos == last.completed.charged_nanos
    assert first.served.catalog_version == record.catalog_version


async def test_tools(stage: Stage, door: Door) -> None:
    """Tools go out in the vendor's form, and its calls come back typed, their arguments in pieces."""
    call = '{"choices":[{"index":0,"delta":{"tool_calls":[%s]},"finish_reason":null}]}'
    stage.raw.queue(
        events(
            (
                call % '{"index":0,"id":"call_1","type":"function","function":{"name":"weather","arguments":""}}'
            ).encode(),
            (call % '{"index":0,"function":{"arguments":"{\\"city\\":"}}').encode(),
            (call % '{"index":0,"function":{"arguments":"\\"Oslo\\"}"}}').encode(),
            b'{"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}',
            b'{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":4,"total_tokens":13}}',
            b"[DONE]",
        )
    )
    tool = chat_pb2.Tool(
        kind=chat_pb2.TOOL_KIND_FUNCTION,
        name="weather",
        description="tells it",
        parameters=b'{"type":"object","properties":{"city":{"type":"string"}}}',
        strict=True,
    )
    choice = chat_pb2.ToolChoice(mode=chat_pb2.ToolChoice.MODE_NAMED, name="weather")

    steps = await door.chat(model="raw", tools=[tool], tool_choice=choice, max_output_tokens=50)

    sent = orjson.loads(stage.raw.seen[-1].body)
    assert "weather" == sent["tools"][0]["function"]["name"]
    assert {"type": "function", "function": {"name": "weather"}} == sent["tool_choice"]
    assert {"include_usage": True} == sent["stream_options"]
    calls = [step.event.tool_call for step in steps if step.event.HasField("tool_call")]
    assert ("call_1", "weather", '{"city":"Oslo"}') == (
        "".join(call.id for call in calls),
        "".join(call.name for call in calls),
        "".join(call.arguments for call in calls),
    )
    assert chat_pb2.FINISH_REASON_TOOL_CALLS in [step.event.finished.reason for step in steps]
    assert (9, 4) == (steps[-1].completed.usage.input_tokens, steps[-1].completed.usage.output_tokens)


async def test_failover_is_invisible(stage: Stage, door: Door) -> None:
    """The second deployment's answer, whole; Served says which attempt it was."""
    stage.a.inject(Script(status=500))

    steps = await door.chat(model="pair")

    assert ("pair:b", 2) == (steps[0].served.deployment, steps[0].served.attempt)
    assert 16 == text_of(steps).count("@")


@pytest.mark.parametrize(
    ("members", "code", "reason"),
    [
        ({"model": "no-such"}, "NOT_FOUND", "MODEL_NOT_FOUND"),
        ({"model": ""}, "INVALID_ARGUMENT", "INVALID_REQUEST"),
        ({"messages": []}, "INVALID_ARGUMENT", "INVALID_REQUEST"),
        ({"sampling": chat_pb2.Sampling(temperature=3)}, "INVALID_ARGUMENT", "INVALID_REQUEST"),
        ({"model": "nowhere"}, "UNAVAILABLE", "UPSTREAM"),
    ],
)
async def test_a_refusal(door: Door, members: dict[str, Any], code: str, reason: str) -> None:
    """A status, and ErrorInfo to branch on; a bad request names its field."""
    request = pb.ChatRequest(chat=chat_pb2.ChatRequest(**{"model": "m", "messages": [user("x")], **members}))

    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await anext(aiter(door.stub.Chat(request, timeout=SECONDS, metadata=door.metadata)))

    details = details_of(refused.value)
    assert code == refused.value.code().name
    assert ("polyroute", reason) == (details["ErrorInfo"].domain, details["ErrorInfo"].reason)
    assert (code == "INVALID_ARGUMENT") == ("BadRequest" in details)


@pytest.mark.parametrize("metadata", [(), (("authorization", "Bearer pr-" + "C" * 43),)])
async def test_no_good_key(door: Door, metadata: tuple[tuple[str, str], ...]) -> None:
    """UNAUTHENTICATED at every method."""
    chat = pb.ChatRequest(chat=chat_pb2.ChatRequest(model="m", messages=[user("x")]))
    calls: list[Callable[[], Any]] = [
        lambda: anext(aiter(door.stub.Chat(chat, timeout=SECONDS, metadata=metadata))),
        lambda: door.stub.Embed(pb.EmbedRequest(model="m", texts=["x"]), timeout=SECONDS, metadata=metadata),
        lambda: door.stub.ListModels(pb.ListModelsRequest(), timeout=SECONDS, metadata=metadata),
    ]
    for call in calls:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call()
        assert grpc.StatusCode.UNAUTHENTICATED == refused.value.code()


async def test_a_vendors_own_words(stage: Stage, door: Door) -> None:
    """A rate limit says when to come back, and where it happened."""
    stage.a.script = Script(status=429, retry_after=12)
    try:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await door.chat()
    finally:
        stage.a.script = Script()

    details = details_of(refused.value)
    assert 12 == details["RetryInfo"].retry_delay.seconds
    assert {"fault": "FAULT_RATE", "deployment": "a/up"}.items() <= dict(details["ErrorInfo"].metadata).items()


async def test_a_stream_that_breaks(stage: Stage, door: Door) -> None:
    """What came is handed on, and the status at the end is not OK."""
    stage.a.inject(Script(cut=3))
    request = pb.ChatRequest(chat=chat_pb2.ChatRequest(model="m", messages=[user("x")]))
    steps: list[pb.ChatStep] = []

    with pytest.raises(grpc.aio.AioRpcError) as broken:
        async for response in door.stub.Chat(request, timeout=SECONDS, metadata=door.metadata):
            steps += response.steps

    record = await stage.gateway.record(steps[0].served.request_id)
    assert 3 == text_of(steps).count("@")
    assert "UPSTREAM" == details_of(broken.value)["ErrorInfo"].reason
    assert metrics_pb2.OUTCOME_BROKEN == record.outcome


async def test_a_callers_deadline(stage: Stage, door: Door) -> None:
    """The caller's deadline ends the vendor's work too; in time still, the error names the vendor that was slow."""
    before = stage.a.cancelled

    with pytest.raises(grpc.aio.AioRpcError) as late:
        await door.chat(marker(first=3000), seconds=0.3)
    (record,) = await stage.gateway.latest(1)

    if late.value.code() != grpc.StatusCode.DEADLINE_EXCEEDED:  # what a busy machine may make of it
        assert "FAULT_STALL" == details_of(late.value)["ErrorInfo"].metadata["fault"]
    assert before + 1 == stage.a.cancelled
    assert metrics_pb2.OUTCOME_COMPLETED != record.outcome


async def test_vectors(stage: Stage, door: Door) -> None:
    """Embed gives vectors in the order of the texts, who made them and what that cost."""
    request = pb.EmbedRequest(model="m", texts=["a", "bb"], dimensions=4)

    response = await door.stub.Embed(request, timeout=SECONDS, metadata=door.metadata)
    record = await stage.gateway.record(response.served.request_id)

    assert [[0, 1, 0, 0], [0, 0, 1, 0]] == [list(vector.values) for vector in response.vectors]
    assert "a/up" == response.served.deployment
    assert (2, 3000) == (response.completed.usage.input_tokens, response.completed.cost_nanos)
    assert (chat_pb2.OPERATION_EMBEDDING, 3000) == (record.operation, record.cost_nanos)


async def test_models(door: Door) -> None:
    """Models and aliases, with what they are for."""
    listed = await door.stub.ListModels(pb.ListModelsRequest(), timeout=SECONDS, metadata=door.metadata)

    models = {model.name: model for model in listed.models}
    assert {"m", "pair", "nick"} <= models.keys()
    assert [chat_pb2.OPERATION_CHAT, chat_pb2.OPERATION_EMBEDDING] == list(models["nick"].operations)
    assert ["a", "b"] == list(models["pair"].providers)
