"""GatewayService, the gRPC door: typed calls along the same path as HTTP's."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from itertools import islice
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import unquote

import grpc

from polyroute.api.chat.v1 import chat_pb2
from polyroute.api.chat.v1.chat_pb2 import ChatRequest, Operation, RequestFacts
from polyroute.api.gateway.v1 import gateway_pb2 as pb
from polyroute.api.gateway.v1 import gateway_pb2_grpc
from polyroute.api.modality.v1.modality_pb2 import CountTokensTask, Result, Task
from polyroute.api.providers.v1.providers_pb2 import EmbedInput, GenerateEvent
from polyroute.edge import attribution
from polyroute.edge.call import Call
from polyroute.edge.config import EdgeConfig
from polyroute.edge.facts import facts_of, sound_in, tokens_in, tokens_of
from polyroute.edge.flow import Flow
from polyroute.edge.http.door import POLICY, credential
from polyroute.edge.http.figures import openai
from polyroute.edge.record import record_of
from polyroute.edge.trail import Trail
from polyroute.edge.turnstile import HEADER as CRITICALITY
from polyroute.edge.wishes import URGENCY, typed_hints
from polyroute.mesh import scope as scopes

Context = grpc.aio.ServicerContext[Any, Any]
MILLION: Final = 1_000_000
SERVICE: Final = "polyroute.api.gateway.v1.GatewayService"


class GatewayService(gateway_pb2_grpc.GatewayServiceServicer):
    """The door for internal services.

    Args:
        flow: The path of a call.
        config: Bounds.
    """

    def __init__(self, flow: Flow, config: EdgeConfig) -> None:
        self._flow = flow
        self._config = config

    async def Chat(self, request: pb.ChatRequest, context: Context) -> AsyncGenerator[pb.ChatResponse]:  # noqa: N802
        """Answers a conversation as it is made."""
        trail = _trail(context, request.chat.user, request.chat.metadata)
        facts = facts_of(request.chat)
        call = self._call(context, "Chat", facts, request.chat, trail)
        call.session = request.session
        call.hints = typed_hints(request.chat, facts, _said(context, URGENCY))
        _prefer(call, request)
        served = False
        async with aclosing(self._flow.generate(call)) as responses:
            async for response in responses:
                steps = [step for event in response.events for step in _steps(event, trail)]
                if not served:
                    served = True
                    steps.insert(0, pb.ChatStep(served=_served(trail)))
                if steps:
                    yield pb.ChatResponse(steps=steps)
        _tell(context, trail)

    async def Embed(self, request: pb.EmbedRequest, context: Context) -> pb.EmbedResponse:  # noqa: N802
        """Makes vectors of texts."""
        trail = _trail(context)
        body = EmbedInput(texts=request.texts)
        if request.HasField("dimensions"):
            body.dimensions = request.dimensions
        facts = RequestFacts(
            operation=chat_pb2.OPERATION_EMBEDDING,
            model=request.model,
            input_tokens_estimate=sum(map(tokens_in, request.texts)),
        )
        call = self._call(context, "Embed", facts, body, trail)
        _prefer(call, request)
        response = await self._flow.embed(call)
        trail.handed_out()
        _tell(context, trail)
        return pb.EmbedResponse(
            vectors=[pb.Vector(values=embedding.values) for embedding in response.embeddings],
            served=_served(trail),
            completed=_completed(trail),
        )

    async def Rerank(self, request: pb.RerankRequest, context: Context) -> pb.RerankResponse:  # noqa: N802
        """Orders documents."""
        task = Task(rerank=request.task)
        result, trail = await self._done(request, task, chat_pb2.OPERATION_RERANK, context)
        return pb.RerankResponse(result=result.rerank, served=_served(trail), completed=_completed(trail))

    async def GenerateImage(  # noqa: N802 - the contract's name
        self, request: pb.GenerateImageRequest, context: Context
    ) -> pb.GenerateImageResponse:
        """Makes or edits pictures."""
        task = Task(image=request.task)
        result, trail = await self._done(request, task, chat_pb2.OPERATION_IMAGE, context)
        return pb.GenerateImageResponse(result=result.image, served=_served(trail), completed=_completed(trail))

    async def Speech(  # noqa: N802 - the contract's name
        self, request: pb.SpeechRequest, context: Context
    ) -> AsyncGenerator[pb.SpeechResponse]:
        """Turns text to sound as it is made."""
        call = self._task(request, Task(speech=request.task), chat_pb2.OPERATION_SPEECH, context)
        served = False
        async with aclosing(self._flow.generate(call)) as responses:
            async for response in responses:
                for event in response.events:
                    if event.HasField("result"):
                        piece = pb.SpeechResponse(result=event.result.speech)
                        if not served:
                            served = True
                            piece.served.CopyFrom(_served(call.trail))
                        yield piece
                    elif event.HasField("finished"):
                        yield pb.SpeechResponse(completed=_completed(call.trail))
        _tell(context, call.trail)

    async def Transcribe(self, request: pb.TranscribeRequest, context: Context) -> pb.TranscribeResponse:  # noqa: N802
        """Turns sound to text."""
        task = Task(transcription=request.task)
        result, trail = await self._done(request, task, chat_pb2.OPERATION_TRANSCRIPTION, context)
        return pb.TranscribeResponse(result=result.transcription, served=_served(trail), completed=_completed(trail))

    async def Moderate(self, request: pb.ModerateRequest, context: Context) -> pb.ModerateResponse:  # noqa: N802
        """Checks content."""
        task = Task(moderation=request.task)
        result, trail = await self._done(request, task, chat_pb2.OPERATION_MODERATION, context)
        return pb.ModerateResponse(result=result.moderation, served=_served(trail), completed=_completed(trail))

    async def CountTokens(  # noqa: N802 - the contract's name
        self, request: pb.CountTokensRequest, context: Context
    ) -> pb.CountTokensResponse:
        """Counts the tokens of a conversation."""
        trail = _trail(context, request.chat.user, request.chat.metadata)
        facts = facts_of(request.chat)
        facts.operation = chat_pb2.OPERATION_COUNT_TOKENS
        facts.stream = facts.stream_usage = False
        task = Task(count_tokens=CountTokensTask(chat=request.chat))
        result = await self._result(self._call(context, "CountTokens", facts, task, trail), context)
        return pb.CountTokensResponse(result=result.count_tokens, served=_served(trail))

    def _task(self, request: Any, task: Task, operation: Operation.ValueType, context: Context) -> Call:
        trail = _trail(context, request.user, request.metadata)
        facts = RequestFacts(
            operation=operation,
            model=request.model,
            input_tokens_estimate=tokens_of(task),
            stream=False,
            sound_milliseconds=sound_in(task),
        )
        name = type(request).DESCRIPTOR.name.removesuffix("Request")
        call = self._call(context, name, facts, task, trail)
        _prefer(call, request)
        return call

    async def _done(
        self, request: Any, task: Task, operation: Operation.ValueType, context: Context
    ) -> tuple[Result, Trail]:
        call = self._task(request, task, operation, context)
        return await self._result(call, context), call.trail

    async def _result(self, call: Call, context: Context) -> Result:
        """The one result of a task that is not streamed."""
        found = Result()
        async with aclosing(self._flow.generate(call)) as responses:
            async for response in responses:
                for event in response.events:
                    if event.HasField("result"):
                        found = event.result
        _tell(context, call.trail)
        return found

    async def ListModels(  # noqa: N802 - the contract's name
        self, request: pb.ListModelsRequest, context: Context
    ) -> pb.ListModelsResponse:
        """The models the caller may name."""
        listed = await self._flow.models(_credential(context), address(context.peer() or ""))
        models = [
            pb.Model(
                name=model.name,
                operations=model.operations,
                capabilities=model.capabilities,
                providers=model.providers,
                context_tokens=model.context_tokens,
            )
            for model in listed.models
        ]
        return pb.ListModelsResponse(models=models)

    def _call(
        self, context: Context, name: str, facts: RequestFacts, body: ChatRequest | EmbedInput | Task, trail: Trail
    ) -> Call:
        call = Call(_credential(context), facts, body, self._deadline(context), trail)
        call.route, call.source = f"/{SERVICE}/{name}", address(context.peer() or "")
        call.policy = _said(context, POLICY)
        call.criticality = _said(context, CRITICALITY)
        left = context.time_remaining()
        call.hurried = left is not None and left < self._config.total_seconds
        return call

    def _deadline(self, context: Context) -> float:
        now = asyncio.get_running_loop().time()
        left = context.time_remaining()
        most = self._config.total_seconds
        return now + (most if left is None else min(most, left - scopes.SHAVE))


def address(peer: str) -> str:
    """The address in a peer's name (`ipv4:10.0.0.7:5123`, `ipv6:[::1]:5123`); empty for one without any."""
    kind, _, rest = unquote(peer).partition(":")
    return rest.rpartition(":")[0].strip("[]") if kind in ("ipv4", "ipv6") else ""


