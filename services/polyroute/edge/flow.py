"""The path of a call, on one page: authorize -> decide -> attempt -> record.

Both doors walk it. What they hand in is a `Call`; what they get are the providers' messages, in order, with everything
known about the call in its `trail`. Failover is invisible: what a failed attempt said before any content is dropped.
From the first content on (the commit point) there is no other attempt; what breaks then ends the stream with an error.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any, Final

import grpc
import structlog

from polyroute.api.auth.v1.auth_pb2 import Caller
from polyroute.api.chat.v1.chat_pb2 import FINISH_REASON_CONTENT_FILTER, Usage
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.providers.v1.providers_pb2 import EmbedResponse, Finished, GenerateResponse, RelayResponse
from polyroute.api.router.v1.router_pb2 import Attempt, ListModelsRequest, ListModelsResponse
from polyroute.edge.allowance import Allowances
from polyroute.edge.authorizer import Authorizer
from polyroute.edge.bounding import bounded
from polyroute.edge.call import Call, Relayed, plan_of, time_left
from polyroute.edge.capacity import Rooms
from polyroute.edge.config import EdgeConfig
from polyroute.edge.deciding import Decider
from polyroute.edge.draining import Drains
from polyroute.edge.failover import Failure, Next, fallback_of, next_attempt, verdict
from polyroute.edge.hearing import Lasting, heard
from polyroute.edge.hedging import Race
from polyroute.edge.permits import bind, may_use, permit, permit_relay
from polyroute.edge.pinning import pin, pin_relay
from polyroute.edge.recorder import Recorder
from polyroute.edge.requests import embed_request, generate_request
from polyroute.edge.tally import Tally
from polyroute.edge.trail import Trail
from polyroute.mesh.errors import MeshError, from_rpc

HELD_MESSAGES: Final = 64  # opening messages that are held back, so that another attempt can still replace them
HELD_BYTES: Final = 256 * 1024

_log = structlog.get_logger("flow")


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

    Attributes:
        sightings: What the router does not know yet of vendors; to be run beside the calls.
        tally: What is counted of the calls.
        drains: Answers that are read on although their callers have left; to be closed after the doors.
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
        self._decider = Decider(router, config.decide_seconds)
        self.sightings = self._decider.sightings
        self.tally = Tally()
        self.drains = Drains(self._close)

    async def generate(self, call: Call) -> AsyncGenerator[GenerateResponse]:
        """Answers a conversation or completion.

        Raises:
            MeshError: The call was refused or failed; REASON_STREAM_BROKEN or a vendor's fault after the commit point.
        """
        trail = call.trail
        drained = False
        try:
            await self._authorize(call)
            await self._decide(call)
            failures: list[Failure] = []
            while (index := await self._next(call, failures)) is not None:
                # closed here and not by the collector: a reader that stops ends the vendor's work now
                async with aclosing(self._attempts(call, index, failures)) as responses:
                    try:
                        async for response in responses:
                            yield response
                        return
                    except MeshError as error:
                        failures.append(_failed(call, error))
            raise verdict(failures)
        except MeshError as error:
            trail.ended(error)
            raise
        except (asyncio.CancelledError, GeneratorExit):
            drained = self.drains.take(call)
            if not drained:
                trail.left()
            raise
        finally:
            if not drained:
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
            attempt = await self._decider.priced(call)
            await self._hold(call, (), [attempt])
            if call.rooms is not None and not await call.rooms.take(0, attempt, call.facts):
                raise call.rooms.refusal()
            if call.admission is not None:
                call.admission.sent(1, attempt, trail.mark(attempt))
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
        stream = self._providers.Relay(call.request, timeout=time_left(call))
        try:
            async for response in stream:
                yield response
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error) from None
        finally:
            stream.cancel()

    async def caller(self, credential: str, source: str) -> Caller:
        """Who a key belongs to that comes from an address."""
        return (await self._authorizer.verdict(credential, source)).caller

    async def models(self, credential: str, source: str) -> ListModelsResponse:
        """The models that the caller may name."""
        allowed = await self._authorizer.verdict(credential, source)
        try:
            listed: ListModelsResponse = await self._router.ListModels(
                ListModelsRequest(), timeout=self._config.decide_seconds
            )
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error) from None
        models = [model for model in listed.models if may_use(allowed, model)]
        return ListModelsResponse(models=models, catalog_version=listed.catalog_version)

    async def _authorize(self, call: Call | Relayed) -> None:
        self.tally.began()
        self._recorder.check()
        allowed = await self._authorizer.verdict(call.credential, call.source)
        call.trail.facts = call.facts
        call.trail.caller = allowed.caller
        call.trail.permitted = allowed.models
        call.trail.mark_key = allowed.mark_key
        if allowed.HasField("plan"):
            call.trail.included = allowed.plan.opens.models
        operation = call.facts.operation
        permit(allowed, operation=operation, route=call.route, source=call.source)
        if isinstance(call, Call):
            bind(call, allowed)
            pin(call, allowed.mark_key, unmarked=self._config.unmarked_ids)
        else:
            pin_relay(call, allowed.mark_key, unmarked=self._config.unmarked_ids)
            permit_relay(call, allowed)
        call.admission = call.trail.admission = await self._allowances.admit(
            allowed, call.facts, call.criticality, time_left(call)
        )
        call.rooms = Rooms(self._allowances.capacity, allowed)

    async def _decide(self, call: Call) -> None:
        call.trail.decision = await self._decider.decide(call)
        plan = plan_of(call)
        await self._hold(call, plan.names, plan.attempts)

    async def _hold(self, call: Call | Relayed, names: Sequence[str], attempts: Sequence[Attempt]) -> None:
        """Holds the most that the call can cost; bounds an answer that the caller did not bound by what can be paid."""
        admission = call.admission
        if admission is None or admission.over:
            return
        if call.rooms is not None and admission.wanted is not None:
            call.rooms.shut(await admission.count((call.facts.model, *names), attempts))
        bound = await admission.hold(call.trail.request_id, attempts, call.facts)
        if bound is not None and isinstance(call, Call):
            call.body = bounded(call.body, bound)

    async def _next(self, call: Call, failures: list[Failure]) -> int | None:
        """The place in the plan of the next attempt, after the wait it asks for; None when none can help."""
        following = await self._roomy(call, failures)
        if following is None:
            return None
        attempt = plan_of(call).attempts[following.index]
        if call.admission is not None and not call.admission.over:
            if failures:
                await call.admission.reprice(call.trail.rows())
            call.admission.sent(len(failures) + 1, attempt, call.trail.mark(attempt))
        call.trail.trying(attempt)
        return following.index

    async def _roomy(self, call: Call, failures: list[Failure]) -> Next | None:
        """The next attempt at a deployment that has room for it; None when none can help.

        Raises:
            MeshError: REASON_OVERLOADED, nothing was tried, because none of the plan has room.
        """
        plan, rooms = plan_of(call), call.rooms
        assert rooms is not None  # noqa: S101 - it was let in
        rooms.close(None)  # of attempts that failed
        while True:
            left = call.deadline - asyncio.get_running_loop().time()
            following = next_attempt(plan.attempts, plan.max_attempts, failures, left, rooms.full, call.facts)
            if following is None:
                if not failures:
                    raise rooms.refusal()
                return None
            if following.wait:
                call.trail.waited(following.wait)
                await asyncio.sleep(following.wait)
            if await rooms.take(following.index, plan.attempts[following.index], call.facts):
                return following

    def _attempts(self, call: Call, index: int, failures: list[Failure]) -> AsyncGenerator[GenerateResponse]:
        """The next attempt; the very first of a call may get another one beside it, unless it may be sent only once."""
        facts = call.facts
        if failures or index or not plan_of(call).HasField("hedge_after") or facts.kept or facts.bound:
            return self._attempt(call, call.trail, index, len(failures) + 1)
        return Race(call, self._attempt, failures).run()

    async def _attempt(
        self, call: Call, trail: Trail, index: int, number: int, claim: Callable[[], bool] = lambda: True
    ) -> AsyncGenerator[GenerateResponse]:
        """One attempt; holds back its opening until there is content, and ends when another one answers by then."""
        attempt = plan_of(call).attempts[index]
        await self._reach()
        stream = self._providers.Generate(generate_request(call, attempt, number), timeout=time_left(call))
        if attempt.billing.drain:
            stream = Lasting(stream)
        held: list[GenerateResponse] = []
        finished = False
        try:
            async for response in stream:
                if (ended := heard(response, trail)) is not None:
                    if ended.reason == FINISH_REASON_CONTENT_FILTER:
                        _check_filter(call, trail)
                    trail.completed(trail.usage or Usage(), ended)
                    finished = True
                held.append(response)
                if not call.trail.committed:
                    if not (finished or trail.content_events or _too_much(held)):
                        continue
                    if not claim():
                        return
                    trail = call.trail
                    trail.handed_out()
                    if not finished:
                        self.sightings.answering(trail)
                if finished:
                    self._recorder.keep(trail)  # before the last bytes go out: whoever has the answer is on record
                for kept in held:
                    yield kept
                held.clear()
            if not finished:
                raise MeshError.upstream(pb.FAULT_TRUNCATED, "the answer ended without saying so")
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error) from None
        except (asyncio.CancelledError, GeneratorExit):
            if isinstance(stream, Lasting) and trail is call.trail and not finished:
                call.lasting = stream
            raise
        finally:
            if call.lasting is None:
                stream.cancel()
                if call.rooms is not None:
                    call.rooms.give_back(index, trail.usage)

    async def _embed(self, call: Call) -> EmbedResponse:
        """Walks the plan until an attempt has given vectors."""
        failures: list[Failure] = []
        trail = call.trail
        while (index := await self._next(call, failures)) is not None:
            attempt = plan_of(call).attempts[index]
            try:
                await self._reach()
                response: EmbedResponse = await self._providers.Embed(
                    embed_request(call, attempt, len(failures) + 1), timeout=time_left(call)
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
        self.tally.ended(trail)
        self._recorder.keep(trail)
        self.sightings.ended(trail)
        if call.rooms is not None:
            call.rooms.close(trail.usage)
        if call.admission is not None:
            call.admission.close(trail.rows() if call.admission.paid is not None else (), trail.usage)


def _failed(call: Call, error: MeshError) -> Failure:
    """Notes an attempt that failed; raises the error again when it came after the commit point."""
    tried = call.trail.attempt
    index = next(i for i, one in enumerate(plan_of(call).attempts) if tried and one.deployment == tried.deployment)
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


def _check_filter(call: Call, trail: Trail) -> None:
    """Refuses an answer that is a filter's refusal and nothing else, where the policy names somebody to ask instead."""
    tried, committed = trail.attempt, call.trail.committed
    if committed or tried is None or (call.facts.stream and trail.content_events):
        return
    if fallback_of(plan_of(call).attempts, tried) is not None:
        refused = "the vendor's content filter refused the call"
        raise MeshError.upstream(pb.FAULT_FILTER, refused, provider=tried.provider, deployment=tried.deployment)


def _too_much(held: list[GenerateResponse]) -> bool:
    return len(held) >= HELD_MESSAGES or sum(response.ByteSize() for response in held) >= HELD_BYTES
