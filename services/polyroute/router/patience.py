"""How long each step of a call may take: what the operator said, and what such work usually takes where nobody did."""

from collections.abc import Sequence
from typing import Final

from google.protobuf.duration_pb2 import Duration

from polyroute.api.chat.v1 import chat_pb2
from polyroute.api.router.v1 import router_pb2 as pb
from polyroute.router.catalog import Deployment, Times
from polyroute.router.filters import Kind

FIRST_TOKEN: Final = 60.0  # s
INTER_TOKEN: Final = 30.0  # s
# A model that reasons may say nothing for minutes before its first word, and again between two of them.
REASONING_FIRST_TOKEN: Final = 300.0
REASONING_INTER_TOKEN: Final = 120.0
# Work whose answers take as long as they are long; of other work an answer that is late is one that will not come.
_WORDY: Final = frozenset({chat_pb2.OPERATION_CHAT, chat_pb2.OPERATION_COMPLETION})


def timeouts(deployments: Sequence[Deployment], kind: Kind, above: pb.Timeouts) -> pb.Timeouts:
    """The times of a plan. It has one set of them, so the most patient deployment's: none is cut short.

    Args:
        deployments: Those that may serve.
        kind: Of the call.
        above: What the policy says; stands above the deployments' own.
    """
    found = pb.Timeouts()
    longest = map(max, zip(*(_times(one, kind) for one in deployments), strict=True))
    for name, seconds in zip(Times._fields, longest, strict=False):  # none without deployments
        duration: Duration = getattr(found, name)
        duration.FromMicroseconds(round(seconds * 1e6))
    for field, value in above.ListFields():
        getattr(found, field.name).CopyFrom(value)  # a merge would mix the seconds of one with the nanos of the other
    bounded = above.HasField("first_token") or all(one.times.first_token for one in deployments)
    if kind.operation in _WORDY and not bounded:
        found.whole.CopyFrom(found.total)
    return found


def _times(deployment: Deployment, kind: Kind) -> Times:
    times = deployment.times
    if times.first_token and times.inter_token:
        return times
    reasons = chat_pb2.CAPABILITY_REASONING in kind.needs or chat_pb2.CAPABILITY_REASONING in (
        deployment.capabilities or ()
    )
    return times._replace(
        first_token=times.first_token or (REASONING_FIRST_TOKEN if reasons else FIRST_TOKEN),
        inter_token=times.inter_token or (REASONING_INTER_TOKEN if reasons else INTER_TOKEN),
    )