def _said(context: Context, name: str) -> str:
    """A text of the call's metadata; empty without."""
    metadata = context.invocation_metadata() or ()
    return next((value for key, value in metadata if key == name and isinstance(value, str)), "")


def _prefer(call: Call, request: Any) -> None:
    """Takes a request's wishes into the call."""
    if request.HasField("preferences"):
        call.preferences = request.preferences
        call.facts.require_parameters = request.preferences.require_parameters


def _tell(context: Context, trail: Trail) -> None:
    """Says how the caller's limits stand, after an answer: in the names of OpenAI's headers."""
    if trail.admission is not None and (pairs := openai(trail.admission.figures())):
        context.set_trailing_metadata(tuple((name.decode(), value.decode()) for name, value in pairs))


def _tags(metadata: Mapping[str, str]) -> dict[str, str]:
    """As many and as long as a record may hold: one too large for the spool would stop every call that follows."""
    most = attribution.TAGS
    return {
        key[: attribution.NAME_CHARS]: value[: attribution.VALUE_CHARS] for key, value in islice(metadata.items(), most)
    }


def _trail(context: Context, user: str = "", metadata: Mapping[str, str] = MappingProxyType({})) -> Trail:
    scope = scopes.CURRENT.get()
    trail = Trail(scope.request_id if scope is not None else scopes.new_request_id(), http=False)
    attribution.from_headers(trail, _headers(context))
    attribution.take(trail, _tags(metadata), user)
    return trail


