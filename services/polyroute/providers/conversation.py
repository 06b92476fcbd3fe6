"""One attempt at an answer: write the vendor's request, read what comes back, say how it went.

The steps of an attempt are `Started`, content, `Usage`, `Finished`; whatever one read of the connection gave is one
message. A break in the middle ends the generator with the vendor's fault, after everything that came before it.
"""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Final

from polyroute.api.chat.v1 import chat_pb2
from polyroute.api.chat.v1.chat_pb2 import ChatRequest, RequestFacts
from polyroute.api.errors.v1 import errors_pb2
from polyroute.api.providers.v1.providers_pb2 import (
    Finished,
    GenerateEvent,
    GenerateRequest,
    GenerateResponse,
    Started,
    Target,
)
from polyroute.dialects import sse
from polyroute.dialects.custom_tools import CustomTools, as_functions
from polyroute.dialects.dialect import Dialect, Framer, Outbound
from polyroute.dialects.foreign import bound_by
from polyroute.dialects.plain_tools import PlainTools
from polyroute.dialects.plain_tools import as_functions as as_plain
from polyroute.dialects.registry import DIALECTS, OUTBOUND
from polyroute.mesh.errors import MeshError
from polyroute.providers.account import Account
from polyroute.providers.carrier import Carrier, Reply
from polyroute.providers.keys import Key
from polyroute.providers.rendering import BrokenAnswerError, Passthrough, Rendering, Translated, Typed
from polyroute.providers.transport import Limits

RATE_LIMIT_PREFIXES: Final = ("x-ratelimit-", "anthropic-ratelimit-")
_JSON: Final = (b"{", b"[")  # how a whole answer begins, and no event does
UPSTREAM_IDS: Final = ("x-request-id", "request-id", "x-amzn-requestid")


@dataclass(slots=True)
class Question:
    """What is sent to the vendor, and how its answer will be rendered.

    Attributes:
        dialect: The vendor's.
        body: The request.
        rendering: Of the answer.
        passthrough: The answer is passed on as the vendor writes it.
        dropped: Parameters that the vendor cannot express.
        headers: The caller's that go along.
    """

    dialect: Outbound
    body: bytes
    rendering: Rendering
    passthrough: bool
    dropped: list[str]
    headers: Mapping[str, str] | None = None


def question(request: GenerateRequest, account: Account) -> Question:
    """The vendor's request for what a caller asked.

    Raises:
        MeshError: FAULT_CLIENT when the account does not offer the operation, FAULT_UNSUPPORTED when the vendor's
            dialect cannot express the request, REASON_INVALID_REQUEST when it makes no sense.
    """
    facts, model = request.facts, request.target.upstream_model
    typed = request.WhichOneof("body") == "chat"
    asked = "" if typed else request.encoded.dialect
    name = account.dialect(facts.operation, asked, model, tools=chat_pb2.CAPABILITY_TOOLS in facts.needs)
    if not name:
        raise MeshError.upstream(errors_pb2.FAULT_CLIENT, f"{account.name} does not offer this kind of work")
    dialect = account.tuned(OUTBOUND[name], model)
    if name == asked:
        found = _passed(request, account, DIALECTS[name])
    else:
        chat = request.chat if typed else DIALECTS[asked].read_request(request.encoded.body)
        chat, originals = as_plain(chat, source=asked, target=name)
        if name not in account.vendor.custom_tools:
            chat, free = as_functions(chat)
            dialect = CustomTools(dialect, free) if free else dialect
        dialect = PlainTools(dialect, originals) if originals else dialect
        rendering = Typed(dialect) if typed else Translated(dialect, DIALECTS[asked], facts, request.request_id)
        found = _asked(chat, request, account, dialect, rendering)
    if found.dropped and facts.require_parameters:
        names = ", ".join(found.dropped)
        raise MeshError.upstream(
            errors_pb2.FAULT_UNSUPPORTED, f"this deployment cannot express {names}", param=found.dropped[0]
        )
    return found


def _passed(request: GenerateRequest, account: Account, dialect: Dialect) -> Question:
    """The client's own bytes, changed only where this vendor and model want it otherwise."""
    facts, model = request.facts, request.target.upstream_model
    quirks = account.vendor.quirks
    body = dialect.patch_request(
        request.encoded.body, facts, model=model, ask_usage=quirks.stream_usage, drop=quirks.drop
    )
    body, dropped = account.edited(facts.operation, dialect.name, body, model)
    traits = account.traits(model)
    if not traits.plain:
        body, more = traits.edit(body)
        dropped = dropped + more
    spoken = account.spoken(facts.operation, dialect.name, model)
    headers: Mapping[str, str] = request.headers
    if spoken is not None:
        body, more, headers = spoken.heard(body, headers, model)
        dropped = dropped + more
    return Question(dialect, body, Passthrough(dialect, facts), passthrough=True, dropped=dropped, headers=headers)


