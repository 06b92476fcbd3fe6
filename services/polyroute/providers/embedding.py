"""One attempt at vectors: the client's own bytes where the vendor speaks its dialect, translated where it does not."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from polyroute.api.chat.v1 import chat_pb2
from polyroute.api.chat.v1.chat_pb2 import RequestFacts, Usage
from polyroute.api.errors.v1 import errors_pb2
from polyroute.api.providers.v1.providers_pb2 import Embedding, EmbedRequest, EmbedResponse
from polyroute.dialects.embedding import EmbeddingDialect, EmbeddingOutbound, Vectors
from polyroute.dialects.embedding_registry import EMBEDDINGS, SPOKEN
from polyroute.mesh.errors import MeshError
from polyroute.providers.account import Account
from polyroute.providers.conversation import at
from polyroute.providers.keys import Key
from polyroute.providers.transport import Limits, Transport

AT_ONCE: Final = 4  # requests of one attempt under way
_DIGITS: Final = 12


async def embed(request: EmbedRequest, account: Account, transport: Transport, limits: Limits) -> EmbedResponse:
    """One attempt at `account`: one request, or several where the vendor takes fewer texts in one than were given.

    Raises:
        MeshError: REASON_UPSTREAM with the vendor's fault; the first one of several requests ends the others.
    """
    model = request.target.upstream_model
    key: Key | None = None
    try:
        name = _dialect(request, account)
        spoken = account.spoken(chat_pb2.OPERATION_EMBEDDING, name, model)
        most = spoken.texts if spoken is not None else 0
        asked = question(request, account.tuned(EMBEDDINGS[name], model), most)
        key = account.key(model, request.target.key_mark)
        sending = _Sending(account, key, model, asked.outbound, transport, limits)
        answers = await sending.all(asked.bodies)
        response = asked.response(answers, spoken.counted if spoken is not None else "")
    except MeshError as error:
        account.vendor.judged(error)
        if key is not None:
            account.reported(key, error, model, pinned=bool(request.target.key_mark))
        raise at(error, request.target) from error.__cause__
    account.reported(key, None, model)
    began, ended = min(answer.sent for answer in answers), max(answer.arrived for answer in answers)
    response.total_microseconds = int((ended - began) * 1e6)
    return response


def _dialect(request: EmbedRequest, account: Account) -> str:
    """The dialect in which the account is asked: its caller's own where it can be."""
    name = account.dialect(chat_pb2.OPERATION_EMBEDDING, request.encoded.dialect, request.target.upstream_model)
    if name not in EMBEDDINGS:
        raise MeshError.upstream(errors_pb2.FAULT_CLIENT, f"{account.name} makes no embeddings")
    return name


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back of one request.

    Attributes:
        body: The whole answer.
        headers: Its headers, lower case.
        sent: When the request was sent, seconds.
        arrived: When the answer's last byte was here, seconds.
    """

    body: bytes
    headers: Mapping[str, str]
    sent: float = 0.0
    arrived: float = 0.0


@dataclass(frozen=True, slots=True)
class _Sending:
    """The requests of one attempt on their way."""

    account: Account
    key: Key
    model: str
    outbound: EmbeddingOutbound
    transport: Transport
    limits: Limits

    async def all(self, bodies: Sequence[bytes]) -> list[Answer]:
        """The answers, in the order of the requests; a few are under way at once."""
        if len(bodies) == 1:
            return [await self._one(bodies[0])]
        turn = asyncio.Semaphore(AT_ONCE)

        async def waited(body: bytes) -> Answer:
            async with turn:
                return await self._one(body)

        tasks = [asyncio.ensure_future(waited(body)) for body in bodies]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _one(self, body: bytes) -> Answer:
        name, account = self.outbound.name, self.account
        body, _ = account.edited(chat_pb2.OPERATION_EMBEDDING, name, body, self.model)
        target = account.target(chat_pb2.OPERATION_EMBEDDING, name, model=self.model, key=self.key)
        signed = await account.authorize(self.key, target, body)
        answer = await self.transport.post(target, body, self.limits, signed)
        try:
            if not answer.ok:
                raise self.outbound.fault_of(answer.status, await answer.error_body(), answer.headers)
            whole = await answer.body()
            return Answer(whole, answer.headers, answer.sent, answer.arrived)
        finally:
            answer.close()


class Question(Protocol):
    """What is sent to the vendor, and how its answers will be read."""

    @property
    def bodies(self) -> Sequence[bytes]:
        """The vendor's requests; at least one."""
        ...

    @property
    def outbound(self) -> EmbeddingOutbound:
        """The vendor's dialect."""
        ...

    def response(self, answers: Sequence[Answer], counted: str = "") -> EmbedResponse:
        """The vendor's answers, one for each request, as the caller gets them.

        Args:
            answers: In the order of the requests.
            counted: Header that says how many tokens were read, where the body does not; empty when there is none.

        Raises:
            MeshError: the fault inside an answer, FAULT_BAD_ANSWER when it is none.
        """
        ...


