"""One attempt at vectors: the client's own bytes where the vendor speaks its dialect, translated where it does not."""

from dataclasses import dataclass
from typing import Protocol

from polyroute.api.chat.v1 import chat_pb2
from polyroute.api.errors.v1 import errors_pb2
from polyroute.api.providers.v1.providers_pb2 import Embedding, EmbedRequest, EmbedResponse
from polyroute.dialects.embedding import EmbeddingDialect, EmbeddingOutbound
from polyroute.dialects.embedding_registry import EMBEDDINGS, SPOKEN
from polyroute.mesh.errors import MeshError
from polyroute.providers.account import Account
from polyroute.providers.conversation import at
from polyroute.providers.keys import Key
from polyroute.providers.transport import Limits, Transport


async def embed(request: EmbedRequest, account: Account, transport: Transport, limits: Limits) -> EmbedResponse:
    """One attempt at `account`.

    Raises:
        MeshError: REASON_UPSTREAM with the vendor's fault.
    """
    model = request.target.upstream_model
    key: Key | None = None
    try:
        asked = question(request, _outbound(request, account))
        key = account.key(model)
        response = await _answered(request, account, key, asked, transport, limits)
    except MeshError as error:
        account.vendor.judged(error)
        if key is not None:
            account.reported(key, error, model)
        raise at(error, request.target) from error.__cause__
    account.reported(key, None, model)
    return response


def _outbound(request: EmbedRequest, account: Account) -> EmbeddingOutbound:
    """The dialect in which the account is asked: its caller's own where it can be."""
    model = request.target.upstream_model
    name = account.dialect(chat_pb2.OPERATION_EMBEDDING, request.encoded.dialect, model)
    if name not in EMBEDDINGS:
        raise MeshError.upstream(errors_pb2.FAULT_CLIENT, f"{account.name} makes no embeddings")
    return account.tuned(EMBEDDINGS[name], model)


async def _answered(
    request: EmbedRequest, account: Account, key: Key, asked: "Question", transport: Transport, limits: Limits
) -> EmbedResponse:
    model, name = request.target.upstream_model, asked.outbound.name
    body, _ = account.edited(chat_pb2.OPERATION_EMBEDDING, name, asked.body, model)
    target = account.target(chat_pb2.OPERATION_EMBEDDING, name, model=model, key=key)
    answer = await transport.post(target, body, limits, await account.authorize(key, target, body))
    try:
        if not answer.ok:
            raise asked.outbound.fault_of(answer.status, await answer.error_body(), answer.headers)
        response = asked.response(await answer.body())
        response.total_microseconds = int((answer.arrived - answer.sent) * 1e6)
        return response
    finally:
        answer.close()


class Question(Protocol):
    """What is sent to the vendor, and how its answer will be read."""

    @property
    def body(self) -> bytes:
        """The vendor's request."""
        ...

    @property
    def outbound(self) -> EmbeddingOutbound:
        """The vendor's dialect."""
        ...

    def response(self, body: bytes) -> EmbedResponse:
        """The vendor's answer as the caller gets it.

        Raises:
            MeshError: the fault inside the answer, FAULT_BAD_ANSWER when it is none.
        """
        ...


def question(request: EmbedRequest, outbound: EmbeddingOutbound) -> Question:
    """The vendor's request for what a caller asked.

    Raises:
        MeshError: FAULT_UNSUPPORTED for token ids and a vendor that takes texts only, and for parameters that it cannot
            express when the caller insists on them.
    """
    model = request.target.upstream_model
    if request.WhichOneof("body") == "input":
        given = request.input
        dimensions = given.dimensions if given.HasField("dimensions") else None
        body, dropped = outbound.write_request(list(given.texts), model=model, dimensions=dimensions)
        _insist(request, dropped)
        return Typed(body, outbound, len(given.texts))
    inbound = SPOKEN.get(request.encoded.dialect)
    if inbound is None:
        raise MeshError.upstream(errors_pb2.FAULT_CLIENT, f"no vectors are asked for in {request.encoded.dialect}")
    if inbound.name == outbound.name:
        body = inbound.patch_request(request.encoded.body, request.facts, model=model)
        return Passed(body, inbound, request.encoded.body)
    return _translated(request, inbound, outbound)


def _translated(request: EmbedRequest, inbound: EmbeddingDialect, outbound: EmbeddingOutbound) -> Question:
    asked = inbound.read_request(request.encoded.body)
    if asked.tokens:
        raise MeshError.upstream(
            errors_pb2.FAULT_UNSUPPORTED, "token ids are only served by a deployment that takes them", param="input"
        )
    body, dropped = outbound.write_request(
        asked.texts,
        model=request.target.upstream_model,
        dimensions=asked.dimensions,
        input_type=asked.input_type,
    )
    _insist(request, dropped + sorted(asked.extensions))
    return Translated(body, inbound, outbound, len(asked.texts), model=request.facts.model, base64=asked.base64)


def _insist(request: EmbedRequest, dropped: list[str]) -> None:
    if dropped and request.facts.require_parameters:
        raise MeshError.upstream(
            errors_pb2.FAULT_UNSUPPORTED, f"this deployment cannot express {', '.join(dropped)}", param=dropped[0]
        )


@dataclass(frozen=True, slots=True)
class Typed:
    """A typed request: the answer comes as contract messages."""

    body: bytes
    outbound: EmbeddingOutbound
    count: int

    def response(self, body: bytes) -> EmbedResponse:
        """The vectors."""
        vectors, usage, model = self.outbound.read_answer(body)
        check_count(vectors, self.count)
        return EmbedResponse(embeddings=[Embedding(values=vector) for vector in vectors], usage=usage, model=model)


@dataclass(frozen=True, slots=True)
class Passed:
    """A client's own bytes to a vendor of the same dialect, and the vendor's bytes back."""

    body: bytes
    outbound: EmbeddingDialect
    asked: bytes

    def response(self, body: bytes) -> EmbedResponse:
        """The vendor's answer, in the encoding that the client asked for."""
        encoded, usage, _ = self.outbound.fix_encoding(body, self.asked)
        return EmbedResponse(encoded=encoded, usage=usage)


@dataclass(frozen=True, slots=True)
class Translated:
    """A client's request in one dialect, a vendor in another."""

    body: bytes
    inbound: EmbeddingDialect
    outbound: EmbeddingOutbound
    count: int
    model: str
    base64: bool

    def response(self, body: bytes) -> EmbedResponse:
        """The vectors in the client's dialect and encoding."""
        vectors, usage, model = self.outbound.read_answer(body)
        check_count(vectors, self.count)
        encoded = self.inbound.write_answer(vectors, usage, model=self.model, base64=self.base64)
        return EmbedResponse(encoded=encoded, usage=usage, model=model)


def check_count(vectors: list[list[float]], count: int) -> None:
    """Refuses an answer with more or fewer vectors than texts: whose is which could not be told."""
    if len(vectors) != count:
        raise MeshError.upstream(
            errors_pb2.FAULT_BAD_ANSWER, f"the provider made {len(vectors)} vectors of {count} texts"
        )
