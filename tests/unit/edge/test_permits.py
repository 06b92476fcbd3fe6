"""What a key may do."""

import pytest

from polyroute.api.auth.v1.auth_pb2 import KeyScope, Verdict
from polyroute.api.chat.v1.chat_pb2 import OPERATION_CHAT, OPERATION_EMBEDDING, Operation
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.edge.permits import permit
from polyroute.mesh.errors import MeshError

BOUND = Verdict(
    scope=KeyScope(
        operations=[OPERATION_CHAT], routes=["/v1/chat/*", "/x"], source_ranges=["10.0.0.0/8", "2001:db8::/32"]
    ),
)


def judged(
    verdict: Verdict = BOUND,
    operation: Operation.ValueType = OPERATION_CHAT,
    route: str = "/v1/chat/completions",
    source: str = "10.1.2.3",
) -> bool:
    """Whether the call may be made."""
    try:
        permit(verdict, operation=operation, route=route, source=source)
    except MeshError as error:
        return error.reason != pb.REASON_NOT_PERMITTED
    return True


def test_nothing_binds_a_plain_key() -> None:
    """Whoever uses it, for whatever, from wherever."""
    assert judged(Verdict(), OPERATION_EMBEDDING, "/y", "")


@pytest.mark.parametrize("source", ["10.1.2.3", "::ffff:10.1.2.3", "2001:db8::1"])
def test_what_is_allowed_passes(source: str) -> None:
    """From each of its networks."""
    assert judged(source=source)
    assert judged(route="/x")


@pytest.mark.parametrize("source", ["11.0.0.1", "::1", "", "unix:", "10.1.2.3:80", "10.1.2.3 ", "::ffff:11.0.0.1"])
def test_other_places_are_refused(source: str) -> None:
    """And so is whatever is no address."""
    assert not judged(source=source)


@pytest.mark.parametrize("route", ["/v1/chat", "/x/", "/X", "", "/v1/embeddings"])
def test_other_routes_are_refused(route: str) -> None:
    """A route without a star is that route alone."""
    assert not judged(route=route)


def test_other_work_is_refused() -> None:
    """By name."""
    assert not judged(operation=OPERATION_EMBEDDING)
