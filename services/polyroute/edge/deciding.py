"""Asks the router where a call may go, and tells it what was seen of vendors before.

A router that is away does not stop calls whose like it has decided before: they go as those went, until it is back.
"""

import asyncio
from time import monotonic
from typing import Any, Final

import grpc
import structlog

from polyroute.api.chat.v1.chat_pb2 import OPERATION_CHAT, OPERATION_COUNT_TOKENS, EncodedRequest, RequestFacts
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.router.v1.router_pb2 import Attempt, DecideRequest, DecideResponse
from polyroute.edge.call import Call, Relayed, time_left
from polyroute.edge.plans import Plans, kind_of
from polyroute.edge.sightings import Sightings
from polyroute.mesh.errors import MeshError, from_rpc

PATIENCE: Final = 1.0  # s to wait for the router where an earlier plan would do
NO_MODEL: Final = "/*"  # what follows the provider's name where a relayed request names no model
ASK_AGAIN: Final = 1.0  # s after which it is asked again whether the router is back

_log = structlog.get_logger("deciding")


class Decider:
    """The router as a call sees it.

    Args:
        router: RouterService.
        seconds: To wait for it.

    Attributes:
        sightings: What the router does not know yet of vendors.
    """

    def __init__(self, router: Any, seconds: float) -> None:
        self._router = router
        self._seconds = seconds
        self._plans = Plans()
        self._away_until = 0.0
        self.sightings = Sightings(router, seconds)

    async def decide(self, call: Call) -> DecideResponse:
        """The plan for a call.

        Raises:
            MeshError: It may go nowhere, or nobody can say where.
        """
        request = _question(call)
        kind, now = kind_of(request), monotonic()
        known = self._plans.has(kind)
        if known and now < self._away_until and (remembered := self._plans.find(kind, request, now)):
            return remembered
        self.sightings.tell(request)
        try:
            decision: DecideResponse = await self._router.Decide(
                request, timeout=min(PATIENCE, self._seconds) if known else self._seconds
            )
        except grpc.aio.AioRpcError as error:
            failure = from_rpc(error)
            if _away(failure):
                self.sightings.take_back(request)
            remembered = self._plans.find(kind, request, now) if _away(failure) else None
            if remembered is None:
                raise _unheard(call, failure) from None
            self._away_until = monotonic() + ASK_AGAIN
            _log.warning("decided without the router", request_id=request.request_id, code=error.code().name)
            return remembered
        self._plans.keep(kind, decision, now)
        return decision

    async def priced(self, call: Relayed) -> Attempt:
        """The deployment that a relayed request would be one of, for its price; without a price where there is none.

        Its model is the catalog's where the catalog knows what the request names, and else `provider/model`.
        """
        facts = RequestFacts()
        facts.CopyFrom(call.facts)
        facts.operation = OPERATION_CHAT
        request = DecideRequest(request_id=call.trail.request_id, facts=facts, caller=call.trail.caller, dry_run=True)
        provider, named = call.request.provider, facts.model
        if named.endswith(NO_MODEL) or not named.isprintable():
            named = ""
        try:
            decision = await self._router.Decide(request, timeout=self._seconds)
        except grpc.aio.AioRpcError:
            where = f"{provider or 'any'}{NO_MODEL}"
            return Attempt(deployment=where, provider=provider, model=named, passed_on=bool(named))
        found: Attempt = decision.plan.attempts[0]
        if not named:
            found.ClearField("model")
        return found


def _question(call: Call) -> DecideRequest:
    trail = call.trail
    request = DecideRequest(
        request_id=trail.request_id,
        facts=call.facts,
        caller=trail.caller,
        preferences=call.preferences,
        hints=call.hints,
        sticky_key=call.session,
        explain=call.explain,
        tags=trail.tags or None,
        permitted_models=trail.permitted,  # a name may say more than a model's: the router reads it
        plan_models=trail.included,
        policy=call.policy,
        permitted_regions=call.regions,
    )
    if call.hurried:
        request.left.FromMicroseconds(int(time_left(call) * 1e6))
    if call.facts.operation == OPERATION_COUNT_TOKENS:  # whoever answers conversations can count their tokens
        request.facts.operation = OPERATION_CHAT
    if isinstance(call.body, EncodedRequest):
        request.dialect = call.body.dialect
    return request


def _away(error: MeshError) -> bool:
    """Whether nobody answered; a router that is there names the model that it has nobody for."""
    return error.reason in (pb.REASON_SERVICE_UNAVAILABLE, pb.REASON_DEADLINE) and "model" not in error.metadata


def _unheard(call: Call, error: MeshError) -> MeshError:
    """The error, or that the router did not answer in time: the caller's own time may not be over yet."""
    if error.reason == pb.REASON_DEADLINE and call.deadline > asyncio.get_running_loop().time():
        return MeshError(pb.REASON_SERVICE_UNAVAILABLE, "the router does not answer", retry_after=1.0)
    return error
