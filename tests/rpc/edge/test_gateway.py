"""The gRPC door behind each kind of channel; the roles behind it are fakes."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc
import pytest

from polyroute.api.chat.v1 import chat_pb2
from polyroute.api.chat.v1.chat_pb2 import FINISH_REASON_STOP, ChatEvent, Usage
from polyroute.api.errors.v1 import errors_pb2
from polyroute.api.gateway.v1 import gateway_pb2 as pb
from polyroute.api.gateway.v1 import gateway_pb2_grpc
from polyroute.api.metrics.v1 import metrics_pb2
from polyroute.api.providers.v1.providers_pb2 import Finished, GenerateEvent, GenerateResponse, Started
from polyroute.edge.config import EdgeConfig
from polyroute.edge.service import GatewayService
from polyroute.mesh.errors import MeshError, from_rpc
from polyroute.mesh.node import Service
from tests.unit.edge.peers import KEY, House, Step, Wait

Link = Callable[..., Awaitable[grpc.aio.Channel]]
METADATA = (("authorization", f"Bearer {KEY}"),)
T = 5.0
DOWN = MeshError.upstream(errors_pb2.FAULT_SERVER, "the vendor failed")


def text(*pieces: str) -> GenerateResponse:
    events = [ChatEvent(text=chat_pb2.TextDelta(text=piece)) for piece in pieces]
    return GenerateResponse(events=[GenerateEvent(chat=event) for event in events])


BEGUN = GenerateResponse(events=[GenerateEvent(started=Started(dropped=["top_k"]))])
ENDED = GenerateResponse(
    events=[
        GenerateEvent(usage=Usage(input_tokens=3, output_tokens=2)),
        GenerateEvent(finished=Finished(reason=FINISH_REASON_STOP)),
    ]
)
ANSWER: Sequence[Step] = (BEGUN, text("one ", "two"), ENDED)


async def stub_of(link: Link, house: House) -> Any:
    add = gateway_pb2_grpc.add_GatewayServiceServicer_to_server
    channel = await link("edge", Service(add, GatewayService(house.flow, EdgeConfig())))
    return gateway_pb2_grpc.GatewayServiceStub(channel)


def question(tags: dict[str, str] | None = None, **members: Any) -> pb.ChatRequest:
    message = chat_pb2.Message(role=chat_pb2.ROLE_USER, parts=[chat_pb2.Part(text=chat_pb2.TextPart(text="hi"))])
    return pb.ChatRequest(chat=chat_pb2.ChatRequest(model="m", messages=[message], metadata=tags, **members))


async def ask(stub: Any, metadata: Any = METADATA, **members: Any) -> list[pb.ChatStep]:
    call = stub.Chat(question(**members), timeout=T, metadata=metadata)
    return [step async for response in call for step in response.steps]


async def refused(call: Awaitable[object]) -> MeshError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc(caught.value)


async def test_steps_of_an_answer(link: Link) -> None:
    """Who serves it, what it says, what it took: in this order."""
    house = House([(DOWN,), ANSWER])
    steps = await ask(await stub_of(link, house))

    assert ["served", "event", "event", "completed"] == [step.WhichOneof("step") for step in steps]
    served, completed = steps[0].served, steps[-1].completed
    assert ("b/y", "b", "m", 2, "c1", ["top_k"]) == (
        served.deployment,
        served.provider,
        served.model,
        served.attempt,
        served.catalog_version,
        list(served.dropped),
    )
    assert "one two" == "".join(step.event.text.text for step in steps)
    assert (3, 2, 3 * 2000 + 2 * 10_000) == (
        completed.usage.input_tokens,
        completed.usage.output_tokens,
        completed.cost_nanos,
    )


async def test_record_names_the_call(link: Link) -> None:
    """Its id is the one that the caller was told; there is no HTTP status; user and tags are kept."""
    house = House([ANSWER])
    steps = await ask(await stub_of(link, house), user="ann", tags={"team": "red"})

    assert (steps[0].served.request_id, 0, "ann", {"team": "red"}) == (
        house.record.request_id,
        house.record.http_status,
        house.record.user,
        dict(house.record.tags),
    )


async def test_tags_cannot_fill_a_record(link: Link) -> None:
    """One that no spool takes would stop every call that follows: what is too long is cut."""
    house = House([ANSWER])
    await ask(await stub_of(link, house), tags={f"{number}": "x" * 100_000 for number in range(64)})

    assert len(house.spool.payloads[0]) < 100_000


async def test_refusal_has_its_reason(link: Link) -> None:
    """As for HTTP callers, in gRPC's words."""
    missing = await refused(ask(await stub_of(link, House([ANSWER])), metadata=()))

    assert (errors_pb2.REASON_CREDENTIAL_MISSING, grpc.StatusCode.UNAUTHENTICATED) == (missing.reason, missing.code)


async def test_malformed_request_names_the_field(link: Link, kind: str) -> None:
    """It does not get as far as auth."""
    if kind == "local":
        pytest.skip("nobody inside this process calls its own door")
    house = House()
    stub = await stub_of(link, house)
    empty = await refused(stub.Embed(pb.EmbedRequest(model="m"), timeout=T, metadata=METADATA))

    assert (errors_pb2.REASON_INVALID_REQUEST, "texts", 0) == (empty.reason, empty.metadata["param"], house.auth.asked)


async def test_break_after_content_is_an_error(link: Link) -> None:
    """What came before it was handed out, and no `completed` pretends that it was whole."""
    house = House([(BEGUN, text("one "), DOWN)])
    stub = await stub_of(link, house)
    given: list[str] = []

    async def read() -> None:
        async for response in stub.Chat(question(), timeout=T, metadata=METADATA):
            given.extend(str(step.WhichOneof("step")) for step in response.steps)

    error = await refused(read())

    assert (["served", "event"], errors_pb2.FAULT_SERVER) == (given, error.fault)
    assert metrics_pb2.OUTCOME_BROKEN == house.record.outcome


async def test_callers_deadline_is_the_calls(link: Link) -> None:
    """The vendor is not waited for any longer, and the call is on record."""
    house = House([(BEGUN, Wait())])
    stub = await stub_of(link, house)
    call = stub.Chat(question(), timeout=0.3, metadata=METADATA)
    error = await refused(call.read())

    assert grpc.StatusCode.DEADLINE_EXCEEDED == error.code


async def test_models(link: Link) -> None:
    """Those that the key may name."""
    stub = await stub_of(link, House())
    listed = await stub.ListModels(pb.ListModelsRequest(), timeout=T, metadata=METADATA)

    assert ["m", "n"] == [model.name for model in listed.models]
