"""The faults of this API: the names of its exceptions and its own words, put into those of the general table.

An error names itself in the header `x-amzn-errortype`, in `__type`, or as the type of an exception in a stream; the
body is `{"message": ...}`, seldom `{"Message": ...}`.
https://docs.aws.amazon.com/bedrock/latest/userguide/troubleshooting-api-error-codes.html
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from polyroute.dialects import faults, jsontools
from polyroute.dialects.vendor_error import MAX_WORDS_CHARS, VendorError, error_of
from polyroute.mesh.errors import MeshError

# Name of an exception, lower case and without its ending -> a code that the general table knows.
_CODES: Final[Mapping[str, str]] = {
    "throttling": "rate_limit_exceeded",
    "toomanyrequests": "rate_limit_exceeded",
    "servicequotaexceeded": "insufficient_quota",
    "internalserver": "server_error",
    "internalfailure": "server_error",
    "serviceunavailable": "service_unavailable",
    "modelnotready": "overloaded",
    "modeltimeout": "timeout",
    "modelerror": "server_error",
    "modelstreamerror": "server_error",
    "accessdenied": "invalid_api_key",
    "expiredtoken": "invalid_api_key",
    "unrecognizedclient": "invalid_api_key",
    "invalidclienttokenid": "invalid_api_key",
    "invalidsignature": "invalid_api_key",
    "incompletesignature": "invalid_api_key",
    "signaturedoesnotmatch": "invalid_api_key",
    "missingauthenticationtoken": "invalid_api_key",
    "missingauthentication": "invalid_api_key",
    "optinrequired": "invalid_api_key",
    "requestexpired": "invalid_api_key",
    "notauthorized": "invalid_api_key",
    "resourcenotfound": "model_not_found",
    "validation": "invalid_request_error",
    "conflict": "invalid_request_error",
}
# What a message says beyond the name; the first that matches adds its code.
_WORDS: Final = (
    (re.compile(r"too many tokens per day|daily (?:token )?(?:limit|quota)"), "insufficient_quota"),
    (
        re.compile(r"input is too long|input length .{0,80}exceed|too many (?:input )?tokens in|prompt is too long"),
        "context_length_exceeded",
    ),
    (
        re.compile(
            r"model identifier is invalid|on-demand throughput isn.t supported|end of its life"
            r"|access to the model with the specified model id|could not resolve the foundation model"
        ),
        "model_not_found",
    ),
    (
        re.compile(
            r"security token included in the request is|signature expired|token has expired|api key .{0,40}valid"
        ),
        "invalid_api_key",
    ),
)
_STATUSES: Final[Mapping[str, int]] = {
    "throttling": 429,
    "modelnotready": 503,
    "modeltimeout": 408,
    "modelerror": 424,
    "modelstreamerror": 424,
    "serviceunavailable": 503,
    "internalserver": 500,
    "validation": 400,
    "accessdenied": 403,
    "resourcenotfound": 404,
    "servicequotaexceeded": 400,
}
# Names of resources hold account numbers and people's names: they must not reach the caller.
_ARN: Final = re.compile(r"\barn:[a-z0-9-]+:[^\s\"',)]+", re.IGNORECASE)
_ENDINGS: Final = ("exception", "error")


def fault_of(status: int, body: bytes, headers: Mapping[str, str]) -> MeshError:
    """See `dialect.Outbound.fault_of`."""
    name = next((value for header, value in headers.items() if header.lower() == "x-amzn-errortype"), "")
    try:
        value = jsontools.loads(body)
    except ValueError:
        return faults.fault_of(status, body, headers)
    return _classified(status, value, name, headers)


def fault_in(name: str, value: object) -> MeshError:
    """The fault of an exception in a stream, or of an error in an answer of status 200.

    Args:
        name: Type of the exception; empty when only the body says it.
        value: Its decoded JSON.
    """
    stated = value.get("originalStatusCode") if isinstance(value, dict) else None
    status = _STATUSES.get(_stem(_bare(name)), 200)
    if status == _STATUSES["modelstreamerror"] and isinstance(stated, int) and stated == 429:
        status = stated
    return _classified(status, value, name, {})


def is_error(value: Mapping[str, Any]) -> bool:
    """Whether the JSON of an answer is an error."""
    return "output" not in value and any(name in value for name in ("message", "Message", "__type", "error"))


def _classified(status: int, value: object, name: str, headers: Mapping[str, str]) -> MeshError:
    if isinstance(value, dict):
        if "Message" in value and "message" not in value:
            value = {**value, "message": value["Message"]}
        stated = value.get("__type")
        name = name or (stated if isinstance(stated, str) else "")
    name = _bare(name)
    error = error_of(value)
    words = error.message[:MAX_WORDS_CHARS].lower()
    told = next((code for pattern, code in _WORDS if pattern.search(words)), "")
    code = told or _CODES.get(_stem(name), "")
    error = replace(
        error,
        message=_ARN.sub("***", error.message),
        codes=error.codes | ({code} if code else frozenset()),
        code=name or error.code,
    )
    return faults.classified(_effective(status, code), _seen(error), headers)


def _effective(status: int, code: str) -> int:
    """A model that is not ready says so with 429, which the general table takes for our own rate."""
    return 503 if status == 429 and code == "overloaded" else status


def _seen(error: VendorError) -> VendorError:
    return error if error.code else replace(error, code=next(iter(error.codes), ""))


def _bare(name: str) -> str:
    """`com.amazon.service#ThrottlingException:http://...` is a ThrottlingException."""
    return name.split(":", 1)[0].rpartition("#")[2].strip()


def _stem(name: str) -> str:
    lower = name.lower()
    return next((lower.removesuffix(ending) for ending in _ENDINGS if lower.endswith(ending)), lower)
