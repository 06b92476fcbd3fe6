"""What the mock vendor is told to do with one request, and the marker in a prompt that tells it.

A marker stands anywhere in the last user message: `[[chunks=100 first=50 gap=20]]`. It reaches the vendor through any
gateway, because a gateway passes prompts on. Keys are the fields of `Script`; a flag is `0` or `1`. `for=MODEL` binds
a marker to one upstream model, so that one prompt can make the first deployment fail and the second answer:
`[[for=gpt-a status=503]] [[for=gpt-b chunks=5]]`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any, Final, Literal, get_args

Fault = Literal["cut", "stall", "garbage", "error"]
FAULTS: Final[tuple[Fault, ...]] = get_args(Fault)
MAX_CHUNKS: Final = 1_000_000

_MARKER: Final = re.compile(r"\[\[\s*(\w+=[^\s\]]+(?:\s+\w+=[^\s\]]+)*)\s*\]\]")


@dataclass(frozen=True, slots=True)
class Script:
    """How one request is answered. The default is a quick, complete, healthy answer.

    Attributes:
        chunks: Content chunks of a streamed answer, words of a unary one.
        first: Milliseconds before the first byte of the answer, its status line included.
        gap: Milliseconds between chunks; 0 sends them back to back in as few writes as possible.
        status: HTTP status; anything but 200 is answered with an error body at once, after `first`.
        retry_after: Seconds for the Retry-After header; no header when None.
        drop: Close the connection without a byte.
        cut: After that many chunks, close the connection; a unary answer is cut in its middle.
        stall: After that many chunks, send nothing more and keep the connection open.
        garbage: After that many chunks, send an event that is no JSON, then end as usual.
        error: After that many chunks, send an error event and end without `[DONE]`.
        usage: Whether token usage is told at all.
    """

    chunks: int = 16
    first: float = 0.0
    gap: float = 0.0
    status: int = 200
    retry_after: float | None = None
    drop: bool = False
    cut: int | None = None
    stall: int | None = None
    garbage: int | None = None
    error: int | None = None
    usage: bool = True

    @property
    def fault(self) -> tuple[Fault | None, int]:
        """The fault in mid-answer and the number of chunks before it; (None, chunks) for a whole answer."""
        for name in FAULTS:
            at: int | None = getattr(self, name)
            if at is not None:
                return name, min(at, self.chunks)
        return None, self.chunks

    def told(self, settings: Mapping[str, str]) -> "Script":
        """This script with some fields changed, as text. ValueError on an unknown key or a bad value."""
        changed: dict[str, Any] = {name: _value(name, text) for name, text in settings.items()}
        script = replace(self, **changed)
        if not 0 <= script.chunks <= MAX_CHUNKS:
            raise ValueError(f"chunks={script.chunks} is not in 0..{MAX_CHUNKS}")
        return script


def marker(**settings: float | str) -> str:
    """A marker for a prompt: `marker(chunks=3, gap=20)` is `[[chunks=3 gap=20]]`."""
    return "[[" + " ".join(f"{name}={value}" for name, value in settings.items()) + "]]"


def read(text: str, model: str = "", base: Script = Script()) -> Script:
    """The script that the markers of a prompt ask for, on top of `base`. ValueError when one cannot be understood."""
    found = tuple(_MARKER.findall(text)) if "[[" in text else ()
    return _apply(found, model, base) if found else base


@lru_cache(maxsize=1024)  # a load repeats one prompt
def _apply(markers: tuple[str, ...], model: str, base: Script) -> Script:
    script = base
    for found in markers:
        settings = dict(pair.split("=", 1) for pair in found.split())
        if settings.pop("for", model) == model:
            script = script.told(settings)
    return script


_TYPES: Final[Mapping[str, Any]] = {field.name: field.type for field in fields(Script)}


def _value(name: str, text: str) -> float | bool:
    wanted = _TYPES.get(name)
    if wanted is None:
        raise ValueError(f"unknown key {name!r} in a marker; known: for, {', '.join(_TYPES)}")
    if wanted is bool:
        return {"0": False, "1": True}[text] if text in {"0", "1"} else _bad(name, text)
    try:
        number = int(text) if wanted in {int, int | None} else float(text)
    except ValueError:
        return _bad(name, text)
    return number if number >= 0 else _bad(name, text)


def _bad(name: str, text: str) -> float:
    raise ValueError(f"{name}={text!r} is not a value of {name}")
