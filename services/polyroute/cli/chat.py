"""`polyroute chat`: asks a model by the gRPC door, and prints the answer as it comes."""

import sys
from typing import Final

import grpc
from rich.console import Console

from polyroute.api.chat.v1 import chat_pb2
from polyroute.api.gateway.v1 import gateway_pb2 as pb
from polyroute.api.gateway.v1.gateway_pb2_grpc import GatewayServiceStub
from polyroute.cli.client import finish

SECONDS: Final = 600.0
LIST_SECONDS: Final = 5.0
NANO: Final = 1_000_000_000


def ask(address: str, key: str, model: str, prompt: str) -> int:
    """Prints the answer; 0 when it was complete."""
    if not key:
        raise SystemExit("polyroute: name a key with --key or $POLYROUTE_KEY; create one: polyroute keys create")
    return finish(_ask(address, key, model, prompt))


async def _ask(address: str, key: str, model: str, prompt: str) -> int:
    metadata = (("authorization", f"Bearer {key}"),)
    async with grpc.aio.insecure_channel(address) as channel:
        stub = GatewayServiceStub(channel)
        chosen = model or await _first_that_chats(stub, metadata)
        message = chat_pb2.Message(role=chat_pb2.ROLE_USER, parts=[chat_pb2.Part(text=chat_pb2.TextPart(text=prompt))])
        request = pb.ChatRequest(chat=chat_pb2.ChatRequest(model=chosen, messages=[message]))
        served = pb.Served()
        async for response in stub.Chat(request, timeout=SECONDS, metadata=metadata):
            for step in response.steps:
                served = _show(step, served)
    return 0


def _show(step: pb.ChatStep, served: pb.Served) -> pb.Served:
    kind = step.WhichOneof("step")
    if kind == "served":
        return step.served
    if kind == "event" and step.event.WhichOneof("event") == "text":
        sys.stdout.write(step.event.text.text)
        sys.stdout.flush()
    elif kind == "completed":
        print()
        _show_figures(step.completed, served)
    return served


def _show_figures(completed: pb.Completed, served: pb.Served) -> None:
    usage = completed.usage
    cost = f", {completed.cost_nanos / NANO:.9f} USD" if completed.HasField("cost_nanos") else ", price unknown"
    Console(stderr=True, soft_wrap=True).print(
        f"[dim]{served.deployment}, {usage.input_tokens} + {usage.output_tokens} tokens{cost}, "
        f"first token {completed.first_token_microseconds / 1000:.0f} ms, "
        f"of which gateway {completed.overhead_microseconds / 1000:.1f} ms[/]"
    )


async def _first_that_chats(stub: GatewayServiceStub, metadata: tuple[tuple[str, str], ...]) -> str:
    listed = await stub.ListModels(pb.ListModelsRequest(), timeout=LIST_SECONDS, metadata=metadata)
    for model in listed.models:
        if chat_pb2.OPERATION_CHAT in model.operations:
            return model.name
    raise SystemExit("polyroute: no model of this gateway chats")
