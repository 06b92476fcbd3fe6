"""Which fault counts where: every one of them, exactly once."""

import pytest

from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.errors.v1.errors_pb2 import Fault
from polyroute.router.health.cooldown import RULES
from polyroute.router.health.outcomes import BREAKS, CALLERS, RESTS, failure_weight, word_of


def test_every_fault_has_its_place() -> None:
    """A new fault in the contract has to be thought about here."""
    assert {number for number in Fault.values() if number} == BREAKS | RESTS | CALLERS
    assert len(BREAKS) + len(RESTS) + len(CALLERS) == len(BREAKS | RESTS | CALLERS)
    assert RESTS == RULES.keys()


@pytest.mark.parametrize(
    ("fault", "status", "weight"),
    [
        (pb.FAULT_CONNECT, 0, 1.0),
        (pb.FAULT_SERVER, 500, 1.0),
        (pb.FAULT_SERVER, 503, 0.5),
        (pb.FAULT_SERVER, 529, 0.5),
        (pb.FAULT_AMBIGUOUS, 0, 1.0),
        (pb.FAULT_BAD_ANSWER, 200, 1.0),
        (pb.FAULT_STALL, 200, 1.0),
        (pb.FAULT_TRUNCATED, 200, 1.0),
        (pb.FAULT_RATE, 429, 0.0),
        (pb.FAULT_QUOTA, 402, 0.0),
        (pb.FAULT_CREDENTIAL, 401, 0.0),
        (pb.FAULT_MODEL_GONE, 404, 0.0),
        (pb.FAULT_CLIENT, 400, 0.0),
        (pb.FAULT_CONTEXT, 400, 0.0),
        (pb.FAULT_FILTER, 400, 0.0),
        (pb.FAULT_UNSUPPORTED, 0, 0.0),
        (pb.FAULT_UNSPECIFIED, 200, 0.0),
    ],
)
def test_weights(fault: pb.Fault.ValueType, status: int, weight: float) -> None:
    """What the vendor failed at counts; that it is busy, half; limits, keys and callers not at all."""
    assert weight == failure_weight(fault, status)


def test_words() -> None:
    """Faults are written in lower case, unknown ones as their numbers."""
    assert ("model_gone", "99") == (word_of(pb.FAULT_MODEL_GONE), word_of(99))
