"""The path of a call, on one page: authorize -> decide -> attempt -> record.

Both doors walk it. What they hand in is a `Call`; what they get are the providers' messages, in order, with everything
known about the call in its `trail`. Failover is invisible: what a failed attempt said before any content is dropped.
From the first content on (the commit point) there is no other attempt; what breaks then ends the stream with an error.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
import structlog

from polyroute.api.auth.v1.auth_pb2 import Caller, Verdict
from polyroute.api.chat.v1.chat_pb2 import (
    OPERATION_CHAT,
    OPERATION_COUNT_TOKENS,
    ChatRequest,
    EncodedRequest,
    RequestFacts,
    Usage,
)
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.modality.v1.modality_pb2 import Task
from polyroute.api.providers.v1.providers_pb2 import (
    EmbedInput,
    EmbedRequest,
    EmbedResponse,
    Finished,
    GenerateRequest,
    GenerateResponse,
    RelayRequest,
    RelayResponse,
    Target,
)
from polyroute.api.router.v1.router_pb2 import (
    Attempt,
    AttemptReport,
    DecideRequest,
    Hints,
    ListModelsRequest,
    ListModelsResponse,
    Preferences,
    Timeouts,
)
from polyroute.edge.allowance import Admission, Allowances
from polyroute.edge.authorizer import Authorizer
from polyroute.edge.bounding import bounded
from polyroute.edge.config import EdgeConfig
from polyroute.edge.failover import Failure, next_attempt, verdict
from polyroute.edge.permits import permit
from polyroute.edge.recorder import Recorder
from polyroute.edge.trail import Trail
from polyroute.mesh.errors import MeshError, from_rpc

HELD_MESSAGES: Final = 64  # opening messages that are held back, so that another attempt can still replace them
HELD_BYTES: Final = 256 * 1024
MOST_REPORTS: Final = 4096  # on their way to the router; of more only the newest say anything of how vendors are
CONTENT: Final = frozenset({"text", "reasoning", "tool_call", "refusal", "audio", "image"})

_log = structlog.get_logger("flow")


@dataclass(slots=True)
class Call:
    """What a door hands in.

    Attributes:
        credential: The caller's key as presented.
        facts: What was read from the request.
        body: The question, typed or as the client sent it.
        deadline: Loop time at which the call must be over.
        trail: What becomes known of it.
        headers: The client's headers that the vendor may see.
        preferences: What the caller wants of the deployments; None when it says nothing.
        hints: What the content looks like, for a model that is to be chosen by it.
        session: Ties calls together that should stay at one deployment; empty for none.
        explain: The caller wants the whole decision record.
        route: Path of the HTTP request or the RPC.
        source: Address it comes from; empty when unknown.
        admission: What the call takes of its key's limits and budget.
    """

    credential: str
    facts: RequestFacts
    body: ChatRequest | EncodedRequest | EmbedInput | Task
    deadline: float
    trail: Trail
    headers: Mapping[str, str] = field(default_factory=dict)
    preferences: Preferences | None = None
    hints: Hints | None = None
    session: str = ""
    explain: bool = False
    route: str = ""
    source: str = ""
    admission: Admission | None = None


@dataclass(slots=True)
class Relayed:
    """A request for a vendor's own API.

    Attributes:
        credential: The caller's key as presented.
        facts: Of operation RELAY; the model is `provider/model` where the body names one.
        request: What is passed on.
        deadline: Loop time at which the call must be over.
        trail: What becomes known of it.
    """

    credential: str
    facts: RequestFacts
    request: RelayRequest
    deadline: float
    trail: Trail
    route: str = ""
    source: str = ""
    admission: Admission | None = None


class Flow:
    """The path of every call.

    Args:
        config: Bounds of each step.
        authorizer: Who calls.
        router: RouterService.
        providers: ProvidersService.
        recorder: Where records go.
        allowances: Limits and money.
        reach: Returns once the providers role can be reached; raises REASON_SERVICE_UNAVAILABLE when it cannot.
    """

    def __init__(
        self,
        config: EdgeConfig,
        authorizer: Authorizer,
        router: Any,
        providers: Any,
        recorder: Recorder,
        allowances: Allowances,
        reach: Callable[[], Awaitable[None]],
    ) -> None:
        self._reach = reach
        self._config = config
        self._authorizer = authorizer
        self._router = router
        self._providers = providers
        self._recorder = recorder
        self._allowances = allowances
        self._reports: deque[AttemptReport] = deque(maxlen=MOST_REPORTS)

    async def generate(self, call: Call) -> AsyncGenerator[GenerateResponse]:
        """Answers a conversation or completion.

        Raises:
            MeshError: The call was refused or failed; REASON_STREAM_BROKEN or a vendor's fault after the commit point.
        """
        trail = call.trail
        try:
            await self._authorize(call)
            await self._decide(call)
            failures: list[Failure] = []
            while (index := await self._next(call, failures)) is not None:
                # closed here and not by the collector: a reader that stops ends the vendor's work now
                async with aclosing(self._attempt(call, index, len(failures) + 1)) as responses:
                    try:
                        async for response in responses:
                            yield response
                        return
                    except MeshError as error:
                        failures.append(_failed(call, index, error))
            raise verdict(failures)
        except MeshError as error:
            trail.ended(error)
            raise
        except (asyncio.CancelledError, GeneratorExit):
            trail.left()
            raise
        finally:
            self._close(call)

    async def embed(self, call: Call) -> EmbedResponse:
        """Makes vectors.

        Raises:
            MeshError: The call was refused or failed.
        """
        trail = call.trail
        try:
            await self._authorize(call)
            await self._decide(call)
            response = await self._embed(call)
            self._recorder.keep(trail)
        except MeshError as error:
            trail.ended(error)
            raise
        except asyncio.CancelledError:
            trail.left()
            raise
        finally:
            self._close(call)
        return response

    async def relay(self, call: Relayed) -> AsyncGenerator[RelayResponse]:
        """Passes a request to a vendor's own API: no choice among deployments, and no second attempt.

        Raises:
            MeshError: The call was refused, or the vendor cannot be reached; a vendor's own refusal is an answer.
        """
        trail = call.trail
        try:
            await self._authorize(call)
            _check_relay(call)
            attempt = await self._priced(call)
            await self._hold(call, [attempt])
            if call.admission is not None:
                call.admission.sent(1, attempt)
            trail.trying(attempt)
            await self._reach()
            call.request.request_id = trail.request_id
            async for response in self._relayed(call):
                if response.status:
                    trail.relayed(response)
                if response.last:
                    if not response.HasField("usage"):
                        attempt.ClearField("price")  # what it costs is not known, which is not nothing
                    trail.completed(response.usage, Finished())
                    self._recorder.keep(trail)
                yield response
            if not trail.over:
                raise MeshError.upstream(pb.FAULT_TRUNCATED, "the vendor's answer ended before it was complete")
        except MeshError as error:
            if trail.trying_now:
                trail.failed(error)
            trail.ended(error)
            raise
        except (asyncio.CancelledError, GeneratorExit):
            trail.left()
            raise
        finally:
            self._close(call)

    async def _relayed(self, call: Relayed) -> AsyncGenerator[RelayResponse]:
        stream = self._providers.Relay(call.request, timeout=_left(call))
        try:
            async for response in stream:
                yield response
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error) from None
        finally:
            stream.cancel()

    async def _priced(self, call: Relayed) -> Attempt:
        """The deployment that the request would be one of, for its price; without a price where there is none."""
        facts = RequestFacts()
        facts.CopyFrom(call.facts)
        facts.operation = OPERATION_CHAT
        request = DecideRequest(request_id=call.trail.request_id, facts=facts, caller=call.trail.caller)
        provider = call.request.provider
        try:
            decision = await self._router.Decide(request, timeout=self._config.decide_seconds)
        except grpc.aio.AioRpcError:
            return Attempt(deployment=f"{provider or 'any'}/*", provider=provider)
        found: Attempt = decision.plan.attempts[0]
        return found

    async def caller(self, credential: str) -> Caller:
        """Who a key belongs to."""
        return (await self._authorizer.verdict(credential)).caller

    async def models(self, credential: str) -> ListModelsResponse:
        """The models that the caller may name."""
        allowed = await self._authorizer.verdict(credential)
        try:
            listed: ListModelsResponse = await self._router.ListModels(
                ListModelsRequest(), timeout=self._config.decide_seconds
            )
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error) from None
        if not allowed.models:
            return listed
        models = [model for model in listed.models if _permits(allowed, model.name)]
        return ListModelsResponse(models=models, catalog_version=listed.catalog_version)

    async def _authorize(self, call: Call | Relayed) -> None:
        self._recorder.check()
        allowed = await self._authorizer.verdict(call.credential)
        call.trail.facts = call.facts
        call.trail.caller = allowed.caller
        call.trail.permitted = allowed.models
        operation = call.facts.operation
        permit(allowed, operation=operation, route=call.route, source=call.source)
        call.admission = call.trail.admission = await self._allowances.admit(allowed, call.facts)

    async def _decide(self, call: Call) -> None:
        request = DecideRequest(
            request_id=call.trail.request_id,
            facts=call.facts,
            caller=call.trail.caller,
            preferences=call.preferences,
            hints=call.hints,
            sticky_key=call.session,
            explain=call.explain,
            permitted_models=call.trail.permitted,  # a name may say more than a model's: the router reads it
        )
        if self._reports:
            request.reports.extend(self._reports)
            self._reports.clear()
        if call.facts.operation == OPERATION_COUNT_TOKENS:  # whoever answers conversations can count their tokens
            request.facts.operation = OPERATION_CHAT
        if isinstance(call.body, EncodedRequest):
            request.dialect = call.body.dialect
        try:
            call.trail.decision = await self._router.Decide(request, timeout=self._config.decide_seconds)
        except grpc.aio.AioRpcError as error:
            raise _unheard(call, from_rpc(error), "the router") from None
        await self._hold(call, _plan(call).attempts)

    async def _hold(self, call: Call | Relayed, attempts: Sequence[Attempt]) -> None:
        """Holds the most that the call can cost; bounds an answer that the caller did not bound by what can be paid."""
        admission = call.admission
        if admission is None or admission.over:
            return
        bound = await admission.hold(call.trail.request_id, attempts, call.facts, _left(call))
        if bound is not None and isinstance(call, Call):
            call.body = bounded(call.body, bound)

    async def _next(self, call: Call, failures: list[Failure]) -> int | None:
        """The place in the plan of the next attempt, after the wait it asks for; None when none can help."""
        plan = _plan(call)
        left = call.deadline - asyncio.get_running_loop().time()
        following = next_attempt(len(plan.attempts), plan.max_attempts, failures, left)
        if following is None:
            return None
        if following.wait:
            call.trail.waited(following.wait)
            await asyncio.sleep(following.wait)
        attempt = plan.attempts[following.index]
        if call.admission is not None and not call.admission.over:
            if failures:
                await call.admission.reprice(call.trail.rows())
            call.admission.sent(len(failures) + 1, attempt)
        call.trail.trying(attempt)
        return following.index

    async def _attempt(self, call: Call, index: int, number: int) -> AsyncGenerator[GenerateResponse]:
        """One attempt; holds back its opening until there is content."""
        trail = call.trail
        await self._reach()
        stream = self._providers.Generate(_request(call, _plan(call).attempts[index], number), timeout=_left(call))
        held: list[GenerateResponse] = []
        finished = False
        try:
            async for response in stream:
                finished = _noted(response, trail)
                held.append(response)
                if not trail.committed:
                    if not (finished or trail.content_events or _too_much(held)):
                        continue
                    trail.handed_out()
                if finished:
                    self._recorder.keep(trail)  # before the last bytes go out: whoever has the answer is on record
                for kept in held:
                    yield kept
                held.clear()
            if not finished:
                raise MeshError.upstream(pb.FAULT_TRUNCATED, "the answer ended without saying so")
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error) from None
        finally:
            stream.cancel()

    async def _embed(self, call: Call) -> EmbedResponse:
        """Walks the plan until an attempt has given vectors."""
        failures: list[Failure] = []
        trail = call.trail
        while (index := await self._next(call, failures)) is not None:
            attempt = _plan(call).attempts[index]
            try:
                await self._reach()
                response: EmbedResponse = await self._providers.Embed(
                    _embed_request(call, attempt, len(failures) + 1), timeout=_left(call)
                )
            except (grpc.aio.AioRpcError, MeshError) as error:
                failure = error if isinstance(error, MeshError) else from_rpc(error)
                trail.failed(failure)
                failures.append(Failure(index, failure))
                continue
            trail.upstream += response.total_microseconds / 1e6
            trail.completed(response.usage, Finished(total_microseconds=response.total_microseconds))
            return response
        raise verdict(failures)

    def _close(self, call: Call | Relayed) -> None:
        """Records a call that ended otherwise than well; one that did is on record already. Settles every call."""
        trail = call.trail
        if not trail.over:
            trail.ended(MeshError(pb.REASON_INTERNAL, "internal error"))
        self._recorder.keep(trail)
        self._reports.extend(_reports(trail))
        if call.admission is not None:
            call.admission.close(trail.rows(), trail.usage)


def _reports(trail: Trail) -> Iterator[AttemptReport]:
    """What a call's attempts say of their deployments."""
    for number, record in enumerate(trail.attempts, 1):
        report = AttemptReport(
            request_id=trail.request_id,
            attempt=number,
            deployment=record.deployment,
            fault=record.fault,
            upstream_status=record.upstream_status,
            first_token_microseconds=record.first_token_microseconds,
            total_microseconds=record.total_microseconds,
            output_tokens=record.output_tokens,
            cancelled=record.cancelled,
        )
        if number in trail.waits:
            report.retry_after_milliseconds = int(trail.waits[number] * 1000)
        yield report


