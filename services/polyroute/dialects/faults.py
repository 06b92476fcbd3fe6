"""Which fault a vendor's error is, for every vendor that answers in the manner of the OpenAI API.

The status alone does not say: one vendor refuses a bad key with 400, another reports an empty account as a rate limit,
and gateways wrap a third vendor's error in their own. So an error is first read out of whichever envelope it came in
(`vendor_error`), then matched against one table of markers, then classed by its status. Nothing here knows a vendor by
name.
"""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.errors.v1.errors_pb2 import Fault
from polyroute.dialects.retry_after import retry_after
from polyroute.dialects.vendor_error import MAX_WORDS_CHARS, VendorError, error_of, read_error
from polyroute.mesh.errors import MeshError

MAX_MESSAGE_CHARS: Final = 500

# Status -> fault, where no marker says better. Others: 5xx SERVER, 4xx CLIENT, anything else BAD_ANSWER.
_BY_STATUS: Final[Mapping[int, Fault.ValueType]] = {
    401: pb.FAULT_CREDENTIAL,
    402: pb.FAULT_QUOTA,
    403: pb.FAULT_CREDENTIAL,
    404: pb.FAULT_MODEL_GONE,
    408: pb.FAULT_SERVER,
    409: pb.FAULT_SERVER,
    410: pb.FAULT_MODEL_GONE,
    424: pb.FAULT_SERVER,
    425: pb.FAULT_SERVER,
    429: pb.FAULT_RATE,
}


@dataclass(frozen=True, slots=True)
class _Marker:
    """A sign of a fault: `codes` match the error's code or type whole, `words` its text; only under `statuses`."""

    fault: Fault.ValueType
    codes: frozenset[str] = frozenset()
    words: re.Pattern[str] | None = None
    statuses: frozenset[int] = frozenset()

    def matches(self, status: int, codes: frozenset[str], words: str) -> bool:
        if self.statuses and status not in self.statuses:
            return False
        return not self.codes.isdisjoint(codes) or bool(self.words and self.words.search(words))


_REFUSALS: Final = frozenset({0, 200, 400, 403, 404, 413, 422, 500})
_LIMITS: Final = frozenset({0, 200, 400, 402, 403, 429})

# First match decides, so the narrower stands before the wider. Codes are compared in lower case.
_MARKERS: Final = (
    _Marker(
        pb.FAULT_FILTER,
        codes=frozenset(
            {
                "content_filter",
                "content_policy_violation",
                "responsibleaipolicyviolation",
                "data_inspection_failed",
                "datainspectionfailed",
                "moderation_blocked",
                "content_moderation",
                "sensitive_content",
                "1301",
            }
        ),
        words=re.compile(
            r"violates (?:the |our )?(?:usage|content)[ -]|content management policy|flagged by moderation"
        ),
    ),
    _Marker(
        pb.FAULT_QUOTA,
        codes=frozenset(
            {
                "insufficient_quota",
                "billing_hard_limit_reached",
                "billing_not_active",
                "credit_balance_exhausted",
                "organization_spend_limit_exceeded",
                "project_spend_limit_exceeded",
                "usage_limit_reached",
                "usage_limit",
                "insufficient_balance",
                "insufficient_credits",
                "payment_required",
                "arrearage",
                "account_deactivated",
                "1113",
            }
        ),
        words=re.compile(r"credit balance|insufficient (?:balance|credits?|funds)|spend limit"),
        statuses=_LIMITS,
    ),
    _Marker(
        pb.FAULT_CONTEXT,
        codes=frozenset(
            {
                "context_length_exceeded",
                "exceed_context_size_error",
                "string_above_max_length",
                "max_tokens_exceeded",
            }
        ),
        words=re.compile(
            r"maximum context length|max(?:imum)? context length|context (?:window|size|length)\b.{0,40}exceed"
            r"|exceeds? (?:the )?(?:available |maximum |model'?s? )?context|prompt (?:is )?too long"
            r"|too large for model with|tokens?\) is too large to process|input or output tokens must be reduced"
            r"|range of input length"
        ),
    ),
    _Marker(
        pb.FAULT_CREDENTIAL,
        codes=frozenset({"invalid_api_key", "incorrect_api_key", "authentication_error", "invalid_authentication"}),
        words=re.compile(r"(?:incorrect|invalid|missing) (?:api[ -]key|authentication)"),
        statuses=frozenset({0, 200, 400, 401, 403, 404}),
    ),
    # the model is there, but not for this kind of work
    _Marker(
        pb.FAULT_UNSUPPORTED,
        codes=frozenset({"operationnotsupported"}),
        words=re.compile(
            r"(?:not|only) supported in (?:the )?v1/|did you mean to use v1/|does not work with the specified model"
            r"|^(?:invalid url|unknown request url)\b"
        ),
        statuses=frozenset({400, 404, 405}),
    ),
    _Marker(
        pb.FAULT_MODEL_GONE,
        codes=frozenset(
            {
                "model_not_found",
                "model_decommissioned",
                "model_deprecated",
                "invalid_model",
                "deploymentnotfound",
                "model_not_available",
                "unknown_model",
                "unsupported_model",
                "model_not_exist",
                "1211",
            }
        ),
        words=re.compile(
            r"\bmodel\b.{0,200}?(?:does not exist|not found|decommissioned|has been deprecated|was deprecated"
            r"|no longer (?:available|supported))"
        ),
        statuses=_REFUSALS,
    ),
    _Marker(
        pb.FAULT_RATE,
        codes=frozenset(
            {
                "rate_limit_exceeded",
                "rate_limit_error",
                "rate_limited",
                "ratelimitreached",
                "too_many_requests",
                "too_many_requests_error",
                "slow_down",
                "throttling",
                "tokens_exceeded_error",
            }
        ),
        statuses=_LIMITS,
    ),
    _Marker(
        pb.FAULT_SERVER,
        codes=frozenset(
            {
                "server_error",
                "internal_error",
                "internal_server_error",
                "service_unavailable",
                "overloaded",
                "overloaded_error",
                "engine_overloaded",
                "server_overloaded",
                "server_is_overloaded",
                "timeout",
                "bad_gateway",
            }
        ),
        statuses=frozenset({0, 200, 400, 429}),
    ),
    _Marker(
        pb.FAULT_CLIENT,
        codes=frozenset(
            {
                "invalid_request_error",
                "invalid_value",
                "tool_use_failed",
                "json_validate_failed",
                "invalid_parameter_error",
                "unsupported_parameter",
                "unsupported_value",
                "badrequesterror",
                "bad_request",
            }
        ),
        statuses=frozenset({0, 200}),
    ),
)

