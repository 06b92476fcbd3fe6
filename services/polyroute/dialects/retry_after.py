"""When to come back to a vendor that refused: out of the headers of its answer, else out of its words.

Vendors tell it as a number of seconds or milliseconds, as a duration, as a point in time, or in a sentence; and what
they tell of limits may be of several, of which the used up ones count.
"""

import re
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Final

from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.errors.v1.errors_pb2 import Fault
from polyroute.dialects.vendor_error import MAX_WORDS_CHARS

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|h|m|s|d)")
_SECONDS: Final = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_HINT: Final = re.compile(
    r"(?:try again|retry)(?: after| in) ((?:\d+(?:\.\d+)?(?:ms|h|m|s|d))+|\d+(?:\.\d+)? ?(?:milli)?seconds?)",
    re.IGNORECASE,
)


def retry_after(
    headers: Mapping[str, str], message: str, fault: Fault.ValueType, now: Callable[[], float]
) -> float | None:
    """When a vendor may be asked again.

    Args:
        headers: Of its answer, names in lower case.
        message: Its words.
        fault: What its error is: what it says of its limits counts only where one of them was reached.
        now: Seconds since 1970, for headers that give a time of day.

    Returns:
        Seconds from now; None when it does not tell.
    """
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
    reset = _reset(headers, now)
    return reset if reset is not None else _hint(message)


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
