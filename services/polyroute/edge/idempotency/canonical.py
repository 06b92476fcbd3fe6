"""A JSON document in the one form that all its spellings share: RFC 8785, the JSON Canonicalization Scheme.

Where that form is undefined, because the document is no I-JSON (RFC 7493), two spellings are told apart rather than
taken for one: whole numbers beyond 2^53 keep their digits, and what cannot be read stays as it is.
"""

from typing import Any, Final

import orjson

_FIXED_BELOW: Final = 21  # digits before the point up to which ECMAScript writes no exponent
_FIXED_ABOVE: Final = -6  # zeros behind the point up to which it writes none


def canonical(body: bytes) -> bytes:
    """The document's canonical form; the body itself when it is no JSON or nested too deeply."""
    try:
        value = orjson.loads(body)
        pieces: list[bytes] = []
        _write(value, pieces)
    except (orjson.JSONDecodeError, RecursionError):
        return body
    return b"".join(pieces)


def _write(value: Any, pieces: list[bytes]) -> None:
    if isinstance(value, dict):
        between = b"{"
        for name in sorted(value, key=_utf16):
            pieces += (between, orjson.dumps(name), b":")
            _write(value[name], pieces)
            between = b","
        pieces.append(b"}" if value else b"{}")
    elif isinstance(value, list):
        between = b"["
        for item in value:
            pieces.append(between)
            _write(item, pieces)
            between = b","
        pieces.append(b"]" if value else b"[]")
    elif isinstance(value, float):
        pieces.append(number(value))
    else:
        pieces.append(orjson.dumps(value))  # text, whole numbers, true, false and null are written alike


def _utf16(name: str) -> bytes:
    """What members are ordered by: their UTF-16 code units (RFC 8785, 3.2.3)."""
    return name.encode("utf-16-be")


def number(value: float) -> bytes:
    """A number as ECMAScript writes it (ECMA-262, Number::toString), which RFC 8785, 3.2.2.3 asks for."""
    if value == 0:
        return b"0"  # minus zero too
    sign = "-" if value < 0 else ""
    # the shortest digits that give this number again are the same in both languages; only their layout differs
    mantissa, _, exponent = f"{abs(value)!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    if fraction == "0":
        fraction = ""
    point = len(whole) + int(exponent or 0)
    digits = (whole + fraction).lstrip("0")
    point -= len(whole + fraction) - len(digits)
    digits = digits.rstrip("0")
    return (sign + _laid_out(digits, point)).encode()


def _laid_out(digits: str, point: int) -> str:
    """`0.digits` times ten to the power of `point`."""
    if len(digits) <= point <= _FIXED_BELOW:
        return digits + "0" * (point - len(digits))
    if 0 < point <= _FIXED_BELOW:
        return f"{digits[:point]}.{digits[point:]}"
    if _FIXED_ABOVE < point <= 0:
        return "0." + "0" * -point + digits
    fraction = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{digits[0]}{fraction}e{point - 1:+d}"
