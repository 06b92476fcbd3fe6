"""Which fault a vendor's error is, for every vendor that answers in the manner of the OpenAI API.

The status alone does not say: one vendor refuses a bad key with 400, another reports an empty account as a rate limit,
and gateways wrap a third vendor's error in their own. So an error is first read out of whichever envelope it came in,
then matched against one table of markers, then classed by its status. Nothing here knows a vendor by name.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final

import orjson

from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.errors.v1.errors_pb2 import Fault
from polyroute.mesh.errors import MeshError

MAX_MESSAGE_CHARS: Final = 500
MAX_WORDS_CHARS: Final = 8192  # of an error that are searched for markers

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

# What looks like a credential or an account in a vendor's words: it must not reach the caller.
_SECRET: Final = re.compile(
    r"\b(?:sk|pk|rk|gsk)[-_][A-Za-z0-9*_-]{6,}"
    r"|\b(?:org|proj|user|key|team)[-_](?=[A-Za-z_*-]{0,40}[0-9*])[A-Za-z0-9*_-]{8,}"
    r"|\b(?=[A-Za-z]{0,40}[0-9])[A-Za-z0-9]{24,}\b"
    r"|\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"
    r"|(?<=bearer )\S+|(?<=key provided: )[^\s.]+",
    re.IGNORECASE,
)
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|h|m|s|d)")
_SECONDS: Final = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_HINT: Final = re.compile(
    r"(?:try again|retry)(?: after| in) ((?:\d+(?:\.\d+)?(?:ms|h|m|s|d))+|\d+(?:\.\d+)? ?(?:milli)?seconds?)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class VendorError:
    """An error as read out of its envelope.

    Attributes:
        message: The vendor's words; empty when it had none.
        codes: Its code, type and inner codes, lower case.
        code: The first of them, as the vendor wrote it; empty when none.
        status: HTTP status that the error itself names; 0 when it names none.
        param: The parameter it complains about; empty when it names none.
    """

    message: str = ""
    codes: frozenset[str] = frozenset()
    code: str = ""
    status: int = 0
    param: str = ""


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
    return classified(status, _read(body), headers, now=now)


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


def classified(
    status: int, error: VendorError, headers: Mapping[str, str], *, now: Callable[[], float] = time.time
) -> MeshError:
    """The fault of an error that has been read already; see `fault_of`."""
    lower = {name.lower(): value for name, value in headers.items()}
    effective = status if status >= 300 or not 400 <= error.status < 600 else error.status
    metadata = {"upstream_status": str(effective)}
    if error.code:
        metadata["vendor_code"] = error.code[:100]
    if error.param:
        metadata["param"] = error.param[:200]
    if lower.get("x-should-retry") in {"true", "false"}:
        metadata["should_retry"] = lower["x-should-retry"]
    message = _SECRET.sub("***", " ".join(error.message.split()))[:MAX_MESSAGE_CHARS]
    fault = _class_of(effective, error)
    retry_after = _retry_after(lower, error.message, fault, now)
    return MeshError.upstream(fault, message or f"the provider answered {status}", retry_after=retry_after, **metadata)


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


def _read(body: bytes) -> VendorError:
    try:
        value = orjson.loads(body)
    except ValueError:
        text = body[:MAX_WORDS_CHARS].decode("utf-8", "replace").strip()
        # a page is for browsers: its markup says nothing to a caller
        return VendorError() if text.startswith("<") else VendorError(message=text)
    return error_of(value)


def error_of(value: object) -> VendorError:
    """Reads an error out of any of the envelopes in use.

    They are `{error: {...}}`, `{error: "..."}`, `{message}`, `{detail}`, `{errors: [...]}`, and those inside a list.
    """
    if isinstance(value, list):
        value = value[0] if value else {}
    if not isinstance(value, dict):
        return VendorError(message=value if isinstance(value, str) else "")
    levels = list(_levels(value))
    message = next((text for level in levels if (text := _message(level))), "")
    codes = [code for level in levels for code in _codes(level)]
    inner = _inner(levels)
    if inner and inner.message and inner.message not in message:
        message = f"{message}: {inner.message}" if message else inner.message
    words = [code for code in codes if not code.isdigit() or len(code) != 3]
    return VendorError(
        message=message,
        codes=frozenset(code.lower() for code in codes) | (inner.codes if inner else frozenset()),
        code=words[0] if words else "",
        status=next((number for level in levels for number in _statuses(level)), 0),
        param=next((level["param"] for level in levels if isinstance(level.get("param"), str)), ""),
    )


def _levels(value: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The object that holds the error, innermost first."""
    error = value.get("error")
    if isinstance(error, dict):
        yield error
        for name in ("innererror", "inner_error"):
            if isinstance(error.get(name), dict):
                yield error[name]
    elif isinstance(value.get("errors"), list) and value["errors"] and isinstance(value["errors"][0], dict):
        yield value["errors"][0]
    yield value


