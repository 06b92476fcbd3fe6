"""Counting the tokens of a conversation for a vendor that has no way to ask for it: an estimate, without a network."""

from collections.abc import AsyncGenerator

from polyroute.api.chat.v1.chat_pb2 import Usage
from polyroute.api.modality.v1.modality_pb2 import CountTokensResult, Result
from polyroute.api.providers.v1.providers_pb2 import (
    EncodedContent,
    Finished,
    GenerateEvent,
    GenerateRequest,
    GenerateResponse,
    Started,
)
from polyroute.dialects.estimate import estimate_tokens
from polyroute.dialects.task import Body, Outcome
from polyroute.dialects.task_registry import SPOKEN
from polyroute.mesh.errors import MeshError
from polyroute.providers.conversation import at


async def count(request: GenerateRequest) -> AsyncGenerator[GenerateResponse]:
    """The steps of an attempt at which nobody is asked.

    Raises:
        MeshError: REASON_INVALID_REQUEST when the conversation makes no sense.
    """
    try:
        content = _content(request)
    except MeshError as error:
        raise at(error, request.target) from error.__cause__
    started = GenerateEvent(started=Started())
    yield GenerateResponse(events=[started, content, GenerateEvent(usage=Usage()), GenerateEvent(finished=Finished())])


def _content(request: GenerateRequest) -> GenerateEvent:
    """The figure in the caller's own form."""
    if request.WhichOneof("body") == "task":
        return GenerateEvent(result=_estimated(estimate_tokens(request.task.count_tokens.chat)))
    dialect = SPOKEN[request.encoded.dialect]
    task = dialect.read_task(Body(request.encoded.body))
    outcome = Outcome(_estimated(estimate_tokens(task.count_tokens.chat)), None)
    body = dialect.write_outcome(outcome, task, request_id=request.request_id, model=request.facts.model)
    return GenerateEvent(encoded=EncodedContent(data=body.data, content_events=1))


def _estimated(tokens: int) -> Result:
    return Result(count_tokens=CountTokensResult(input_tokens=tokens, estimated=True))
