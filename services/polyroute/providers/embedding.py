"""One attempt at vectors: the client's own bytes where it sent some, the contract's messages otherwise."""

from polyroute.api.chat.v1 import chat_pb2
from polyroute.api.errors.v1 import errors_pb2
from polyroute.api.providers.v1.providers_pb2 import Embedding, EmbedRequest, EmbedResponse
from polyroute.dialects import openai_embeddings as dialect
from polyroute.mesh.errors import MeshError
from polyroute.providers.account import Account
from polyroute.providers.conversation import at
from polyroute.providers.transport import Limits, Transport


async def embed(request: EmbedRequest, account: Account, transport: Transport, limits: Limits) -> EmbedResponse:
    """One attempt at `account`.

    Raises:
        MeshError: REASON_UPSTREAM with the vendor's fault.
    """
    try:
        return await _attempt(request, account, transport, limits)
    except MeshError as error:
        raise at(error, request.target) from error.__cause__


async def _attempt(request: EmbedRequest, account: Account, transport: Transport, limits: Limits) -> EmbedResponse:
    if not account.dialect(chat_pb2.OPERATION_EMBEDDING):
        raise MeshError.upstream(errors_pb2.FAULT_CLIENT, f"{account.name} makes no embeddings")
    target = account.target(chat_pb2.OPERATION_EMBEDDING)
    answer = await transport.post(target, _body(request), limits)
    try:
        if not answer.ok:
            raise dialect.fault_of(answer.status, await answer.error_body(), answer.headers)
        body = await answer.body()
        waited = answer.arrived - answer.sent
    finally:
        answer.close()
    response = _response(request, body)
    response.total_microseconds = int(waited * 1e6)
    return response


def _body(request: EmbedRequest) -> bytes:
    model = request.target.upstream_model
    if request.WhichOneof("body") == "encoded":
        return dialect.patch_request(request.encoded.body, request.facts, model=model)
    dimensions = request.input.dimensions if request.input.HasField("dimensions") else None
    return dialect.write_request(list(request.input.texts), model=model, dimensions=dimensions)


def _response(request: EmbedRequest, body: bytes) -> EmbedResponse:
    if request.WhichOneof("body") == "encoded":
        encoded, usage, _ = dialect.fix_encoding(body, base64=dialect.wants_base64(request.encoded.body))
        return EmbedResponse(encoded=encoded, usage=usage)
    vectors, usage, model = dialect.read_answer(body)
    return EmbedResponse(embeddings=[Embedding(values=vector) for vector in vectors], usage=usage, model=model)