def _message(level: dict[str, Any]) -> str:
    for name in ("message", "msg", "detail", "error", "error_message"):
        text = level.get(name)
        if isinstance(text, str) and text.strip():
            return text
        if name == "detail" and isinstance(text, list | dict) and text:
            return orjson.dumps(text).decode()[:MAX_WORDS_CHARS]
    return ""


def _codes(level: dict[str, Any]) -> Iterator[str]:
    for name in ("code", "type", "status", "error_type", "error_code"):
        code = level.get(name)
        if isinstance(code, str) and code and code != "error":
            yield code
        elif isinstance(code, int) and not isinstance(code, bool):
            yield str(code)


def _statuses(level: dict[str, Any]) -> Iterator[int]:
    for name in ("status_code", "raw_status_code", "status", "code"):
        number = level.get(name)
        if isinstance(number, str) and number.isdigit() and len(number) == 3:
            number = int(number)
        if isinstance(number, int) and 400 <= number < 600:
            yield number


def _inner(levels: list[dict[str, Any]]) -> VendorError | None:
    """The error of the vendor behind a vendor: as text or JSON in `metadata.raw`."""
    for level in levels:
        metadata = level.get("metadata")
        raw = metadata.get("raw") if isinstance(metadata, dict) else None
        if isinstance(raw, str) and raw:
            return _read(raw.encode("utf-8", "replace")[:MAX_WORDS_CHARS])
        if isinstance(raw, dict):
            return error_of({name: value for name, value in raw.items() if name != "metadata"})
    return None


def _retry_after(
    headers: Mapping[str, str], message: str, fault: Fault.ValueType, now: Callable[[], float]
) -> float | None:
    for name in ("retry-after-ms", "x-ms-retry-after-ms"):
        number = _number(headers.get(name, ""))
        if number is not None:
            return number / 1000
    stated = headers.get("retry-after", "")
    seconds = _number(stated)
    if seconds is None and stated:
        seconds = _until(stated, headers.get("date", ""), now)
    if seconds is not None or fault not in (pb.FAULT_RATE, pb.FAULT_QUOTA):
        return seconds
    return _reset(headers, now) if _reset(headers, now) is not None else _hint(message)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 <= number < 1e10 else None


def _until(stated: str, date: str, now: Callable[[], float]) -> float | None:
    try:
        until = parsedate_to_datetime(stated).timestamp()
    except ValueError:
        return None
    try:
        since = parsedate_to_datetime(date).timestamp()  # the vendor's own clock, when it tells
    except ValueError:
        since = now()
    return max(0.0, until - since)


def _reset(headers: Mapping[str, str], now: Callable[[], float]) -> float | None:
    """When the limits that are used up refill; of all limits when none says that it is."""
    resets = {
        name.removeprefix("x-ratelimit-reset").lstrip("-"): seconds
        for name, value in headers.items()
        if name.startswith("x-ratelimit-reset") and (seconds := _seconds(value, now)) is not None
    }
    used_up = [
        seconds
        for kind, seconds in resets.items()
        if headers.get(f"x-ratelimit-remaining-{kind}".rstrip("-"), "") == "0"
    ]
    return max(used_up or resets.values(), default=None)


def _seconds(value: str, now: Callable[[], float]) -> float | None:
    """A duration (`6m0s`, `7.66`) or a point in time (epoch seconds or milliseconds)."""
    number = _number(value) if len(value) < 12 else None
    if number is None and value.isdigit() and len(value) == 13:
        return max(0.0, int(value) / 1000 - now())
    if number is not None:
        return max(0.0, number - now()) if number > 5e8 else number
    found = _DURATION.findall(value)
    return sum(float(amount) * _SECONDS[unit] for amount, unit in found) if found else None


def _hint(message: str) -> float | None:
    found = _HINT.search(message[:MAX_WORDS_CHARS])
    if not found:
        return None
    text = found.group(1).lower()
    if "second" in text:
        return float(text.split("m")[0].split("s")[0].strip()) * (1e-3 if "milli" in text else 1.0)
    return sum(float(amount) * _SECONDS[unit] for amount, unit in _DURATION.findall(text))