def _headers(context: Context) -> dict[str, str]:
    return {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}


def _credential(context: Context) -> str:
    return credential(_headers(context))


def _steps(event: GenerateEvent, trail: Trail) -> list[pb.ChatStep]:
    kind = event.WhichOneof("event")
    if kind == "chat":
        return [pb.ChatStep(event=event.chat)]
    if kind == "finished":
        return [pb.ChatStep(completed=_completed(trail))]
    return []


def _served(trail: Trail) -> pb.Served:
    attempt, decision, started = trail.attempt, trail.decision, trail.started
    assert attempt is not None  # noqa: S101 - something was answered
    assert decision is not None  # noqa: S101 - so it was decided
    return pb.Served(
        request_id=trail.request_id,
        deployment=attempt.deployment,
        provider=attempt.provider,
        model=trail.model,
        attempt=len(trail.attempts) + (not trail.over),
        catalog_version=decision.record.catalog_version,
        dropped=started.dropped if started is not None else (),
    )


def _completed(trail: Trail) -> pb.Completed:
    record = record_of(trail)
    completed = pb.Completed(
        usage=trail.usage,
        first_token_microseconds=record.first_token_microseconds,
        total_microseconds=record.total_microseconds,
        overhead_microseconds=record.overhead_microseconds,
    )
    if record.HasField("cost_nanos"):
        completed.cost_nanos = record.cost_nanos
    if record.HasField("charged_nanos"):
        completed.charged_nanos = record.charged_nanos
    return completed
