"""The one error type, over the wire and back."""

import grpc
import pytest
from grpc.aio import AioRpcError, Metadata
from hypothesis import given
from hypothesis import strategies as st

from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.errors.v1.errors_pb2 import Fault, Reason
from polyroute.mesh.errors import CODES, DETAILS_KEY, DOMAIN, MAX_MESSAGE_CHARS, MeshError, from_rpc

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)


def over_the_wire(error: MeshError) -> MeshError:
    """What the other side makes of it."""
    details = error.to_status().SerializeToString()
    return from_rpc(AioRpcError(error.code, Metadata(), Metadata((DETAILS_KEY, details)), details=error.message))


def bare(code: grpc.StatusCode, details: str = "") -> AioRpcError:
    return AioRpcError(code, Metadata(), Metadata(), details=details)


@given(
    reason=st.sampled_from(Reason.values()),
    message=TEXT,
    metadata=st.dictionaries(TEXT, TEXT, max_size=4),
    retry_after=st.none() | st.floats(0, 10**6),
    violations=st.lists(st.tuples(TEXT, TEXT), max_size=3),
    code=st.none() | st.sampled_from([code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]),
)
def test_nothing_is_lost(
    reason: Reason.ValueType,
    message: str,
    metadata: dict[str, str],
    retry_after: float | None,
    violations: list[tuple[str, str]],
    code: grpc.StatusCode | None,
) -> None:
    """Reason, words, metadata, wait, violations and code arrive as they were raised."""
    sent = MeshError(reason, message, metadata=metadata, retry_after=retry_after, violations=violations, code=code)
    got = over_the_wire(sent)

    assert (sent.reason, sent.message, sent.metadata, sent.violations, sent.code) == (
        got.reason,
        got.message,
        got.metadata,
        got.violations,
        got.code,
    )
    assert (retry_after is None) == (got.retry_after is None)
    assert got.retry_after == pytest.approx(retry_after, abs=1e-6) or retry_after is None


def test_every_reason_has_a_code() -> None:
    """A new one has to be decided."""
    assert set(Reason.values()) == set(CODES)


@pytest.mark.parametrize("fault", Fault.values(), ids=Fault.Name)
def test_vendors_fault(fault: Fault.ValueType) -> None:
    """Travels by name."""
    got = over_the_wire(MeshError.upstream(fault, "m", upstream_status="503", retry_after=1.5))

    assert (fault, "503", 1.5, pb.REASON_UPSTREAM) == (
        got.fault,
        got.metadata["upstream_status"],
        got.retry_after,
        got.reason,
    )


@pytest.mark.parametrize("name", ["", "FAULT_OF_TOMORROW", "fault_server"])
def test_fault_of_a_newer_peer(name: str) -> None:
    """Is not classified, and breaks nothing."""
    assert pb.FAULT_UNSPECIFIED == MeshError(pb.REASON_UPSTREAM, "m", metadata={"fault": name}).fault


def test_reason_of_a_newer_peer() -> None:
    """The code still says what class of failure it is."""
    error = MeshError(pb.REASON_RATE_LIMITED, "m")
    status = error.to_status().SerializeToString().replace(b"RATE_LIMITED", b"RATE_LIMITEX")
    got = from_rpc(AioRpcError(error.code, Metadata(), Metadata((DETAILS_KEY, status)), details="m"))

    assert (pb.REASON_UNSPECIFIED, grpc.StatusCode.RESOURCE_EXHAUSTED) == (got.reason, got.code)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (grpc.StatusCode.UNAVAILABLE, pb.REASON_SERVICE_UNAVAILABLE),
        (grpc.StatusCode.UNIMPLEMENTED, pb.REASON_SERVICE_UNAVAILABLE),
        (grpc.StatusCode.DEADLINE_EXCEEDED, pb.REASON_DEADLINE),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, pb.REASON_TOO_LARGE),
        (grpc.StatusCode.INVALID_ARGUMENT, pb.REASON_INVALID_REQUEST),
        (grpc.StatusCode.INTERNAL, pb.REASON_INTERNAL),
        (grpc.StatusCode.UNKNOWN, pb.REASON_INTERNAL),
        (grpc.StatusCode.UNAUTHENTICATED, pb.REASON_INTERNAL),
    ],
)
def test_bare_status(code: grpc.StatusCode, reason: Reason.ValueType) -> None:
    """What the runtime itself says; words that a proxy could have put there refuse nobody."""
    got = from_rpc(bare(code))

    assert (reason, code, code.name.lower()) == (got.reason, got.code, got.message)


def test_status_is_in_the_public_form() -> None:
    """Other languages read it with their own libraries."""
    from google.rpc import error_details_pb2

    status = MeshError(pb.REASON_BUDGET_EXHAUSTED, "spent", metadata={"subject": "key_1"}).to_status()
    info, quota = error_details_pb2.ErrorInfo(), error_details_pb2.QuotaFailure()
    status.details[0].Unpack(info)
    status.details[1].Unpack(quota)

    assert (8, DOMAIN, "BUDGET_EXHAUSTED") == (status.code, info.domain, info.reason)
    assert ("key_1", "spent") == (quota.violations[0].subject, quota.violations[0].description)


def test_message_is_bounded() -> None:
    """It rides in trailers."""
    assert MAX_MESSAGE_CHARS == len(MeshError(pb.REASON_INTERNAL, "x" * 10_000).message)
