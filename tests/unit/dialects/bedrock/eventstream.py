"""Event streams built from readable text; the encoder is the tests' own."""

import json
import struct
import zlib
from collections.abc import Iterable
from typing import Any


def header(name: str, value: str) -> bytes:
    """A header of type string."""
    raw_name, raw = name.encode(), value.encode()
    return bytes([len(raw_name)]) + raw_name + b"\x07" + struct.pack(">H", len(raw)) + raw


def message(headers: bytes, payload: bytes) -> bytes:
    """A message with its checksums."""
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    head = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + payload
    return head + struct.pack(">I", zlib.crc32(head))


def event(name: str, value: Any, *, kind: str = "event") -> bytes:
    """An event, or an exception, of a JSON value."""
    headers = header(f":{kind}-type", name) + header(":content-type", "application/json")
    return message(headers + header(":message-type", kind), json.dumps(value).encode())


def stream(events: Iterable[tuple[str, Any]]) -> bytes:
    """A stream of (name, value); a name that ends in `Exception` makes an exception."""
    return b"".join(
        event(name, value, kind="exception" if name.endswith("Exception") else "event") for name, value in events
    )


def lines(text: str) -> list[tuple[str, Any]]:
    """The events of a readable stream: one a line, its name and its JSON."""
    pairs = (line.split(" ", 1) for line in text.splitlines() if line.strip())
    return [(name, json.loads(value)) for name, value in pairs]
