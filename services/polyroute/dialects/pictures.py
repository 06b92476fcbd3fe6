"""What the first bytes of a picture say about it: its media type, and its size in pixels. Nothing is decoded.

Formats: PNG (https://www.w3.org/TR/png-3/), GIF89a, WebP (https://developers.google.com/speed/webp/docs/riff_container),
JPEG (ITU-T T.81, annex B).
"""

from typing import Final

_PNG: Final = b"\x89PNG\r\n\x1a\n"
# Start-of-frame markers of JPEG: all of C0-CF but DHT (C4), JPG (C8) and DAC (CC).
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BARE: Final = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length


def media_type(data: bytes) -> str:
    """IANA media type of a picture; empty when it is none of the four."""
    if data.startswith(_PNG):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    return "image/webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else ""


def size(data: bytes) -> tuple[int, int] | None:
    """Width and height in pixels; None when they cannot be told."""
    kind = media_type(data)
    if kind == "image/png" and len(data) >= 24:
        found = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    elif kind == "image/gif" and len(data) >= 10:
        found = int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")
    elif kind == "image/webp" and len(data) >= 30:
        found = _webp(data)
    else:
        found = _jpeg(data) if kind == "image/jpeg" else (0, 0)
    return found if all(found) else None


def _webp(data: bytes) -> tuple[int, int]:
    form = data[12:16]
    if form == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if form == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if form == b"VP8 ":
        return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF
    return 0, 0


def _jpeg(data: bytes) -> tuple[int, int]:
    place = 2
    while place + 9 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker in _FRAMES:
            return int.from_bytes(data[place + 7 : place + 9], "big"), int.from_bytes(
                data[place + 5 : place + 7], "big"
            )
        if marker in _BARE or marker == 0xFF:
            place += 1 if marker == 0xFF else 2
            continue
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return 0, 0
