"""One attempt at an answer: write the vendor's request, read what comes back, say how it went.

The steps of an attempt are `Started`, content, `Usage`, `Finished`; whatever one read of the connection gave is one
message. A break in the middle ends the generator with the vendor's fault, after everything that came before it.
"""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Final

from polyroute.api.chat.v1.chat_pb2 import RequestFacts
from polyroute.api.errors.v1 import errors_pb2
from polyroute.api.providers.v1.providers_pb2 import (
    Finished,
    GenerateEvent,
    GenerateRequest,
    GenerateResponse,
    Started,
)
from polyroute.dialects.dialect import Dialect
from polyroute.dialects.registry import DIALECTS
from polyroute.dialects.sse import Framer
from polyroute.mesh.errors import MeshError
from polyroute.providers.account import Account
from polyroute.providers.rendering import BrokenAnswerError, Passthrough, Rendering, Tally, Translated, Typed
from polyroute.providers.transport import Answer, Limits, Transport

RATE_LIMIT_PREFIX: Final = "x-ratelimit-"
UPSTREAM_IDS: Final = ("x-request-id", "request-id", "x-amzn-requestid")


@dataclass(slots=True)
class Question:
    """What is sent to the vendor, and how its answer will be rendered."""

    body: bytes
    rendering: Rendering
    passthrough: bool
    dropped: list[str]


def question(request: GenerateRequest, account: Account) -> Question:
    """The vendor's request for what a caller asked.

    Raises:
        MeshError: FAULT_CLIENT when the account does not offer the operation, REASON_INVALID_REQUEST when the
            vendor's dialect cannot express the request.
    """
    facts = request.facts
    name = account.dialect(facts.operation)
    if not name:
        raise MeshError.upstream(errors_pb2.FAULT_CLIENT, f"{account.name} does not offer this kind of work")
    dialect = DIALECTS[name]
    if request.WhichOneof("body") == "chat":
        body, dropped = dialect.write_request(request.chat, model=request.target.upstream_model, stream=True)
        return Question(body, Typed(dialect), passthrough=False, dropped=dropped)
    if request.encoded.dialect == name:
        return _passed(request, account, dialect)
    return _translated(request, DIALECTS[request.encoded.dialect], dialect)


def _passed(request: GenerateRequest, account: Account, dialect: Dialect) -> Question:
    quirks = account.vendor.quirks
    body = dialect.patch_request(
        request.encoded.body,
        request.facts,
        model=request.target.upstream_model,
        ask_usage=quirks.stream_usage,
        drop=quirks.drop,
    )
    return Question(body, Passthrough(dialect, request.facts), passthrough=True, dropped=[])


def _translated(request: GenerateRequest, inbound: Dialect, outbound: Dialect) -> Question:
    facts = request.facts
    chat = inbound.read_request(request.encoded.body)
    body, dropped = outbound.write_request(
        chat, model=request.target.upstream_model, stream=facts.stream, source=inbound.name
    )
    rendering = Translated(outbound, inbound, facts, request.request_id)
    return Question(body, rendering, passthrough=False, dropped=dropped)


async def converse(
    request: GenerateRequest, account: Account, transport: Transport, limits: Limits
) -> AsyncGenerator[GenerateResponse]:
    """One attempt at `account`.

    Raises:
        MeshError: REASON_UPSTREAM with the vendor's fault.
    """
    asked = question(request, account)
    target = account.target(request.facts.operation)
    sent = perf_counter()
    answer = await transport.post(target, asked.body, limits, request.headers)
    try:
        if not answer.ok:
            raise await _refused(answer, DIALECTS[account.dialect(request.facts.operation)])
        tally = asked.rendering.tally
        steps = _streamed(answer, asked.rendering) if answer.is_stream else _whole(answer, asked.rendering)
        opened, first = False, 0.0
        async for events, last in steps:
            if not first and tally.content_events:
                first = answer.arrived - sent
            if not opened:
                opened = True
                events.insert(0, GenerateEvent(started=_started(answer, asked, answer.arrived - sent)))
            if last:
                events += _last(tally, request.facts, first, answer.arrived - sent)
            yield GenerateResponse(events=events)
    finally:
        answer.close()


async def _whole(answer: Answer, rendering: Rendering) -> AsyncGenerator[tuple[list[GenerateEvent], bool]]:
    yield rendering.whole(await answer.body()), True


async def _streamed(answer: Answer, rendering: Rendering) -> AsyncGenerator[tuple[list[GenerateEvent], bool]]:
    """Batches of steps, one per read of the connection; the last one is marked."""
    framer = Framer()
    tally = rendering.tally
    idle = 0
    while True:
        try:
            data = await answer.read(first=not tally.content_events, idle=idle)
        except MeshError:
            if not tally.finish:
                raise
            data = b""  # the vendor gave its finish reason: only what follows it is missing
        events = framer.feed(data) if data else framer.flush()
        idle = 0 if events else idle + 1
        try:
            steps = rendering.feed(events) if events else []
        except BrokenAnswerError as broken:
            if broken.steps:
                yield broken.steps, False
            raise broken.error from None
        if tally.done or not data:
            yield [*steps, *rendering.end()], True
            break
        if steps:
            yield steps, False
    if data:
        await answer.rest()


async def _refused(answer: Answer, dialect: Dialect) -> MeshError:
    return dialect.fault_of(answer.status, await answer.error_body(), answer.headers)


def _started(answer: Answer, asked: Question, waited: float) -> Started:
    headers = answer.headers
    return Started(
        upstream_request_id=next((headers[name] for name in UPSTREAM_IDS if name in headers), ""),
        upstream_microseconds=_microseconds(waited),
        passthrough=asked.passthrough,
        dropped=asked.dropped,
        headers=_rate_limits(headers),
    )


def _rate_limits(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items() if name.lower().startswith(RATE_LIMIT_PREFIX)}


def _last(tally: Tally, facts: RequestFacts, first: float, total: float) -> list[GenerateEvent]:
    finished = Finished(
        reason=tally.finish,
        first_token_microseconds=_microseconds(first),
        total_microseconds=_microseconds(total),
    )
    return [GenerateEvent(usage=tally.usage_or_estimate(facts)), GenerateEvent(finished=finished)]


def _microseconds(seconds: float) -> int:
    return int(seconds * 1e6)
