"""How long sound is, told from its bytes."""

import pytest

from polyroute.api.modality.v1.modality_pb2 import Segment
from polyroute.dialects import sound, subtitles


def wav(length: int, samples: bytes) -> bytes:
    """Sound of 8 kHz, 16 bits, one channel, whose header says that length."""
    fmt = b"fmt \x10\0\0\0\1\0\1\0\x40\x1f\0\0\x80\x3e\0\0\2\0\x10\0"
    return b"RIFF\0\0\0\0WAVE" + b"LIST\x03\0\0\0abc\0" + fmt + b"data" + length.to_bytes(4, "little") + samples


MP3 = b"\xff\xfb\x90\x00"  # version 1, layer III, 128 kbit/s
TAGGED = b"ID3\x04\0\0\0\0\x00\x0a" + b"\0" * 10 + b"\xff\xf3\x84\x00"  # version 2, 64 kbit/s


@pytest.mark.parametrize(
    ("data", "kind", "size", "expected"),
    [
        (wav(16000, b"\0" * 16000), "", 0, 1000),
        (wav(0xFFFFFFFF, b"\0" * 32000), "", 0, 2000),
        (wav(0xFFFFFFFF, b""), "", 56 + 160_000, 10_000),
        (wav(16000, b"")[:20], "", 0, 0),
        (b"\0" * 48, "audio/pcm", 96_000, 2000),
        (MP3 + b"\0" * 15_996, "audio/mpeg", 0, 1000),
        (TAGGED, "", 8000, 1000),
        (b"OggS" + b"\0" * 100, "audio/ogg", 16_000, 2000),
        (b"", "", 0, 0),
    ],
)
def test_lengths(data: bytes, kind: str, size: int, expected: int) -> None:
    """By the header where there is one, by the size where there is none."""
    assert expected == sound.milliseconds(data, kind, size=size)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (wav(16000, b"\0" * 16000), 1000),
        (MP3 + b"\0" * 15_996, 1000),
        (b"OggS" + b"\0" * 15_996, 8000),
        (b"fLaC" + b"\0" * 15_996, 2000),
        (b"", 0),
    ],
)
def test_bounds_err_long(data: bytes, expected: int) -> None:
    """Where there is no more than the size to go by."""
    assert expected == sound.at_most(data)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"RIFF", "audio/wav"),
        (MP3, "audio/mpeg"),
        (b"fLaC", "audio/flac"),
        (b"\0\0\0 ftypM4A ", "audio/mp4"),
        (b"what", ""),
    ],
)
def test_kinds(data: bytes, expected: str) -> None:
    """By the first bytes."""
    assert expected == sound.media_type(data)


def test_subtitles_without_times_are_none() -> None:
    """Text that merely has lines and numbers."""
    assert subtitles.read("1\nhello --> you\n") is None
    assert [] == subtitles.read("WEBVTT\n\n")


def test_subtitles_come_back() -> None:
    """In both formats, hours included."""
    pieces = [
        Segment(text="hi", end_milliseconds=1),
        Segment(text="you", start_milliseconds=1, end_milliseconds=3_600_000),
    ]

    assert pieces == subtitles.read(subtitles.write_srt(pieces))
    assert pieces == subtitles.read(subtitles.write_vtt(pieces))