def _unheard(call: Call, error: MeshError, who: str) -> MeshError:
    """The error, or that a role did not answer in time: the caller's own time may not be over yet."""
    if error.reason == pb.REASON_DEADLINE and call.deadline > asyncio.get_running_loop().time():
        return MeshError(pb.REASON_SERVICE_UNAVAILABLE, f"{who} does not answer", retry_after=1.0)
    return error


def _failed(call: Call, index: int, error: MeshError) -> Failure:
    """Notes an attempt that failed; raises the error again when it came after the commit point."""
    call.trail.failed(error)
    if call.trail.committed:
        raise error
    _log.warning(
        "attempt failed",
        request_id=call.trail.request_id,
        deployment=error.metadata.get("deployment"),
        fault=error.metadata.get("fault"),
        upstream_status=error.metadata.get("upstream_status"),
    )
    return Failure(index, error)


def _check_relay(call: Relayed) -> None:
    """A key that is bound to models may ask a vendor directly for these only, and for nothing that names none."""
    model = call.facts.model
    allowed = call.trail.permitted
    if allowed and model not in allowed and model.partition("/")[2] not in allowed:
        raise MeshError(
            pb.REASON_NOT_PERMITTED, f"this key may not use {model}", metadata={"model": model, "param": "model"}
        )


