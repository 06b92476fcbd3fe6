"""A vendor's error as it says it: read out of whichever envelope it came in.

Vendors that answer in the manner of the OpenAI API agree on no envelope, and gateways wrap a third vendor's error in
their own. What the error means is not decided here; see `faults`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import orjson

MAX_WORDS_CHARS: Final = 8192  # of an error that are searched for markers


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


def read_error(body: bytes) -> VendorError:
    """Reads an error out of an answer, JSON or not."""
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
        for name in ("innererror", "inner_error", "details"):
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
            return read_error(raw.encode("utf-8", "replace")[:MAX_WORDS_CHARS])
        if isinstance(raw, dict):
            return error_of({name: value for name, value in raw.items() if name != "metadata"})
    return None
