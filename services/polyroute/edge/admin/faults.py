"""Errors of administration over HTTP: `google.rpc.Status` as JSON, with the id of the request (https://google.aip.dev/193)."""

import math
from collections.abc import Mapping
from typing import Any, Final

import orjson
from google.protobuf import any_pb2, json_format
from google.rpc import error_details_pb2

from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.mesh.errors import MeshError

# https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto says which status each code is over HTTP
STATUSES: Final[Mapping[str, int]] = {
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "UNAUTHENTICATED": 401,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
}
# What is said in the place of texts that are for operators, and not for whoever asks.
_HIDDEN: Final = {
    pb.REASON_SERVICE_UNAVAILABLE: "the gateway cannot serve just now",
    pb.REASON_INTERNAL: "internal error",
    pb.REASON_UNSPECIFIED: "internal error",
}


def status_of(error: MeshError) -> int:
    """The HTTP status."""
    return 413 if error.reason == pb.REASON_TOO_LARGE else STATUSES[error.code.name]


def body_of(error: MeshError, request_id: str, status: int | None = None) -> bytes:
    """The body: `{"error": {"code", "message", "status", "details"}}`.

    Args:
        error: What went wrong.
        request_id: Names the request, as the header `x-request-id` does.
        status: The HTTP status where it is not the error's own.
    """
    asked = any_pb2.Any()
    asked.Pack(error_details_pb2.RequestInfo(request_id=request_id))
    details: list[Any] = [json_format.MessageToDict(one) for one in (*error.to_status().details, asked)]
    told = {
        "code": status or status_of(error),
        "message": _HIDDEN.get(error.reason, error.message),
        "status": error.code.name,
        "details": details,
    }
    return orjson.dumps({"error": told})


def headers_of(error: MeshError) -> dict[str, str]:
    """What the error adds to an answer's headers."""
    headers: dict[str, str] = {}
    if error.code.name == "UNAUTHENTICATED":
        headers["www-authenticate"] = 'Bearer realm="polyroute"'  # RFC 6750, section 3
    if error.retry_after is not None:
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after)))
    return headers