# Code -> the status that its vendor gives such an error where it can still choose one: inside a 200 it stands for it.
_STATED: Final[Mapping[str, int]] = {
    **dict.fromkeys(
        (
            "overloaded",
            "engine_overloaded",
            "engine_overloaded_error",
            "server_overloaded",
            "server_is_overloaded",
            "service_unavailable",
            "service_unavailable_error",
            "serviceunavailable",
            "unavailable",
        ),
        503,
    ),
    "overloaded_error": 529,
    "request_too_large": 413,
}

# What looks like a credential or an account in a vendor's words: it must not reach the caller.
_SECRET: Final = re.compile(
    r"\b(?:sk|pk|rk|gsk)[-_][A-Za-z0-9*_-]{6,}"
    r"|\b(?:org|proj|user|key|team)[-_](?=[A-Za-z_*-]{0,40}[0-9*])[A-Za-z0-9*_-]{8,}"
    r"|\b(?=[A-Za-z]{0,40}[0-9])[A-Za-z0-9]{24,}\b"
    r"|\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"
    r"|(?<=bearer )\S+|(?<=key provided: )[^\s.]+",
    re.IGNORECASE,
)


def fault_of(
    status: int, body: bytes, headers: Mapping[str, str], *, now: Callable[[], float] = time.time
) -> MeshError:
    """Classifies a vendor's answer that is an error: any status but 2xx, or an error inside a 200.

    Args:
        status: HTTP status of the answer.
        body: The answer, in any envelope, JSON or not.
        headers: Its headers, names in any case.
        now: Seconds since 1970, for headers that give a time of day.

    Returns:
        REASON_UPSTREAM with the fault, the vendor's words in at most 500 characters, metadata `upstream_status`,
        `vendor_code`, `param`, `should_retry` (as the vendor said) where known, and when to come back.
    """
    return classified(status, read_error(body), headers, now=now)


def fault_in(value: object) -> MeshError:
    """Classifies an error that stands inside an answer of status 200, given the decoded JSON around or of it."""
    return classified(200, error_of(value), {})


def check_status(answer: object) -> None:
    """Refuses an answer whose status stands in an object of its own, `base_resp`, and is not 0.

    The status becomes the last word of the message, in brackets, as the same vendors write it elsewhere.
    """
    told = answer.get("base_resp") if isinstance(answer, dict) else None
    code = told.get("status_code") if isinstance(told, dict) else 0
    if not code or not isinstance(told, dict):
        return
    words = told.get("status_msg")
    message = f"{words if isinstance(words, str) else 'the provider refused the request'} ({code})"
    raise classified(200, VendorError(message=message, codes=frozenset({str(code)}), code=str(code)), {})


def check_bare(answer: object) -> None:
    """Refuses an error that stands without an envelope where an answer would be: words, and a code or a type."""
    check_status(answer)
    error = error_of(answer)
    if error.message and error.codes:
        raise classified(200, error, {})


def classified(
    status: int, error: VendorError, headers: Mapping[str, str], *, now: Callable[[], float] = time.time
) -> MeshError:
    """The fault of an error that has been read already; see `fault_of`."""
    lower = {name.lower(): value for name, value in headers.items()}
    effective = status if status >= 300 else _stated(error) or status
    metadata = {"upstream_status": str(effective)}
    if error.code:
        metadata["vendor_code"] = error.code[:100]
    if error.param:
        metadata["param"] = error.param[:200]
    if lower.get("x-should-retry") in {"true", "false"}:
        metadata["should_retry"] = lower["x-should-retry"]
    message = _SECRET.sub("***", " ".join(error.message.split()))[:MAX_MESSAGE_CHARS]
    fault = _class_of(effective, error)
    wait = retry_after(lower, error.message, fault, now)
    return MeshError.upstream(fault, message or f"the provider answered {status}", retry_after=wait, **metadata)


def _stated(error: VendorError) -> int:
    """The status of an error inside an answer of another one: its own, or that of its code; 0 when it says none."""
    if 400 <= error.status < 600:
        return error.status
    return next((_STATED[code] for code in error.codes if code in _STATED), 0)


def _class_of(status: int, error: VendorError) -> Fault.ValueType:
    words = error.message[:MAX_WORDS_CHARS].lower()
    for marker in _MARKERS:
        if marker.matches(status, error.codes, words):
            return marker.fault
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if 500 <= status < 600:
        return pb.FAULT_SERVER
    return pb.FAULT_CLIENT if 400 <= status < 500 else pb.FAULT_BAD_ANSWER
