"""Transcripts with times as text: SubRip (`srt`) and WebVTT (https://www.w3.org/TR/webvtt1/)."""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from polyroute.api.modality.v1.modality_pb2 import Segment

VTT: Final = "WEBVTT"
_TIMES: Final = re.compile(
    r"^(?:(\d{1,4}):)?([0-5]?\d):([0-5]?\d)[.,](\d{3})[ \t]+-->[ \t]+(?:(\d{1,4}):)?([0-5]?\d):([0-5]?\d)[.,](\d{3})"
)


def read(text: str) -> list[Segment] | None:
    """The pieces of either format with their times; None when the text is in neither."""
    blocks = re.split(r"\n[ \t]*\n", text.replace("\r\n", "\n").strip("\ufeff\n \t"))
    segments: list[Segment] = []
    for block in blocks:
        lines = block.split("\n")
        place = next((number for number, line in enumerate(lines[:2]) if _TIMES.match(line)), None)
        if place is not None:
            segments.append(_segment(lines[place], lines[place + 1 :]))
    return segments if segments or text.startswith(VTT) else None


def _segment(times: str, words: Sequence[str]) -> Segment:
    found = _TIMES.match(times)
    figures = [int(figure or 0) for figure in found.groups()] if found else [0] * 8
    return Segment(
        text=" ".join(line.strip() for line in words),
        start_milliseconds=_joined(figures[:4]),
        end_milliseconds=_joined(figures[4:]),
    )


def _joined(figures: Sequence[int]) -> int:
    hours, minutes, seconds, rest = figures
    return ((hours * 60 + minutes) * 60 + seconds) * 1000 + rest


def write_srt(segments: Iterable[Segment]) -> str:
    """SubRip."""
    return "\n".join(
        f"{number}\n{_times(segment, ',')}\n{segment.text.strip()}\n" for number, segment in enumerate(segments, 1)
    )


def write_vtt(segments: Iterable[Segment]) -> str:
    """WebVTT."""
    cues = [f"{_times(segment, '.')}\n{segment.text.strip()}\n" for segment in segments]
    return "\n".join([f"{VTT}\n", *cues])


def _times(segment: Segment, mark: str) -> str:
    return f"{_clock(segment.start_milliseconds, mark)} --> {_clock(segment.end_milliseconds, mark)}"


def _clock(milliseconds: int, mark: str) -> str:
    seconds, rest = divmod(max(0, milliseconds), 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{mark}{rest:03}"
