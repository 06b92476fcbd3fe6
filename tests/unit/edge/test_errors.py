"""The table from the mesh's errors to what HTTP callers see."""

import orjson
import pytest

from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.errors.v1.errors_pb2 import Fault, Reason
from polyroute.edge.errors import FAULTS, REASONS, body_of, headers_of, shape_of
from polyroute.mesh.errors import MeshError

SECRET = "Incorrect API key provided: sk-live-1234"
STATUS = {
    pb.REASON_UNSPECIFIED: 500,
    pb.REASON_INVALID_REQUEST: 400,
    pb.REASON_CREDENTIAL_MISSING: 401,
    pb.REASON_CREDENTIAL_INVALID: 401,
    pb.REASON_NOT_PERMITTED: 403,
    pb.REASON_MODEL_NOT_FOUND: 404,
    pb.REASON_NO_DEPLOYMENT: 400,
    pb.REASON_RATE_LIMITED: 429,
    pb.REASON_BUDGET_EXHAUSTED: 429,
    pb.REASON_TOO_LARGE: 413,
    pb.REASON_OVERLOADED: 503,
    pb.REASON_DRAINING: 503,
    pb.REASON_SERVICE_UNAVAILABLE: 503,
    pb.REASON_DEADLINE: 504,
    pb.REASON_INTERNAL: 500,
    pb.REASON_NOT_FOUND: 404,
    pb.REASON_STREAM_BROKEN: 502,
    pb.REASON_USAGE_UNAVAILABLE: 503,
    pb.REASON_IDEMPOTENCY_RUNNING: 409,
    pb.REASON_IDEMPOTENCY_MISMATCH: 422,
    pb.REASON_IDEMPOTENCY_NOT_KEPT: 409,
    pb.REASON_CHANGED: 409,
    pb.REASON_EXISTS: 409,
}
UPSTREAM_STATUS = {
    pb.FAULT_UNSPECIFIED: 500,
    pb.FAULT_CONNECT: 502,
    pb.FAULT_SERVER: 502,
    pb.FAULT_RATE: 429,
    pb.FAULT_QUOTA: 502,
    pb.FAULT_CREDENTIAL: 502,
    pb.FAULT_MODEL_GONE: 404,
    pb.FAULT_CLIENT: 400,
    pb.FAULT_CONTEXT: 400,
    pb.FAULT_FILTER: 400,
    pb.FAULT_AMBIGUOUS: 504,
    pb.FAULT_BAD_ANSWER: 502,
    pb.FAULT_STALL: 504,
    pb.FAULT_TRUNCATED: 502,
    pb.FAULT_UNSUPPORTED: 400,
}
CLIENTS_CODES = {  # what OpenAI's clients branch on
    pb.REASON_CREDENTIAL_MISSING: "invalid_api_key",
    pb.REASON_CREDENTIAL_INVALID: "invalid_api_key",
    pb.REASON_MODEL_NOT_FOUND: "model_not_found",
    pb.REASON_RATE_LIMITED: "rate_limit_exceeded",
    pb.REASON_BUDGET_EXHAUSTED: "insufficient_quota",
}


def upstream(fault: Fault.ValueType, **metadata: str) -> MeshError:
    return MeshError.upstream(fault, SECRET, retry_after=None, **metadata)


def shown(error: MeshError) -> dict[str, str | None]:
    answer: dict[str, dict[str, str | None]] = orjson.loads(body_of(error, shape_of(error)))
    assert ["error"] == list(answer)
    return answer["error"]


def headers(error: MeshError) -> dict[bytes, bytes]:
    return dict(headers_of(error, shape_of(error)))


@pytest.mark.parametrize("reason", [value for value in Reason.values() if value != pb.REASON_UPSTREAM], ids=Reason.Name)
def test_every_reason_has_a_status_and_a_body(reason: Reason.ValueType) -> None:
    """Four members, the text for people, a type; nothing is left to chance."""
    error = MeshError(reason, "what happened", metadata={"param": "model"})

    assert STATUS[reason] == shape_of(error).status
    assert {"message", "type", "param", "code"} == set(shown(error))
    assert "model" == shown(error)["param"]
    assert CLIENTS_CODES.get(reason, shown(error)["code"]) == shown(error)["code"]


@pytest.mark.parametrize("fault", Fault.values(), ids=Fault.Name)
def test_every_fault_has_a_status_and_a_body(fault: Fault.ValueType) -> None:
    """A vendor's trouble with our account never looks like the caller's: no 401, no 402, no 403."""
    error = upstream(fault)

    assert UPSTREAM_STATUS[fault] == shape_of(error).status
    assert shown(error)["message"]