def question(request: EmbedRequest, outbound: EmbeddingOutbound, most: int = 0) -> Question:
    """The vendor's requests for what a caller asked.

    Args:
        request: The caller's.
        outbound: The vendor's dialect.
        most: Texts that the vendor takes in one request; 0 means as many as there are.

    Raises:
        MeshError: FAULT_UNSUPPORTED for token ids and a vendor that takes texts only, and for parameters that it cannot
            express when the caller insists on them.
    """
    model = request.target.upstream_model
    if request.WhichOneof("body") == "input":
        given = request.input
        dimensions = given.dimensions if given.HasField("dimensions") else None
        texts = list(given.texts)
        written = [outbound.write_request(some, model=model, dimensions=dimensions) for some in _parted(texts, most)]
        _insist(request, written[0][1])
        return Typed([body for body, _ in written], outbound, len(texts), request.facts)
    inbound = SPOKEN.get(request.encoded.dialect)
    if inbound is None:
        raise MeshError.upstream(errors_pb2.FAULT_CLIENT, f"no vectors are asked for in {request.encoded.dialect}")
    if inbound.name == outbound.name:
        body = inbound.patch_request(request.encoded.body, request.facts, model=model)
        return Passed(body, inbound, request.encoded.body, request.facts)
    return _translated(request, inbound, outbound, most)


def _translated(
    request: EmbedRequest, inbound: EmbeddingDialect, outbound: EmbeddingOutbound, most: int
) -> "Translated":
    asked = inbound.read_request(request.encoded.body)
    if asked.tokens:
        raise MeshError.upstream(
            errors_pb2.FAULT_UNSUPPORTED, "token ids are only served by a deployment that takes them", param="input"
        )
    model = request.target.upstream_model
    written = [
        outbound.write_request(some, model=model, dimensions=asked.dimensions, input_type=asked.input_type)
        for some in _parted(asked.texts, most)
    ]
    _insist(request, written[0][1] + sorted(asked.extensions))
    bodies = [body for body, _ in written]
    return Translated(bodies, inbound, outbound, len(asked.texts), request.facts, base64=asked.base64)


def _parted(texts: list[str], most: int) -> list[list[str]]:
    """The texts of each request."""
    if not most or len(texts) <= most:
        return [texts]
    return [texts[start : start + most] for start in range(0, len(texts), most)]


def _insist(request: EmbedRequest, dropped: list[str]) -> None:
    if dropped and request.facts.require_parameters:
        raise MeshError.upstream(
            errors_pb2.FAULT_UNSUPPORTED, f"this deployment cannot express {', '.join(dropped)}", param=dropped[0]
        )


@dataclass(frozen=True, slots=True)
class Typed:
    """A typed request: the answer comes as contract messages."""

    bodies: Sequence[bytes]
    outbound: EmbeddingOutbound
    count: int
    facts: RequestFacts

    def response(self, answers: Sequence[Answer], counted: str = "") -> EmbedResponse:
        """The vectors."""
        vectors, usage, model = read(self.outbound, answers, counted, self.facts)
        check_count(vectors, self.count)
        return EmbedResponse(embeddings=[Embedding(values=vector) for vector in vectors], usage=usage, model=model)


@dataclass(frozen=True, slots=True)
class Passed:
    """A client's own bytes to a vendor of the same dialect, and the vendor's bytes back."""

    body: bytes
    outbound: EmbeddingDialect
    asked: bytes
    facts: RequestFacts

    @property
    def bodies(self) -> Sequence[bytes]:
        """One request."""
        return (self.body,)

    def response(self, answers: Sequence[Answer], counted: str = "") -> EmbedResponse:
        """The vendor's answer, in the encoding that the client asked for."""
        (answer,) = answers
        encoded, usage, _ = self.outbound.fix_encoding(answer.body, self.asked)
        return EmbedResponse(encoded=encoded, usage=_usage([(usage, answer)], counted, self.facts))


@dataclass(frozen=True, slots=True)
class Translated:
    """A client's request in one dialect, a vendor in another."""

    bodies: Sequence[bytes]
    inbound: EmbeddingDialect
    outbound: EmbeddingOutbound
    count: int
    facts: RequestFacts
    base64: bool

    def response(self, answers: Sequence[Answer], counted: str = "") -> EmbedResponse:
        """The vectors in the client's dialect and encoding."""
        vectors, usage, model = read(self.outbound, answers, counted, self.facts)
        check_count(vectors, self.count)
        encoded = self.inbound.write_answer(vectors, usage, model=self.facts.model, base64=self.base64)
        return EmbedResponse(encoded=encoded, usage=usage, model=model)


def read(outbound: EmbeddingOutbound, answers: Sequence[Answer], counted: str, facts: RequestFacts) -> Vectors:
    """The vectors of several answers in a row, and what all of them used."""
    found = [outbound.read_answer(answer.body) for answer in answers]
    used = [(usage, answer) for (_, usage, _), answer in zip(found, answers, strict=True)]
    vectors = [vector for values, _, _ in found for vector in values]
    return Vectors(vectors, _usage(used, counted, facts), found[0][2])


def _usage(used: Sequence[tuple[Usage, Answer]], counted: str, facts: RequestFacts) -> Usage:
    """The sum of what the answers or their headers say; where one says nothing, ours of the whole, marked as such."""
    total = Usage()
    for usage, answer in used:
        tokens = usage.input_tokens + usage.cache_read_tokens
        if not tokens and (said := answer.headers.get(counted, "")).isdecimal():
            tokens = usage.input_tokens = int(said[:_DIGITS])
        if not tokens and not usage.other:
            return Usage(input_tokens=facts.input_tokens_estimate, estimated=True)
        total.input_tokens += usage.input_tokens
        total.cache_read_tokens += usage.cache_read_tokens
        for name, units in usage.other.items():
            total.other[name] += units
    return total


def check_count(vectors: list[list[float]], count: int) -> None:
    """Refuses an answer with more or fewer vectors than texts: whose is which could not be told."""
    if len(vectors) != count:
        raise MeshError.upstream(
            errors_pb2.FAULT_BAD_ANSWER, f"the provider made {len(vectors)} vectors of {count} texts"
        )
