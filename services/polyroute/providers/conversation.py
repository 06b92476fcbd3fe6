"""One attempt at an answer: write the vendor's request, read what comes back, say how it went.

The steps of an attempt are `Started`, content, `Usage`, `Finished`; whatever one read of the connection gave is one
message. A break in the middle ends the generator with the vendor's fault, after everything that came before it.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Final

from polyroute.api.chat.v1.chat_pb2 import RequestFacts
from polyroute.api.errors.v1 import errors_pb2
from polyroute.api.providers.v1.providers_pb2 import (
    Finished,
    GenerateEvent,
    GenerateRequest,
    GenerateResponse,
    Started,
    Target,
)
from polyroute.dialects.dialect import Dialect
from polyroute.dialects.registry import DIALECTS
from polyroute.dialects.sse import Framer
from polyroute.mesh.errors import MeshError
from polyroute.providers.account import Account
from polyroute.providers.rendering import BrokenAnswerError, Passthrough, Rendering, Translated, Typed
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
        MeshError: REASON_UPSTREAM with the vendor's fault and where it happened.
    """
    try:
        asked = question(request, account)
        target = account.target(request.facts.operation)
        answer = await transport.post(target, asked.body, limits, request.headers)
        try:
            if not answer.ok:
                raise await _refused(answer, DIALECTS[account.dialect(request.facts.operation)])
            told = Telling(asked, answer, request.facts)
            if answer.is_stream:
                if not (request.facts.stream or request.WhichOneof("body") == "chat"):
                    raise MeshError.upstream(
                        errors_pb2.FAULT_BAD_ANSWER, "the vendor streamed where nobody asked it to"
                    )
                async for steps, last in _streamed(answer, asked.rendering):
                    yield told.response(steps, last=last)
            else:
                yield told.response(asked.rendering.whole(await answer.body()), last=True)
        finally:
            answer.close()
    except MeshError as error:
        raise at(error, request.target) from error.__cause__


def at(error: MeshError, target: Target) -> MeshError:
    """The error with where it happened."""
    error.metadata = {"provider": target.provider, "deployment": target.deployment, **error.metadata}
    return error


class Telling:
    """Puts an attempt's steps into messages: how it opened before the first, what it used after the last."""

    __slots__ = ("_answer", "_asked", "_facts", "_first", "_opened")

    def __init__(self, asked: Question, answer: Answer, facts: RequestFacts) -> None:
        self._asked = asked
        self._answer = answer
        self._facts = facts
        self._opened = False
        self._first = 0

    def response(self, steps: list[GenerateEvent], *, last: bool) -> GenerateResponse:
        """One read's steps as a message."""
        tally = self._asked.rendering.tally
        waited = int((self._answer.arrived - self._answer.sent) * 1e6)
        if not self._first and tally.content_events:
            self._first = waited
        if not self._opened:
            self._opened = True
            steps.insert(0, GenerateEvent(started=self._started(waited)))
        if last:
            finished = Finished(reason=tally.finish, first_token_microseconds=self._first, total_microseconds=waited)
            steps.append(GenerateEvent(usage=tally.usage_or_estimate(self._facts)))
            steps.append(GenerateEvent(finished=finished))
        return GenerateResponse(events=steps)

    def _started(self, waited: int) -> Started:
        headers = self._answer.headers
        return Started(
            upstream_request_id=next((headers[name] for name in UPSTREAM_IDS if name in headers), ""),
            upstream_microseconds=waited,
            passthrough=self._asked.passthrough,
            dropped=self._asked.dropped,
            headers={name: value for name, value in headers.items() if name.startswith(RATE_LIMIT_PREFIX)},
        )


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