def _permits(allowed: Verdict, model: str) -> bool:
    return not allowed.models or model in allowed.models


def _plan(call: Call) -> Any:
    assert call.trail.decision is not None  # noqa: S101 - decided before any attempt
    return call.trail.decision.plan


def _left(call: Call | Relayed) -> float:
    left = call.deadline - asyncio.get_running_loop().time()
    if left <= 0:
        raise MeshError(pb.REASON_DEADLINE, "the call's time is over")
    return left


def _request(call: Call, attempt: Attempt, number: int) -> GenerateRequest:
    request = GenerateRequest(
        request_id=call.trail.request_id,
        attempt=number,
        target=_target(attempt),
        facts=call.facts,
        timeouts=_timeouts(call, number),
        headers=call.headers or None,
    )
    if isinstance(call.body, EncodedRequest):
        request.encoded.CopyFrom(call.body)
    elif isinstance(call.body, ChatRequest):
        request.chat.CopyFrom(call.body)
    elif isinstance(call.body, Task):
        request.task.CopyFrom(call.body)
    return request


def _embed_request(call: Call, attempt: Attempt, number: int) -> EmbedRequest:
    request = EmbedRequest(
        request_id=call.trail.request_id,
        attempt=number,
        target=_target(attempt),
        facts=call.facts,
        timeouts=_timeouts(call, number),
    )
    if isinstance(call.body, EncodedRequest):
        request.encoded.CopyFrom(call.body)
    elif isinstance(call.body, EmbedInput):
        request.input.CopyFrom(call.body)
    return request