def _asked(
    chat: ChatRequest, request: GenerateRequest, account: Account, dialect: Outbound, rendering: Rendering
) -> Question:
    """A conversation in the vendor's dialect."""
    facts, model = request.facts, request.target.upstream_model
    chat, refused = account.traits(model).apply(chat)
    source = request.encoded.dialect if request.HasField("encoded") else ""
    if name := bound_by(chat, source):
        raise MeshError.upstream(
            errors_pb2.FAULT_UNSUPPORTED, f"{name} stands for what only a vendor of {source} holds", param=name
        )
    body, dropped = dialect.write_request(chat, model=model, stream=facts.stream or not source, source=source)
    body, more = account.edited(facts.operation, dialect.name, body, model)
    if (spoken := account.spoken(facts.operation, dialect.name, model)) is not None:
        body, unheard, _ = spoken.heard(body, request.headers, model)
        more = more + unheard
    return Question(dialect, body, rendering, passthrough=False, dropped=refused + dropped + more)


async def converse(
    request: GenerateRequest, account: Account, transport: Carrier, limits: Limits
) -> AsyncGenerator[GenerateResponse]:
    """One attempt at `account`.

    Raises:
        MeshError: REASON_UPSTREAM with the vendor's fault and where it happened.
    """
    model = request.target.upstream_model
    key: Key | None = None
    try:
        asked = question(request, account)
        key = account.key(model, request.target.key_mark)
        answer = await _sent(request, account, key, asked, transport, limits)
        try:
            if not answer.ok:
                raise await _refused(answer, asked.dialect)
            told = Telling(asked, answer, request.facts, key)
            framer, begun = await _framing(answer, asked.dialect, stream=_streams(request))
            if framer is not None:
                async for steps, last in _streamed(answer, framer, asked.rendering, begun):
                    yield told.response(steps, last=last)
            else:
                yield told.response(asked.rendering.whole(begun + await answer.body()), last=True)
            account.reported(key, None, model)
        finally:
            answer.close()
    except MeshError as error:
        account.vendor.judged(error)
        if key is not None:
            account.reported(key, error, model, pinned=bool(request.target.key_mark))
        raise at(error, request.target) from error.__cause__


async def _sent(
    request: GenerateRequest, account: Account, key: Key, asked: Question, transport: Carrier, limits: Limits
) -> Reply:
    target = account.target(
        request.facts.operation,
        asked.dialect.name,
        model=request.target.upstream_model,
        stream=_streams(request),
        key=key,
    )
    headers = await account.authorize(key, target, asked.body)
    if asked.headers:
        headers = {**asked.headers, **headers}
    return await transport.post(target, asked.body, limits, headers)


def _streams(request: GenerateRequest) -> bool:
    """Whether the vendor is asked for a stream."""
    return request.facts.stream or request.HasField("chat")


async def _framing(answer: Reply, dialect: Outbound, *, stream: bool) -> tuple[Framer | None, bytes]:
    """How an answer is cut into events, None when it comes whole; and what of it was read to find out.

    A body says better than its media type what it is: vendors forget the type of streams, and of whole answers.

    Raises:
        MeshError: FAULT_BAD_ANSWER for a stream where none was asked for.
    """
    framer = dialect.framing(answer.content_type)
    if framer is not None and not stream:
        raise MeshError.upstream(errors_pb2.FAULT_BAD_ANSWER, "the vendor streamed where nobody asked it to")
    if not stream:
        return None, b""
    begun = await answer.read(first=True)
    if framer is None:
        return (dialect.framing(sse.MEDIA_TYPE) if sse.begins(begun) else None), begun
    misnamed = begun.lstrip().startswith(_JSON) and answer.content_type.startswith(sse.MEDIA_TYPE)
    return (None if misnamed else framer), begun


def at(error: MeshError, target: Target) -> MeshError:
    """The error with where it happened."""
    error.metadata = {"provider": target.provider, "deployment": target.deployment, **error.metadata}
    return error


class Telling:
    """Puts an attempt's steps into messages: how it opened before the first, what it used after the last."""

    __slots__ = ("_answer", "_asked", "_facts", "_first", "_key", "_opened")

    def __init__(self, asked: Question, answer: Reply, facts: RequestFacts, key: Key) -> None:
        self._asked = asked
        self._key = key
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
            headers={name: value for name, value in headers.items() if name.startswith(RATE_LIMIT_PREFIXES)} or None,
            key_mark=self._key.mark,
        )


async def _streamed(
    answer: Reply, framer: Framer, rendering: Rendering, begun: bytes
) -> AsyncGenerator[tuple[list[GenerateEvent], bool]]:
    """Batches of steps, one per read of the connection, the first of what was read before; the last one is marked."""
    tally = rendering.tally
    idle = 0
    while True:
        try:
            data, begun = begun or await answer.read(first=not tally.content_events, idle=idle), b""
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
            end = [*steps, *rendering.end()]
            if not (tally.finish or tally.content_events):
                raise MeshError.upstream(errors_pb2.FAULT_BAD_ANSWER, "the vendor's stream holds no answer")
            yield end, True
            break
        if steps:
            yield steps, False
    if data:
        await answer.rest()


async def _refused(answer: Reply, dialect: Outbound) -> MeshError:
    return dialect.fault_of(answer.status, await answer.error_body(), answer.headers)
