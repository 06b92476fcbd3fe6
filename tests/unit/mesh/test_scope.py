"""What travels along a call: its id, its trace, its deadline."""

import asyncio
import uuid
from collections.abc import Iterator

import pytest

from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.mesh.errors import MeshError
from polyroute.mesh.scope import CURRENT, LEAST, Scope, new_request_id, new_traceparent, shortened

TRACE = f"00-{'a' * 32}-{'b' * 16}-01"


@pytest.fixture(autouse=True)
def nothing_current() -> Iterator[None]:
    token = CURRENT.set(None)
    yield
    CURRENT.reset(token)


def enter(seconds: float | None) -> None:
    deadline = None if seconds is None else asyncio.get_running_loop().time() + seconds
    CURRENT.set(Scope("r-1", TRACE, deadline))


@pytest.mark.parametrize(
    ("left", "wanted", "expected"),
    [(None, None, None), (None, 5, 5), (60, 5, 5), (2, 5, 2), (2, None, 2)],
)
async def test_timeout_is_never_longer_than_the_call(
    left: float | None, wanted: float | None, expected: float | None
) -> None:
    """What is left of the deadline, where that is less."""
    enter(left)

    assert expected == pytest.approx(shortened(wanted), abs=0.01)


async def test_outside_of_a_call_nothing_is_shortened() -> None:
    """Background work has its own times."""
    assert (5, None) == (shortened(5), shortened(None))


@pytest.mark.parametrize("left", [-1, 0, LEAST - 0.01])
async def test_work_that_cannot_end_in_time_is_not_begun(left: float) -> None:
    """Said at once."""
    enter(left)
    with pytest.raises(MeshError) as caught:
        shortened(5)

    assert pb.REASON_DEADLINE == caught.value.reason


def test_ids_go_along() -> None:
    """As metadata of every RPC."""
    scope = Scope("r-1", TRACE)

    assert (("x-request-id", "r-1"), ("traceparent", TRACE)) == scope.metadata
    assert ("a" * 32, None) == (scope.trace_id, scope.remaining())


def test_request_ids_are_ordered_by_time() -> None:
    """So that records made together lie together."""
    ids = [new_request_id() for _ in range(100)]

    assert sorted(ids) == ids
    assert {7} == {uuid.UUID(one).version for one in ids}


def test_fresh_trace_is_well_formed() -> None:
    """Version, 32 and 16 hex digits, flags; not two alike."""
    version, trace, span, flags = new_traceparent().split("-")

    assert ("00", 32, 16, "00") == (version, len(trace), len(span), flags)
    assert int(trace, 16)
    assert new_traceparent() != new_traceparent()