def _timeouts(call: Call, number: int) -> Timeouts:
    """The plan's, with the wait for the first token short enough to leave time for the attempts that may follow."""
    plan = _plan(call)
    tries = max(1, min(plan.max_attempts, len(plan.attempts)) - number + 1)
    share = _left(call) / tries
    if share >= plan.timeouts.first_token.seconds:
        return plan.timeouts  # type: ignore[no-any-return] # a message of the plan
    timeouts = Timeouts()
    timeouts.CopyFrom(plan.timeouts)
    timeouts.first_token.FromNanoseconds(int(share * 1e9))
    return timeouts


def _target(attempt: Attempt) -> Target:
    return Target(deployment=attempt.deployment, provider=attempt.provider, upstream_model=attempt.upstream_model)


def _noted(response: GenerateResponse, trail: Trail) -> bool:
    """Takes into the trail what a message says; whether it is the last of its attempt."""
    finished = False
    for event in response.events:
        kind = event.WhichOneof("event")
        if kind == "encoded":
            trail.content_events += event.encoded.content_events
        elif kind == "chat":
            trail.content_events += event.chat.WhichOneof("event") in CONTENT
        elif kind == "result":
            trail.content_events += 1
        elif kind == "started":
            trail.opened(event.started)
        elif kind == "usage":
            trail.usage = event.usage
        elif kind == "finished":
            trail.completed(trail.usage or Usage(), event.finished)
            finished = True
    return finished


def _too_much(held: list[GenerateResponse]) -> bool:
    return len(held) >= HELD_MESSAGES or sum(response.ByteSize() for response in held) >= HELD_BYTES
