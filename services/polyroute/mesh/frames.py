"""Records in a file that a crash may have cut and a disk may have damaged: how they are framed and found again.

A record is a frame: 4 bytes mark, 4 bytes length, 4 bytes CRC-32 of the payload, then the payload; integers are
little-endian. The checksum starts from the frame's own offset in its file, so that bytes of a frame that turn up
elsewhere (inside a payload, at another place) are not taken for one.
"""

import struct
from dataclasses import dataclass, field
from typing import Final
from zlib import crc32

MARK: Final = b"\xff\xfePS"  # no UTF-8 text holds its first two bytes
HEADER: Final = struct.Struct("<4sII")


@dataclass(slots=True)
class Scan:
    """What stands in a piece of a file."""

    payloads: list[bytes] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    """Offset in the file behind each payload's frame."""
    gaps: list[tuple[int, int]] = field(default_factory=list)
    """Damaged stretches between frames: first offset and the one behind."""
    end: int = 0
    """Offset behind the last whole frame."""


def frame(payload: bytes, offset: int) -> bytes:
    """`payload` as it stands at `offset` of its file."""
    return HEADER.pack(MARK, len(payload), crc32(payload, offset)) + payload


def scan(data: bytes, offset: int = 0, limit: int | None = None) -> Scan:
    """Reads at most `limit` frames from `data`, which stands at `offset` of its file."""
    found = Scan(end=offset)
    at = 0
    while limit is None or len(found.payloads) < limit:
        payload = _payload(data, at, offset)
        if payload is None:
            after = _resume(data, at, offset)
            if after is None:
                break
            found.gaps.append((offset + at, offset + after))
            at = after
            continue
        at += HEADER.size + len(payload)
        found.payloads.append(payload)
        found.end = offset + at
        found.ends.append(found.end)
    return found


def _payload(data: bytes, at: int, offset: int) -> bytes | None:
    """The payload of the frame at `at`; None when no whole, sound frame is there."""
    start = at + HEADER.size
    if start > len(data):
        return None
    mark, length, checksum = HEADER.unpack_from(data, at)
    if mark != MARK or start + length > len(data):
        return None
    payload = data[start : start + length]
    return payload if crc32(payload, offset + at) == checksum else None


def _resume(data: bytes, at: int, offset: int) -> int | None:
    """Where the next sound frame behind `at` begins; None when there is none."""
    at = data.find(MARK, at + 1)
    while at >= 0:
        if _payload(data, at, offset) is not None:
            return at
        at = data.find(MARK, at + 1)
    return None
