"""What an attempt says of its deployment: the one table of which fault counts where.

A fault either *breaks* (the deployment failed: it counts for the breaker), *rests* (a key, its quota or the model is at
fault: waiting helps, trying does not), or is the caller's (any deployment would have refused the same request).
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from polyroute.api.chat.v1.chat_pb2 import OPERATION_UNSPECIFIED, Operation
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.errors.v1.errors_pb2 import Fault

BREAKS: Final = frozenset(
    {
        pb.FAULT_CONNECT,
        pb.FAULT_SERVER,
        pb.FAULT_AMBIGUOUS,
        pb.FAULT_BAD_ANSWER,
        pb.FAULT_STALL,
        pb.FAULT_TRUNCATED,
    }
)
RESTS: Final = frozenset({pb.FAULT_RATE, pb.FAULT_QUOTA, pb.FAULT_CREDENTIAL, pb.FAULT_MODEL_GONE})
CALLERS: Final = frozenset({pb.FAULT_CLIENT, pb.FAULT_CONTEXT, pb.FAULT_FILTER, pb.FAULT_UNSUPPORTED})
# The vendor says that it has too much to do, which passes by itself when less is sent: half a failure.
BUSY: Final = frozenset({503, 529})
BUSY_WEIGHT: Final = 0.5

_WORDS: Final[Mapping[int, str]] = {
    number: Fault.Name(number).removeprefix("FAULT_").lower() for number in Fault.values()
}


class Outcome(NamedTuple):
    """How an attempt ended.

    Args:
        fault: What went wrong; FAULT_UNSPECIFIED when nothing did.
        first_token_ms: From sending to the first content; 0 when there was none or nothing was streamed.
        total_ms: From sending to the end.
        output_tokens: Of the answer, reasoning included.
        cancelled: The caller or the gateway ended it (a hedge that lost is one): it says nothing of the deployment.
        status: The vendor's HTTP status; 0 when there was none.
        retry_after: Seconds that the vendor asked to wait; None when it did not say.
        key: Which key of the provider was used, from 1; 0 stands for all of them, or for the only one.
        prompt_tokens: Of the request, by estimate; 0 when unknown.
        operation: What was asked for; OPERATION_UNSPECIFIED when nobody said.
    """

    fault: Fault.ValueType = pb.FAULT_UNSPECIFIED
    first_token_ms: float = 0.0
    total_ms: float = 0.0
    output_tokens: int = 0
    cancelled: bool = False
    status: int = 0
    retry_after: float | None = None
    key: int = 0
    prompt_tokens: int = 0
    operation: Operation.ValueType = OPERATION_UNSPECIFIED


def failure_weight(fault: Fault.ValueType, status: int = 0) -> float:
    """How much of a failure this is to the breaker: 0, a half or 1."""
    if fault not in BREAKS:
        return 0.0
    return BUSY_WEIGHT if status in BUSY else 1.0


def word_of(fault: int) -> str:
    """A fault in lower case, such as `stall`; its number when a newer peer knows more of them."""
    return _WORDS.get(fault) or str(fault)
