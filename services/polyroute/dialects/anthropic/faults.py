"""Which fault an error of this format is: the general table, and what only this format says."""

import re
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects import faults
from polyroute.dialects.vendor_error import VendorError, error_of, read_error
from polyroute.mesh.errors import MeshError

# Error types of this format that no status speaks for, because they come inside a 200 or under a general status.
_BY_TYPE: Final = {
    "api_error": errors_pb2.FAULT_SERVER,
    "timeout_error": errors_pb2.FAULT_SERVER,
    "conflict_error": errors_pb2.FAULT_SERVER,
    "billing_error": errors_pb2.FAULT_QUOTA,
    "permission_error": errors_pb2.FAULT_CREDENTIAL,
    "not_found_error": errors_pb2.FAULT_MODEL_GONE,
}
_UNCLEAR: Final = (errors_pb2.FAULT_BAD_ANSWER, errors_pb2.FAULT_UNSPECIFIED)
# What an account may spend is reached. A limit of the tier is answered like a rate limit, with a code in the error's
# details; a limit that the customer set like a wrong request: https://platform.claude.com/docs/en/api/rate-limits
_SPENT_CODE: Final = "enforced_spend_limit_reached"
_SPENT: Final = {
    errors_pb2.FAULT_RATE: re.compile(r"spend(?:ing)? limit|usage limit|" + _SPENT_CODE),
    errors_pb2.FAULT_CLIENT: re.compile(r"reached your (?:specified )?(?:workspace )?api usage limit"),
}
_RESET: Final = re.compile(r".*ratelimit-(.+)-reset$")


def fault_of(
    status: int, body: bytes, headers: Mapping[str, str], *, now: Callable[[], float] = time.time
) -> MeshError:
    """See `dialect.Dialect.fault_of`; `now` is seconds since 1970, for headers that give a time of day."""
    said = read_error(body)
    error = _refined(faults.classified(status, said, headers, now=now), said)
    if error.fault == errors_pb2.FAULT_RATE and error.retry_after is None:
        error.retry_after = _reset(headers, now)
    return error


def fault_in(value: object) -> MeshError:
    """The class of an error that stands inside an answer of status 200, given the decoded JSON around or of it."""
    said = error_of(value)
    return _refined(faults.classified(200, said, {}), said)


def _refined(error: MeshError, said: VendorError) -> MeshError:
    """The error with the class that its type tells where the general table found none, and its details elsewhere."""
    fault = error.fault
    if fault in _UNCLEAR:
        fault = _BY_TYPE.get(error.metadata.get("vendor_code", ""), fault)
    elif fault in _SPENT and (_SPENT_CODE in said.codes or _SPENT[fault].search(error.message.lower())):
        fault = errors_pb2.FAULT_QUOTA
    error.metadata["fault"] = errors_pb2.Fault.Name(fault)
    return error


def _reset(headers: Mapping[str, str], now: Callable[[], float]) -> float | None:
    """Seconds until the limits that are used up refill, given as RFC 3339 times; of all limits when none says so."""
    lower = {name.lower(): value for name, value in headers.items()}
    waits: dict[bool, list[float]] = {True: [], False: []}
    for name, value in lower.items():
        found = _RESET.match(name)
        if not found:
            continue
        try:
            until = datetime.fromisoformat(value).timestamp()
        except (ValueError, OverflowError):
            continue
        used_up = lower.get(name.removesuffix("reset") + "remaining") == "0"
        waits[used_up].append(max(0.0, until - now()))
    return max(waits[True] or waits[False], default=None)
