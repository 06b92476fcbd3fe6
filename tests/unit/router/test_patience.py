"""How long each step of a call may take: what was said, and what such work takes where nobody said anything."""

from google.protobuf.duration_pb2 import Duration

from polyroute.api.chat.v1 import chat_pb2
from polyroute.api.router.v1 import router_pb2 as pb
from polyroute.router.catalog import Deployment, Times
from polyroute.router.filters import kind_of
from polyroute.router.patience import timeouts

UNSAID = Times(5, 0, 0, 600)
THINKS = (chat_pb2.CAPABILITY_REASONING,)


def deployment(times: Times = UNSAID, *, reasons: bool = False) -> Deployment:
    """One that says so much."""
    return Deployment("d", "p", "u", times, capabilities=frozenset(THINKS) if reasons else None)


def found(
    *deployments: Deployment,
    above: pb.Timeouts | None = None,
    needs: tuple[chat_pb2.Capability.ValueType, ...] = (),
    operation: chat_pb2.Operation.ValueType = chat_pb2.OPERATION_CHAT,
) -> tuple[float, float, float | None]:
    """First token, between tokens and of whole answers, in seconds; None for the last when it is the first's."""
    facts = chat_pb2.RequestFacts(operation=operation, model="m", needs=needs)
    made = timeouts(deployments, kind_of(facts), above or pb.Timeouts())
    first, between, whole = (one.ToMilliseconds() / 1e3 for one in (made.first_token, made.inter_token, made.whole))
    return first, between, whole if made.HasField("whole") else None


def test_reasoning_takes_its_time() -> None:
    """A call that asks for it, and a model known for it, may be silent for minutes; others not."""
    assert (60, 30, 600) == found(deployment())
    assert (300, 120, 600) == found(deployment(), needs=THINKS)
    assert (300, 120, 600) == found(deployment(reasons=True))
    assert (300, 120, 600) == found(deployment(), deployment(reasons=True))


def test_what_an_operator_said_stands() -> None:
    """Of one deployment, and above all of them in a policy; a time that was set bounds whole answers as well."""
    quick = Times(5, 10, 7, 600)
    policy = pb.Timeouts(first_token=Duration(seconds=2))

    assert (10, 7, None) == found(deployment(quick, reasons=True), needs=THINKS)
    assert (2, 120, None) == found(deployment(), above=policy, needs=THINKS)
    assert (300, 120, 600) == found(deployment(quick), deployment(), needs=THINKS)


def test_a_policys_time_is_not_mixed_with_the_deployments() -> None:
    """Half a second of the one and ten seconds of the other are no ten and a half."""
    assert 0.5 == found(deployment(Times(5, 10, 7, 600)), above=pb.Timeouts(first_token=Duration(nanos=500_000_000)))[0]


def test_other_work_has_one_bound() -> None:
    """Vectors that are late will not come."""
    assert (60, 30, None) == found(deployment(), operation=chat_pb2.OPERATION_EMBEDDING)


def test_nobody_needs_no_time() -> None:
    """A plan without deployments has none either."""
    assert (0, 0, None) == found()
