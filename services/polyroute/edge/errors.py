"""The one table from the mesh's errors to what HTTP callers see. Unknown errors are a bare 500.

What OpenAI's clients branch on: the status, `error.code`, `x-should-retry` and `retry-after`
(https://platform.openai.com/docs/guides/error-codes). A vendor's trouble with our account is never shown as the
caller's: their key is fine.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import orjson

from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.errors.v1.errors_pb2 import Fault, Reason
from polyroute.mesh.errors import MeshError


@dataclass(frozen=True, slots=True)
class Shape:
    """How an error looks in OpenAI's dialect.

    Attributes:
        status: HTTP status.
        kind: `error.type`.
        code: `error.code`.
        retry: What `x-should-retry` says; None leaves it to the client.
        message: Stands instead of the error's own text, where that is not for callers.
    """

    status: int
    kind: str
    code: str | None
    retry: bool | None = None
    message: str = ""


REASONS: Final[Mapping[Reason.ValueType, Shape]] = {
    pb.REASON_INVALID_REQUEST: Shape(400, "invalid_request_error", "invalid_request"),
    pb.REASON_CREDENTIAL_MISSING: Shape(401, "invalid_request_error", "invalid_api_key"),
    pb.REASON_CREDENTIAL_INVALID: Shape(401, "invalid_request_error", "invalid_api_key"),
    pb.REASON_NOT_PERMITTED: Shape(403, "invalid_request_error", "not_permitted"),
    pb.REASON_MODEL_NOT_FOUND: Shape(404, "invalid_request_error", "model_not_found"),
    pb.REASON_NO_DEPLOYMENT: Shape(400, "invalid_request_error", "no_deployment"),
    pb.REASON_RATE_LIMITED: Shape(429, "rate_limit_error", "rate_limit_exceeded"),
    pb.REASON_BUDGET_EXHAUSTED: Shape(429, "insufficient_quota", "insufficient_quota", retry=False),
    pb.REASON_TOO_LARGE: Shape(413, "invalid_request_error", "request_too_large", retry=False),
    pb.REASON_OVERLOADED: Shape(503, "server_error", "overloaded"),
    pb.REASON_SERVICE_UNAVAILABLE: Shape(
        503, "server_error", "service_unavailable", message="the gateway cannot serve just now"
    ),
    pb.REASON_DEADLINE: Shape(504, "server_error", "deadline_exceeded"),
    pb.REASON_NOT_FOUND: Shape(404, "invalid_request_error", "not_found"),
    pb.REASON_STREAM_BROKEN: Shape(502, "server_error", "stream_broken"),
    pb.REASON_USAGE_UNAVAILABLE: Shape(503, "server_error", "usage_unavailable"),
    pb.REASON_IDEMPOTENCY_RUNNING: Shape(409, "idempotency_error", "idempotency_key_in_use"),
    pb.REASON_IDEMPOTENCY_MISMATCH: Shape(422, "idempotency_error", "idempotency_key_reused", retry=False),
    pb.REASON_DRAINING: Shape(503, "server_error", "server_draining"),
    pb.REASON_CHANGED: Shape(409, "invalid_request_error", "changed", retry=False),
    pb.REASON_EXISTS: Shape(409, "invalid_request_error", "already_exists", retry=False),
    pb.REASON_IDEMPOTENCY_NOT_KEPT: Shape(409, "idempotency_error", "idempotency_answer_not_kept", retry=False),
}
FAULTS: Final[Mapping[Fault.ValueType, Shape]] = {
    pb.FAULT_CONNECT: Shape(502, "upstream_error", "upstream_unreachable"),
    pb.FAULT_SERVER: Shape(502, "upstream_error", "upstream_error"),
    pb.FAULT_RATE: Shape(429, "rate_limit_error", "rate_limit_exceeded"),
    pb.FAULT_QUOTA: Shape(
        502, "upstream_error", "upstream_quota", retry=False, message="the vendor's quota of this gateway is used up"
    ),
    pb.FAULT_CREDENTIAL: Shape(
        502,
        "upstream_error",
        "upstream_credentials",
        retry=False,
        message="the vendor refused this gateway's credentials",
    ),
    pb.FAULT_MODEL_GONE: Shape(404, "invalid_request_error", "model_not_found", retry=False),
    pb.FAULT_CLIENT: Shape(400, "invalid_request_error", None),
    pb.FAULT_CONTEXT: Shape(400, "invalid_request_error", "context_length_exceeded"),
    pb.FAULT_FILTER: Shape(400, "invalid_request_error", "content_filter"),
    pb.FAULT_AMBIGUOUS: Shape(504, "upstream_error", "upstream_timeout"),
    pb.FAULT_BAD_ANSWER: Shape(502, "upstream_error", "upstream_bad_answer"),
    pb.FAULT_STALL: Shape(504, "upstream_error", "upstream_timeout"),
    pb.FAULT_TRUNCATED: Shape(502, "upstream_error", "upstream_truncated"),
    pb.FAULT_UNSUPPORTED: Shape(400, "invalid_request_error", "unsupported_parameter"),
}
# Refusals of one reason that clients tell apart, by the `cause` that they have beside it.
CAUSES: Final[Mapping[str, Shape]] = {
    "account_suspended": Shape(403, "invalid_request_error", "account_suspended", retry=False),
    "project_suspended": Shape(403, "invalid_request_error", "project_suspended", retry=False),
    "model_price_unknown": Shape(400, "invalid_request_error", "model_price_unknown", retry=False),
}
# A request each of whose parts makes sense, but not together.
CONTRADICTION: Final = Shape(422, "invalid_request_error", "invalid_request")
UNKNOWN: Final = Shape(500, "server_error", "internal_error", message="internal error")
_CALLERS_FAULT: Final = range(400, 500)
_SAID: Final = frozenset({pb.REASON_SERVICE_UNAVAILABLE})
_OVERLOADED: Final = frozenset({503, 529})  # the second is no standard, but in wide use for the same


def shape_of(error: MeshError) -> Shape:
    """How an error looks to an HTTP caller."""
    if error.reason != pb.REASON_UPSTREAM:
        if error.metadata.get("status") == "422":
            return CONTRADICTION
        shape = CAUSES.get(error.metadata.get("cause", "")) or REASONS.get(error.reason, UNKNOWN)
        # why a model cannot be had just now is for callers, unlike which part of the gateway is away
        return replace(shape, message="") if error.reason in _SAID and "model" in error.metadata else shape
    shape = FAULTS.get(error.fault, UNKNOWN)
    status = int(error.metadata.get("upstream_status") or 0)
    if error.fault == pb.FAULT_CLIENT and status in _CALLERS_FAULT:
        code = error.metadata.get("vendor_code")
        return Shape(status, shape.kind, code if code != shape.kind else None)  # a vendor without one repeats its type
    if error.fault == pb.FAULT_SERVER and (error.retry_after is not None or status in _OVERLOADED):
        return Shape(503, shape.kind, shape.code)
    return shape


def body_of(error: MeshError, shape: Shape) -> bytes:
    """The error as JSON in OpenAI's form."""
    return orjson.dumps(
        {
            "error": {
                "message": shape.message or error.message,
                "type": shape.kind,
                "param": error.metadata.get("param"),
                "code": shape.code,
            }
        }
    )


def headers_of(error: MeshError, shape: Shape) -> list[tuple[bytes, bytes]]:
    """What the error adds to an answer's headers."""
    headers: list[tuple[bytes, bytes]] = []
    if error.retry_after is not None:
        headers.append((b"retry-after", b"%d" % max(1, math.ceil(error.retry_after))))
        headers.append((b"retry-after-ms", b"%d" % max(1, math.ceil(error.retry_after * 1000))))
    if shape.retry is not None:
        headers.append((b"x-should-retry", b"true" if shape.retry else b"false"))
    places = {name: error.metadata.get(name, "") for name in ("deployment", "provider")}
    headers += [
        (f"x-polyroute-{name}".encode(), place.encode())
        for name, place in places.items()
        if place.isascii() and place.isprintable() and place
    ]
    return headers
