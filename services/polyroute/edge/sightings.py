"""What this edge has seen of vendors and the router does not know yet.

It goes with the next question, which costs nothing. An edge that has none to ask says it by itself, soon: its long
streams would otherwise look, to the router of other edges' calls, like calls that a vendor lets hang.
"""

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeVar

import grpc
import structlog

from polyroute.api.chat.v1.chat_pb2 import OPERATION_UNSPECIFIED
from polyroute.api.router.v1.router_pb2 import AttemptAnswering, AttemptReport, DecideRequest, ReportRequest
from polyroute.edge.trail import Trail

MOST: Final = 4096  # of each kind, as the contract bounds them; of more only the newest say how vendors are
WAITS: Final = 0.5  # s for a question to go with, at least; at most twice that

Seen = TypeVar("Seen", AttemptReport, AttemptAnswering)

_log = structlog.get_logger("sightings")


class Sightings:
    """Reports on their way to the router.

    Args:
        router: RouterService.
        seconds: To wait for it.
    """

    def __init__(self, router: Any, seconds: float) -> None:
        self._router = router
        self._seconds = seconds
        self._reports: deque[AttemptReport] = deque(maxlen=MOST)
        self._answering: deque[AttemptAnswering] = deque(maxlen=MOST)
        self._told = 0  # how often

    def ended(self, trail: Trail) -> None:
        """A call is over: its attempts say something of their deployments."""
        self._reports.extend(_reports(trail))

    def answering(self, trail: Trail) -> None:
        """The attempt that goes on has content: whoever waits long for its end does not wait for its vendor."""
        where = trail.attempt.deployment if trail.attempt is not None else ""
        number = len(trail.attempts) + 1
        self._answering.append(AttemptAnswering(request_id=trail.request_id, attempt=number, deployment=where))

    def tell(self, request: DecideRequest | ReportRequest) -> None:
        """Has all of it go along."""
        self._told += 1
        if self._reports:
            request.reports.extend(self._reports)
            self._reports.clear()
        if self._answering:
            request.answering.extend(self._answering)
            self._answering.clear()

    def take_back(self, request: DecideRequest | ReportRequest) -> None:
        """Nobody heard it: it goes with the next one."""
        _put_back(self._reports, request.reports)
        _put_back(self._answering, request.answering)

    async def run(self) -> None:
        """Tells what found no question to go with, until cancelled."""
        while True:
            told = self._told
            await asyncio.sleep(WAITS)
            if told == self._told and (self._reports or self._answering):
                await self._say()

    async def _say(self) -> None:
        request = ReportRequest()
        self.tell(request)
        try:
            await self._router.Report(request, timeout=self._seconds)
        except grpc.aio.AioRpcError as error:
            self.take_back(request)
            _log.debug("the router did not hear", code=error.code().name, reports=len(request.reports))


def _put_back(waiting: deque[Seen], unheard: Sequence[Seen]) -> None:
    """In front of what came since; of too many the oldest are left out."""
    room = MOST - len(waiting)
    waiting.extendleft(reversed(unheard[max(0, len(unheard) - room) :]))


def _reports(trail: Trail) -> Iterator[AttemptReport]:
    """What a call's attempts say of their deployments; that there was none, where the router expects one."""
    if not trail.attempts and trail.decision is not None and trail.decision.plan.attempts:
        # refused after its plan was made, for want of money or room: it would look like a vendor that hangs
        first = trail.decision.plan.attempts[0].deployment
        yield AttemptReport(request_id=trail.request_id, attempt=1, deployment=first, cancelled=True)
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
            prompt_tokens=trail.facts.input_tokens_estimate if trail.facts else 0,
            other_keys=number in trail.other_keys,
            hedged=record.hedged,
            operation=trail.facts.operation if trail.facts else OPERATION_UNSPECIFIED,
        )
        if number in trail.waits:
            report.retry_after_milliseconds = int(trail.waits[number] * 1000)
        yield report