def test_tables_are_complete() -> None:
    """What the tables leave out is meant to be a bare 500."""
    assert {pb.REASON_UNSPECIFIED, pb.REASON_INTERNAL, pb.REASON_UPSTREAM} == set(Reason.values()) - set(REASONS)
    assert {pb.FAULT_UNSPECIFIED} == set(Fault.values()) - set(FAULTS)


@pytest.mark.parametrize("fault", [pb.FAULT_CREDENTIAL, pb.FAULT_QUOTA, pb.FAULT_UNSPECIFIED], ids=Fault.Name)
def test_text_about_our_account_is_not_shown(fault: Fault.ValueType) -> None:
    """A vendor names the key that it refused; the caller has nothing to do with it."""
    assert SECRET.encode() not in body_of(upstream(fault), shape_of(upstream(fault)))


@pytest.mark.parametrize(
    "reason", [pb.REASON_INTERNAL, pb.REASON_UNSPECIFIED, pb.REASON_SERVICE_UNAVAILABLE], ids=Reason.Name
)
def test_text_about_our_insides_is_not_shown(reason: Reason.ValueType) -> None:
    """It is in the log."""
    error = MeshError(reason, "connect to unix:/run/auth.sock failed")

    assert "auth.sock" not in str(shown(error))


@pytest.mark.parametrize("status", [400, 413, 415, 422])
def test_vendors_refusal_of_a_request_keeps_its_status_and_code(status: int) -> None:
    """A client that branches on them finds what it would have found at the vendor's."""
    error = upstream(pb.FAULT_CLIENT, upstream_status=str(status), vendor_code="unsupported_value", param="top_k")

    assert status == shape_of(error).status
    assert ("unsupported_value", "top_k", SECRET) == tuple(shown(error)[name] for name in ("code", "param", "message"))


@pytest.mark.parametrize(
    ("status", "retry_after", "expected"),
    [("500", None, 502), ("503", None, 503), ("529", None, 503), ("500", 2.0, 503), ("", None, 502)],
)
def test_failing_vendor_that_says_when_to_come_back(status: str, retry_after: float | None, expected: int) -> None:
    """503 invites another try, 502 does not say."""
    error = MeshError.upstream(pb.FAULT_SERVER, "failed", retry_after=retry_after, upstream_status=status)

    assert expected == shape_of(error).status


def test_unknown_price_has_a_code_of_its_own() -> None:
    """It is no lack of deployments: the key has a budget, and what the call costs could not be counted."""
    error = MeshError(pb.REASON_NO_DEPLOYMENT, "no price", metadata={"model": "m", "cause": "model_price_unknown"})

    assert (400, "model_price_unknown") == (shape_of(error).status, shown(error)["code"])
    assert "no_deployment" == shown(MeshError(pb.REASON_NO_DEPLOYMENT, "nobody", metadata={"model": "m"}))["code"]


@pytest.mark.parametrize(
    ("seconds", "whole", "milliseconds"), [(0.0, b"1", b"1"), (0.2, b"1", b"200"), (7.1, b"8", b"7100")]
)
def test_time_to_come_back_is_told_twice(seconds: float, whole: bytes, milliseconds: bytes) -> None:
    """Whole seconds never tell a client to come back too early; the exact time stands beside them."""
    told = headers(MeshError(pb.REASON_RATE_LIMITED, "too many calls", retry_after=seconds))

    assert (whole, milliseconds) == (told[b"retry-after"], told[b"retry-after-ms"])


@pytest.mark.parametrize(
    "error",
    [
        MeshError(pb.REASON_BUDGET_EXHAUSTED, "spent"),
        MeshError(pb.REASON_TOO_LARGE, "large"),
        upstream(pb.FAULT_QUOTA),
        upstream(pb.FAULT_CREDENTIAL),
        upstream(pb.FAULT_MODEL_GONE),
    ],
    ids=lambda error: str(shape_of(error).code),
)
def test_clients_are_told_not_to_retry_where_it_cannot_help(error: MeshError) -> None:
    """They would retry a 429 and every 5xx by themselves."""
    assert b"false" == headers(error)[b"x-should-retry"]


def test_place_of_the_failure_is_told_unless_it_would_break_the_header() -> None:
    """Names come from configuration; one that no header can hold is left out."""
    told = headers(upstream(pb.FAULT_SERVER, provider="acme", deployment="acme/gpt\r\nx-evil: 1"))

    assert {b"x-polyroute-provider": b"acme"} == told
