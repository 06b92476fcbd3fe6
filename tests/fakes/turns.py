"""What a fake vendor is told to say, and what it was asked, in no wire format.

The formats (`formats.py`, `own_formats.py`) are written by hand from the vendors' documentation and share nothing with
the gateway: what they hear is an independent reading of what the gateway sends.
"""

import base64
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

MODEL = "up-stream-1"  # how vendors call the model in their answers


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a tool; `arguments` are JSON text."""

    name: str
    arguments: str
    id: str = ""

    @property
    def given(self) -> Any:
        """The arguments, decoded."""
        return orjson.loads(self.arguments or "{}")


@dataclass(frozen=True, slots=True)
class Turn:
    """One answer.

    Attributes:
        text: Its words.
        echo: Its words are the question's last.
        reasoning: Its thoughts.
        seal: Opaque state of the thoughts, or of the first call where a format keeps it there.
        calls: Tools that it asks for.
        refusal: Its words when it declines, where a format tells them apart.
        cut_short: It ended at the bound on its length.
        fresh: Tokens of the question that were read.
        cached: Tokens of the question that were known.
        thought: Tokens of thoughts.
        spoken: Tokens of the answer.
        status: Other than 200: an error instead of an answer.
        says: Words of the error.
        retry_after: Seconds that the error's header names.
        breaks: A stream ends with an error after its content.
        cut: A stream ends with nothing after its content.
    """

    text: str = ""
    echo: bool = False
    reasoning: str = ""
    seal: str = ""
    calls: tuple[Call, ...] = ()
    refusal: str = ""
    cut_short: bool = False
    fresh: int = 7
    cached: int = 3
    thought: int = 4
    spoken: int = 5
    status: int = 200
    says: str = "overloaded for now"
    retry_after: float | None = None
    breaks: bool = False
    cut: bool = False

    @property
    def asked(self) -> int:
        """Tokens of the question."""
        return self.fresh + self.cached

    @property
    def answered(self) -> int:
        """Tokens of the answer, thoughts included."""
        return self.thought + self.spoken


@dataclass(slots=True)
class Heard:
    """One question, as this format's documentation says to read it.

    Attributes:
        texts: Who said what, in order; instructions are said by `system`.
        calls: Calls of the conversation so far.
        results: What they brought: the call's id, or the tool's name where the format has no ids.
        pictures: Bytes of pictures.
        tools: Names of the tools there are.
        seals: Opaque state that came back.
        schema: The JSON Schema that the answer must follow.
        stream: A stream is asked for.
        model: The model that is asked for, where the body says it.
    """

    texts: list[tuple[str, str]] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    results: list[tuple[str, str]] = field(default_factory=list)
    pictures: list[bytes] = field(default_factory=list)
    tools: list[str] = field(default_factory=list)
    seals: list[str] = field(default_factory=list)
    schema: Any = None
    stream: bool = False
    model: str = ""


class Format(ABC):
    """One wire format, the vendor's side of it.

    Attributes:
        name: As the gateway calls it.
        kind: Media type of its streams.
        ids: Calls have ids.
        counts: Which of `cached` and `thought` tokens it tells.
    """

    name: str
    kind: str = "text/event-stream"
    ids: bool = True
    counts: tuple[str, ...] = ("cached", "thought")

    @abstractmethod
    def whole(self, turn: Turn) -> Any:
        """A whole answer, as JSON."""

    @abstractmethod
    def stream(self, turn: Turn) -> list[bytes]:
        """A stream without its end, one event an entry."""

    @abstractmethod
    def end(self, turn: Turn) -> list[bytes]:
        """The end of a stream."""

    @abstractmethod
    def broken(self, turn: Turn) -> bytes:
        """What says in a stream that it breaks off."""

    @abstractmethod
    def error(self, turn: Turn) -> Any:
        """An error instead of an answer, as JSON."""

    @abstractmethod
    def hear(self, body: Any) -> Heard:
        """Reads a question."""


def compact(value: object) -> str:
    """JSON without spaces."""
    return orjson.dumps(value).decode()


def data(value: object) -> bytes:
    """An event without a name."""
    return b"data: " + orjson.dumps(value) + b"\n\n"


def named(name: str, value: object) -> bytes:
    """An event with a name."""
    return b"event: " + name.encode() + b"\n" + data(value)


def halves(text: str) -> Iterator[str]:
    """A text in two pieces, as a stream brings it."""
    middle = (len(text) + 1) // 2
    yield from (piece for piece in (text[:middle], text[middle:]) if piece)


def unpacked(url: str) -> bytes:
    """The bytes of a `data:` URL."""
    head, _, packed = url.partition(",")
    assert head.startswith("data:image/")
    assert head.endswith(";base64")
    return base64.b64decode(packed)


def text_in(content: Any, member: str = "text") -> str:
    """The words of a message's content, whichever of its two forms it has."""
    if isinstance(content, str):
        return content
    return "".join(entry.get(member, "") for entry in content or ())
