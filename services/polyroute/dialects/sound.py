"""How long a piece of sound is, told from its bytes: for bounds and for usage that a vendor does not state.

Exact for WAV with a length, near for MP3 of constant bit rate; a guess by size for everything else: of a middle bit
rate for usage, of a low one for bounds, which are to err long.
"""

from typing import Final

PCM_BYTES_PER_SECOND: Final = 48_000  # 24 kHz, 16 bits, one channel: what speech APIs call `pcm`
GUESSED_BYTES_PER_SECOND: Final = 8_000  # 64 kbit/s, between speech in Opus and music in AAC
LEAST_BYTES_PER_SECOND: Final = 2_000  # 16 kbit/s: speech in Opus is seldom sent with less

# MPEG audio layer III: kilobits a second by the header's index, for version 1 and for versions 2 and 2.5
# (ISO/IEC 11172-3 2.4.2.3, ISO/IEC 13818-3 2.4.2.3).
_MPEG_1: Final = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0)
_MPEG_2: Final = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0)
_SEARCHED: Final = 4096  # bytes after the tag in which the first frame must begin

# The first bytes of containers, and their usual ending.
_MAGIC: Final = (
    (b"RIFF", "audio/wav"),
    (b"ID3", "audio/mpeg"),
    (b"\xff\xf3", "audio/mpeg"),
    (b"\xff\xfb", "audio/mpeg"),
    (b"\xff\xf2", "audio/mpeg"),
    (b"\xff\xf1", "audio/aac"),
    (b"\xff\xf9", "audio/aac"),
    (b"OggS", "audio/ogg"),
    (b"fLaC", "audio/flac"),
    (b"\x1aE\xdf\xa3", "audio/webm"),
)
ENDINGS: Final = {
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "audio/mpeg": "mp3",
    "audio/mp3": "mp3",
    "audio/aac": "aac",
    "audio/ogg": "ogg",
    "audio/opus": "opus",
    "audio/flac": "flac",
    "audio/webm": "webm",
    "audio/mp4": "m4a",
    "audio/x-m4a": "m4a",
    "audio/pcm": "pcm",
}


def media_type(data: bytes) -> str:
    """What a piece of sound is, by its first bytes; empty when they do not tell."""
    if data[4:8] == b"ftyp":
        return "audio/mp4"
    return next((kind for magic, kind in _MAGIC if data.startswith(magic)), "")


def is_sound(content_type: str) -> bool:
    """Whether an answer of this media type is the sound itself."""
    return content_type.startswith(("audio/", "application/octet-stream", "video/", "application/ogg"))


def milliseconds(data: bytes, kind: str = "", *, size: int = 0, guess: int = GUESSED_BYTES_PER_SECOND) -> int:
    """Length of a piece of sound.

    Args:
        data: Its bytes, or at least its beginning.
        kind: Media type, format or file name; only raw PCM cannot be told without.
        size: Bytes of the whole, when `data` is its beginning.
        guess: Bytes a second of sound whose bytes do not tell.
    """
    size = size or len(data)
    if data.startswith(b"RIFF") and data[8:12] == b"WAVE":
        return _wav(data, size)
    if "pcm" in kind.lower():
        return size * 1000 // PCM_BYTES_PER_SECOND
    rate = _mp3_rate(data)
    return size * 1000 // (rate or guess)


def at_most(data: bytes, kind: str = "") -> int:
    """Milliseconds that a whole piece of sound hardly exceeds.

    Args:
        data: All of its bytes.
        kind: As `milliseconds` has it.
    """
    lossless = data.startswith(b"fLaC")
    return milliseconds(data, kind, guess=GUESSED_BYTES_PER_SECOND if lossless else LEAST_BYTES_PER_SECOND)


def _wav(data: bytes, size: int) -> int:
    """By the chunks of the file: `fmt ` holds bytes a second, `data` the samples."""
    rate, at = 0, 12
    while at + 8 <= len(data):
        name, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if name == b"fmt " and length >= 16:
            rate = int.from_bytes(data[at + 16 : at + 20], "little")
        elif name == b"data":
            # a stream does not know its length and writes the largest there is
            samples = min(length, max(0, size - at - 8))
            return samples * 1000 // (rate or PCM_BYTES_PER_SECOND)
        at += 8 + length + length % 2
    return size * 1000 // (rate or PCM_BYTES_PER_SECOND)


def _mp3_rate(data: bytes) -> int:
    """Bytes a second of the first frame of MP3; 0 when there is none."""
    start = 0
    if data.startswith(b"ID3") and len(data) > 10:
        tag = data[6:10]
        start = 10 + (tag[0] << 21 | tag[1] << 14 | tag[2] << 7 | tag[3])
    found = data.find(b"\xff", start, start + _SEARCHED)
    while found >= 0:
        header = data[found : found + 3]
        # eleven bits of sync, then version (not 01), layer III (01)
        if len(header) == 3 and header[1] & 0xE6 == 0xE2 and header[1] & 0x18 != 0x08:
            table = _MPEG_1 if header[1] & 0x18 == 0x18 else _MPEG_2
            rate = table[header[2] >> 4]
            if rate:
                return rate * 125
        found = data.find(b"\xff", found + 1, start + _SEARCHED)
    return 0
