"""One attempt at work other than conversation: write the vendor's request, wait for its end, say how it went.

The steps are those of `conversation.py`. Sound comes in pieces as the vendor makes it, events of a stream pass as they
come, everything else is whole. Work that goes on at the vendor is asked for until it is done, inside the attempt: to
give up and go elsewhere would pay for it twice.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from polyroute.api.chat.v1 import chat_pb2
from polyroute.api.errors.v1 import errors_pb2
from polyroute.api.providers.v1.providers_pb2 import (
    Finished,
    GenerateEvent,
    GenerateRequest,
    GenerateResponse,
    Started,
)
from polyroute.dialects import multipart, sound
from polyroute.dialects.plain_tools import counted
from polyroute.dialects.sse import Framer
from polyroute.dialects.task import JSON, Body, TaskDialect, TaskOutbound
from polyroute.dialects.task_registry import SPOKEN, TASKS
from polyroute.mesh.errors import MeshError
from polyroute.providers.account import Account
from polyroute.providers.conversation import RATE_LIMIT_PREFIXES, UPSTREAM_IDS, at
from polyroute.providers.http import Target, changed
from polyroute.providers.keys import Key
from polyroute.providers.rendering import BrokenAnswerError
from polyroute.providers.task_rendering import Passed, TaskRendering, Translated, Typed
from polyroute.providers.transport import Answer, Limits, Transport

EVENTS: Final = "text/event-stream"
FIRST_WAIT: Final = 0.5  # s before work that goes on is asked for again; grows to the longest
LONGEST_WAIT: Final = 3.0
GROWTH: Final = 1.5
MAX_EVENT_BYTES: Final = 32 * 1024 * 1024  # a picture is one event
MOST_MISSES: Final = 3  # answers in a row that say nothing about the work, before it is given up

Sleep = Callable[[float], Awaitable[None]]

# Work whose answer comes at its end, however long that takes: the bound of a first token says nothing about it.
_SLOW: Final = frozenset({chat_pb2.OPERATION_IMAGE, chat_pb2.OPERATION_TRANSCRIPTION})
# A question about work that goes on may fail in these ways without the work having failed.
_PASSING: Final = frozenset(
    {
        errors_pb2.FAULT_CONNECT,
        errors_pb2.FAULT_SERVER,
        errors_pb2.FAULT_RATE,
        errors_pb2.FAULT_AMBIGUOUS,
        errors_pb2.FAULT_STALL,
        errors_pb2.FAULT_TRUNCATED,
    }
)


@dataclass(slots=True)
class Question:
    """What is sent to the vendor, and how its answer will be rendered."""

    dialect: TaskOutbound
    body: Body
    rendering: TaskRendering
    passthrough: bool
    dropped: list[str]


class Whole(NamedTuple):
    """An answer that was read to its end."""

    body: bytes
    content_type: str
    arrived: float


def question(request: GenerateRequest, account: Account) -> Question:
    """The vendor's request for what a caller asked.

    Raises:
        MeshError: FAULT_CLIENT when the account does not offer the operation, FAULT_UNSUPPORTED when the vendor's
            dialect cannot express the request.
    """
    operation, model = request.facts.operation, request.target.upstream_model
    name = account.dialect(operation, request.encoded.dialect, model)
    if name not in TASKS:
        raise MeshError.upstream(errors_pb2.FAULT_CLIENT, f"{account.name} does not offer this kind of work")
    asked = _question(request, account.tuned(TASKS[name], model))
    if not multipart.is_form(asked.body.content_type):
        edited = account.edited(operation, name, asked.body.data, model)
        asked.body = asked.body._replace(data=edited.body)
        asked.dropped += edited.dropped
    if asked.dropped and request.facts.require_parameters:
        names = ", ".join(asked.dropped)
        raise MeshError.upstream(
            errors_pb2.FAULT_UNSUPPORTED, f"this deployment cannot express {names}", param=asked.dropped[0]
        )
    return asked


def _question(request: GenerateRequest, dialect: TaskOutbound) -> Question:
    model = request.target.upstream_model
    if request.WhichOneof("body") == "task":
        task = counted(request.task)
        body, dropped = dialect.write_task(task, model=model)
        return Question(dialect, body, Typed(dialect, request.facts, task), passthrough=False, dropped=dropped)
    given = Body(request.encoded.body, request.encoded.content_type or JSON)
    inbound = _spoken(request.encoded.dialect)
    if inbound.name == dialect.name:
        sent = inbound.patch_task(given, model=model)
        return Question(inbound, sent, Passed(inbound, request.facts, given), passthrough=True, dropped=[])
    task = counted(inbound.read_task(given))
    body, dropped = dialect.write_task(task, model=model, source=inbound.name)
    rendering = Translated(dialect, inbound, request.facts, task, request.request_id)
    return Question(dialect, body, rendering, passthrough=False, dropped=dropped)


def _spoken(name: str) -> TaskDialect:
    if name not in SPOKEN:
        raise MeshError.upstream(errors_pb2.FAULT_CLIENT, f"no such work is asked for in {name}")
    return SPOKEN[name]


async def perform(
    request: GenerateRequest, account: Account, transport: Transport, limits: Limits, *, sleep: Sleep = asyncio.sleep
) -> AsyncGenerator[GenerateResponse]:
    """One attempt at `account`.

    Args:
        request: What to do.
        account: Who is to do it.
        transport: The connections.
        limits: How long each step may take; the whole of it bounds work that goes on as well.
        sleep: Waits between two questions about work that goes on.

    Raises:
        MeshError: REASON_UPSTREAM with the vendor's fault and where it happened.
    """
    try:
        asked = question(request, account)
        patient = limits
        if request.facts.operation in _SLOW and not request.facts.stream:
            patient = replace(limits, first_token=limits.total, inter_token=limits.total)
        attempt = _Attempt(request, asked, account, transport, patient, sleep)
        async with aclosing(attempt.run()) as responses:
            async for response in responses:
                yield response
    except MeshError as error:
        raise at(error, request.target) from error.__cause__


class _Attempt:
    """What one attempt has to hand."""

    __slots__ = ("_account", "_asked", "_key", "_limits", "_model", "_request", "_sleep", "_target", "_transport")

    def __init__(
        self,
        request: GenerateRequest,
        asked: Question,
        account: Account,
        transport: Transport,
        limits: Limits,
        sleep: Sleep,
    ) -> None:
        facts = request.facts
        self._request = request
        self._asked = asked
        self._account = account
        self._transport = transport
        self._limits = limits
        self._sleep = sleep
        self._model = request.target.upstream_model
        self._key: Key = account.key(self._model, request.target.key_mark)
        self._target: Target = account.target(
            facts.operation, asked.dialect.name, model=self._model, stream=facts.stream, key=self._key
        )

    async def run(self) -> AsyncGenerator[GenerateResponse]:
        """Asks, and says what comes; tells the account how its key fared."""
        try:
            answer = await self._ask()
            try:
                if not answer.ok:
                    raise await self._refused(answer)
                async with aclosing(self._responses(answer)) as responses:
                    async for response in responses:
                        yield response
            finally:
                answer.close()
        except MeshError as error:
            pinned = bool(self._request.target.key_mark)
            self._account.reported(self._key, self._account.vendor.judged(error), self._model, pinned=pinned)
            raise
        self._account.reported(self._key, None, self._model)

    async def _ask(self) -> Answer:
        body = self._asked.body
        headers = (("content-type", body.content_type), *body.headers)
        target = changed(self._target, path=body.path, headers=headers)
        signed = await self._account.authorize(self._key, target, body.data)
        given = self._request.headers if self._asked.passthrough else {}
        return await self._transport.post(target, body.data, self._limits, {**given, **signed})

    async def _refused(self, answer: Answer) -> MeshError:
        return self._asked.dialect.fault_of(answer.status, await answer.error_body(), answer.headers)

    async def _responses(self, answer: Answer) -> AsyncGenerator[GenerateResponse]:
        told = _Telling(self._asked, answer, self._key)
        rendering, kind = self._asked.rendering, answer.content_type
        if kind.startswith(EVENTS) and rendering.passes_events:
            batches = _events(answer, rendering)
        elif sound.is_sound(kind) and rendering.passes_sound:
            batches = _pieces(answer, rendering, kind)
        else:
            whole = await self._settled(answer)
            yield told.response(rendering.whole(whole.body, whole.content_type), whole.arrived, last=True)
            return
        async with aclosing(batches):
            async for steps, last in batches:
                yield told.response(steps, answer.arrived, last=last)

    async def _settled(self, answer: Answer) -> Whole:
        """The whole answer, asked for again until the work is done.

        Raises:
            MeshError: FAULT_STALL when it is not done in time, the fault when it cannot be asked for any more.
        """
        whole = Whole(await answer.body(), answer.content_type, answer.arrived)
        clock = asyncio.get_running_loop().time
        end = clock() + self._limits.total
        wait, misses = FIRST_WAIT, 0
        while path := self._pending(whole):
            left = end - clock() - wait
            if left <= 0:
                raise MeshError.upstream(errors_pb2.FAULT_STALL, "the vendor's work was not done in time")
            await self._sleep(wait)
            wait = min(wait * GROWTH, LONGEST_WAIT)
            try:
                whole = await self._asked_again(path, replace(self._limits, total=left))
                misses = 0
            except MeshError as error:
                misses += 1
                if error.fault not in _PASSING or misses > MOST_MISSES:
                    raise
        return whole

    def _pending(self, whole: Whole) -> str:
        return self._asked.dialect.pending(whole.body) if "json" in whole.content_type else ""

    async def _asked_again(self, path: str, limits: Limits) -> Whole:
        target = changed(self._target, path=path)
        signed = await self._account.authorize(self._key, target, b"")
        answer = await self._transport.get(target, limits, signed)
        try:
            if not answer.ok:
                raise await self._refused(answer)
            return Whole(await answer.body(), answer.content_type, answer.arrived)
        finally:
            answer.close()


class _Telling:
    """Puts an attempt's steps into messages: how it opened before the first, what it used after the last."""

    __slots__ = ("_answer", "_asked", "_first", "_key", "_opened")

    def __init__(self, asked: Question, answer: Answer, key: Key) -> None:
        self._asked = asked
        self._key = key
        self._answer = answer
        self._opened = False
        self._first = 0

    def response(self, steps: list[GenerateEvent], arrived: float, *, last: bool) -> GenerateResponse:
        """One read's steps as a message."""
        rendering = self._asked.rendering
        waited = int((arrived - self._answer.sent) * 1e6)
        if not self._first and rendering.content_events:
            self._first = waited
        if not self._opened:
            self._opened = True
            steps.insert(0, GenerateEvent(started=self._started(waited)))
        if last:
            reason = chat_pb2.FINISH_REASON_STOP
            finished = Finished(reason=reason, first_token_microseconds=self._first, total_microseconds=waited)
            steps.append(GenerateEvent(usage=rendering.used()))
            steps.append(GenerateEvent(finished=finished))
        return GenerateResponse(events=steps)

    def _started(self, waited: int) -> Started:
        headers = self._answer.headers
        return Started(
            upstream_request_id=next((headers[name] for name in UPSTREAM_IDS if name in headers), ""),
            upstream_microseconds=waited,
            passthrough=self._asked.passthrough,
            dropped=self._asked.dropped,
            headers={name: value for name, value in headers.items() if name.startswith(RATE_LIMIT_PREFIXES)},
            key_mark=self._key.mark,
        )


