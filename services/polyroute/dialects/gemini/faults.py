"""Which fault an error of this API is: `google.rpc.Status` as JSON, with details that say more than its code.

https://cloud.google.com/apis/design/errors. One status stands for many causes (400 INVALID_ARGUMENT for a bad key, 429
RESOURCE_EXHAUSTED for a minute's and for a day's limit), so the details and then the words decide before the status.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.errors.v1.errors_pb2 import Fault
from polyroute.dialects import faults
from polyroute.dialects.asking import object_in, objects_in, reclassed, text_of
from polyroute.dialects.gemini.common import loads
from polyroute.mesh.errors import MeshError

# `reason` of ErrorInfo -> fault. https://cloud.google.com/apis/design/errors#error_info
_BY_REASON: Final[Mapping[str, Fault.ValueType]] = {
    "API_KEY_INVALID": pb.FAULT_CREDENTIAL,
    "API_KEY_EXPIRED": pb.FAULT_CREDENTIAL,
    "API_KEY_SERVICE_BLOCKED": pb.FAULT_CREDENTIAL,
    "CREDENTIALS_MISSING": pb.FAULT_CREDENTIAL,
    "ACCESS_TOKEN_EXPIRED": pb.FAULT_CREDENTIAL,
    "SERVICE_DISABLED": pb.FAULT_CREDENTIAL,
    "CONSUMER_INVALID": pb.FAULT_CREDENTIAL,
    "BILLING_DISABLED": pb.FAULT_QUOTA,
}
# Words -> fault, under these statuses; the first match decides.
_BY_WORDS: Final = (
    (pb.FAULT_CREDENTIAL, (400, 401, 403), re.compile(r"api key not valid|api key expired|api keys are not supported")),
    (pb.FAULT_CONTEXT, (400, 413), re.compile(r"token count .{0,40}exceeds|exceeds the maximum number of tokens")),
    (pb.FAULT_FILTER, (400,), re.compile(r"responsible ai practices|prohibited content")),
    (
        pb.FAULT_UNSUPPORTED,
        (400,),
        re.compile(r"user location is not supported"),
    ),  # of this host; another vendor may do
    (pb.FAULT_QUOTA, (400, 403, 429), re.compile(r"prepayment credits|billing account|credits are depleted")),
)
# Canonical codes that an error inside a stream has instead of a status; 499 is the vendor's own cancellation.
_BY_CODE: Final[Mapping[str, Fault.ValueType]] = {
    "CANCELLED": pb.FAULT_SERVER,
    "ABORTED": pb.FAULT_SERVER,
    "UNKNOWN": pb.FAULT_SERVER,
    "INTERNAL": pb.FAULT_SERVER,
    "UNAVAILABLE": pb.FAULT_SERVER,
    "DEADLINE_EXCEEDED": pb.FAULT_SERVER,
    "DATA_LOSS": pb.FAULT_SERVER,
    "RESOURCE_EXHAUSTED": pb.FAULT_RATE,
    "UNAUTHENTICATED": pb.FAULT_CREDENTIAL,
    "PERMISSION_DENIED": pb.FAULT_CREDENTIAL,
    "NOT_FOUND": pb.FAULT_MODEL_GONE,
    "INVALID_ARGUMENT": pb.FAULT_CLIENT,
    "FAILED_PRECONDITION": pb.FAULT_CLIENT,
    "OUT_OF_RANGE": pb.FAULT_CLIENT,
}
_PER_DAY: Final = re.compile(r"per[ _]?day", re.IGNORECASE)
_SECONDS: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s")


def fault_of(status: int, body: bytes, headers: Mapping[str, str]) -> MeshError:
    """A vendor's refusal or failure as a classified error; see `dialects.faults.fault_of`."""
    error = faults.fault_of(status, body, headers)
    try:
        value = loads(body)
    except ValueError:
        return error
    return _refined(error, value)


def fault_in(value: object) -> MeshError:
    """Classifies an error inside an answer of status 200, given the decoded JSON around it."""
    return _refined(faults.fault_in(value), value)


def _refined(error: MeshError, value: object) -> MeshError:
    """The error with what its details say."""
    value = value[0] if isinstance(value, list) and value else value
    inner = object_in(object_in(value).get("error"))
    details = objects_in(inner.get("details"))
    reasons = [reason for detail in details if (reason := text_of(detail.get("reason")))]
    refined = reclassed(error, _class_of(error, text_of(inner.get("status")), details, reasons))
    if reasons:
        refined.metadata["vendor_code"] = reasons[0][:100]
    if refined.retry_after is None and refined.fault in (pb.FAULT_RATE, pb.FAULT_SERVER):
        refined.retry_after = next(_delays(details), None)
    if refined.fault == pb.FAULT_QUOTA:
        refined.retry_after = None  # the delay is of the next minute, the limit is not
    return refined


def _class_of(error: MeshError, code: str, details: list[dict[str, Any]], reasons: list[str]) -> Fault.ValueType:
    for reason in reasons:
        if reason in _BY_REASON:
            return _BY_REASON[reason]
    status = int(error.metadata.get("upstream_status", "0"))
    words = error.message.lower()
    for fault, statuses, pattern in _BY_WORDS:
        if status in statuses and pattern.search(words):
            return fault
    if status == 429 and (_PER_DAY.search(words) or any(_is_lasting(detail) for detail in details)):
        return pb.FAULT_QUOTA
    known = error.fault not in (pb.FAULT_CLIENT, pb.FAULT_BAD_ANSWER)
    return error.fault if known or status not in (200, 400, 499) else _BY_CODE.get(code, error.fault)


def _is_lasting(detail: dict[str, Any]) -> bool:
    """Whether a detail tells of a limit by the day, or of one that is zero: waiting a minute does not help."""
    if text_of(object_in(detail.get("metadata")).get("quota_limit_value")) == "0":
        return True
    violations = objects_in(detail.get("violations"))
    return any(_PER_DAY.search(text_of(violation.get("quotaId"))) for violation in violations)


def _delays(details: list[dict[str, Any]]) -> Iterator[float]:
    """Seconds to wait, from RetryInfo."""
    for detail in details:
        found = _SECONDS.fullmatch(text_of(detail.get("retryDelay")))
        if found:
            yield float(found.group(1))
