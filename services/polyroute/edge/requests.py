"""The messages by which an attempt is asked for."""

from polyroute.api.chat.v1.chat_pb2 import ChatRequest, EncodedRequest
from polyroute.api.modality.v1.modality_pb2 import Task
from polyroute.api.providers.v1.providers_pb2 import EmbedInput, EmbedRequest, GenerateRequest, Target
from polyroute.api.router.v1.router_pb2 import Attempt, Timeouts
from polyroute.edge.call import Call, plan_of, time_left


def generate_request(call: Call, attempt: Attempt, number: int) -> GenerateRequest:
    """Asks for one attempt of a conversation, completion or task."""
    request = GenerateRequest(
        request_id=call.trail.request_id,
        attempt=number,
        target=_target(attempt, call),
        facts=call.facts,
        timeouts=_timeouts(call, number),
        headers=call.headers or None,
    )
    if isinstance(call.body, EncodedRequest):
        request.encoded.CopyFrom(call.body)
    elif isinstance(call.body, ChatRequest):
        request.chat.CopyFrom(call.body)
    elif isinstance(call.body, Task):
        request.task.CopyFrom(call.body)
    return request


def embed_request(call: Call, attempt: Attempt, number: int) -> EmbedRequest:
    """Asks for one attempt of vectors."""
    request = EmbedRequest(
        request_id=call.trail.request_id,
        attempt=number,
        target=_target(attempt, call),
        facts=call.facts,
        timeouts=_timeouts(call, number),
    )
    if isinstance(call.body, EncodedRequest):
        request.encoded.CopyFrom(call.body)
    elif isinstance(call.body, EmbedInput):
        request.input.CopyFrom(call.body)
    return request


def _timeouts(call: Call, number: int) -> Timeouts:
    """The plan's, with the wait for the first token short enough to leave time for the attempts that may follow.

    An answer that comes whole and has a bound of its own keeps it: a part of the time would end work that goes well,
    and is paid.
    """
    plan = plan_of(call)
    if not call.facts.stream and plan.timeouts.HasField("whole"):
        return plan.timeouts
    tries = max(1, min(plan.max_attempts, len(plan.attempts)) - number + 1)
    share = time_left(call) / tries
    if share >= plan.timeouts.first_token.seconds:
        return plan.timeouts
    timeouts = Timeouts()
    timeouts.CopyFrom(plan.timeouts)
    timeouts.first_token.FromNanoseconds(int(share * 1e9))
    return timeouts


def _target(attempt: Attempt, call: Call) -> Target:
    return Target(
        deployment=attempt.deployment,
        provider=attempt.provider,
        upstream_model=attempt.upstream_model,
        key_mark=call.key_mark,
    )