Batches = AsyncGenerator[tuple[list[GenerateEvent], bool]]


async def _pieces(answer: Answer, rendering: TaskRendering, kind: str) -> Batches:
    """Sound as it comes, one batch per read of the connection; the last one is marked."""
    while data := await answer.read(first=not rendering.content_events):
        yield rendering.piece(data, kind), False
    if not rendering.content_events:
        raise MeshError.upstream(errors_pb2.FAULT_BAD_ANSWER, "the provider answered with nothing")
    yield [], True


async def _events(answer: Answer, rendering: TaskRendering) -> Batches:
    """Events of a stream that passes, one batch per read of the connection; the last one is marked."""
    framer = Framer(max_event_bytes=MAX_EVENT_BYTES)
    idle = 0
    while True:
        try:
            data = await answer.read(first=not rendering.content_events, idle=idle)
        except MeshError:
            if not rendering.complete:
                raise
            data = b""  # the last event is here: only what follows it is missing
        events = framer.feed(data) if data else framer.flush()
        idle = 0 if events else idle + 1
        try:
            steps = rendering.events(events) if events else []
        except BrokenAnswerError as broken:
            if broken.steps:
                yield broken.steps, False
            raise broken.error from None
        if not data or rendering.done:
            rendering.end()
            yield steps, True
            break
        if steps:
            yield steps, False
    if data:
        await answer.rest()
