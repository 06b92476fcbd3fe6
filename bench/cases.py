"""What is measured: each case is one prompt, asked in one way."""

from dataclasses import dataclass
from typing import Final

import orjson

from bench.load import Load
from bench.script import marker

PROSE: Final = (
    "You help the operations team of a shipping company. Name the page of the manual that you rely on, say so when you "
    "do not know, and keep to what can be checked: a command that nobody has run is a guess. Write short paragraphs. "
)
QUESTION: Final = "The night's export stopped at row 48,113 with exit status 3. What should I look at first?"
BIG_BYTES: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One way to ask.

    Attributes:
        name: How `--tests` names it.
        title: How the table names it.
        chunks: Chunks of each answer.
        first: Milliseconds that the vendor takes before it answers.
        gap: Milliseconds between its chunks.
        stream: Whether the answer is streamed; decides whether cost is per chunk or per request.
        concurrency: Requests at once.
        requests: How many in all; None to ask for as long as `--seconds` says.
        ramp: Seconds over which they begin.
        padding: Bytes of prompt beside the ordinary one.
        once: Measured in the first repeat only.
        translated: Whether the vendor behind the model speaks Messages, where a target can translate; the others are
            asked as ever, so that the comparison is with passing on.
    """

    name: str
    title: str
    chunks: int = 1
    first: float = 0
    gap: float = 0
    stream: bool = False
    concurrency: int = 1
    requests: int | None = None
    ramp: float = 0
    padding: int = 0
    once: bool = False
    translated: bool = False

    def body(self, model: str) -> bytes:
        """The request's body: a system prompt and a short talk, about 1.5 KB without padding."""
        words = 16 if not self.stream else self.chunks
        padding = (PROSE * (self.padding // len(PROSE) + 1))[: self.padding]
        request = {
            "model": model,
            "messages": [
                {"role": "system", "content": PROSE * 3},
                {"role": "user", "content": QUESTION + padding},
                {"role": "assistant", "content": "At the exit status: 3 says that the target was full. Page 12."},
                {"role": "user", "content": f"It is not full. {marker(chunks=words, first=self.first, gap=self.gap)}"},
            ],
            "temperature": 0.7,
            "max_tokens": 512,
        }
        streamed = {"stream": True, "stream_options": {"include_usage": True}} if self.stream else {}
        return orjson.dumps(request | streamed)

    def load(self, url: str, model: str, headers: dict[str, str], seconds: float) -> Load:
        """The load that asks this of an address."""
        lasts = self.ramp + (self.first + self.gap * self.chunks) / 1000 * self.waves
        return Load(
            url=f"{url}/chat/completions",
            body=self.body(model),
            headers=headers,
            concurrency=self.concurrency,
            requests=self.requests or 1_000_000,
            seconds=seconds if self.requests is None else 3 * lasts + 10,
            ramp=self.ramp,
            timeout=3 * max(lasts, seconds) + 10,
            chunks=self.chunks,
            stream=self.stream,
        )

    @property
    def waves(self) -> int:
        """How often each connection asks; 1 when the time decides."""
        return -(-self.requests // self.concurrency) if self.requests else 1


CASES: Final[tuple[Case, ...]] = (
    Case(name="unary", title="unary, 16 at once", concurrency=16),
    Case(name="unary50", title="unary, 16 at once, the vendor takes 50 ms", concurrency=16, first=50),
    Case(name="stream100", title="stream of 100 chunks, back to back, one at a time", stream=True, chunks=100),
    Case(name="stream500", title="stream of 500 chunks, back to back, one at a time", stream=True, chunks=500),
    Case(
        name="paced20",
        title="20 streams at once, 100 chunks each, one every 20 ms",
        stream=True,
        chunks=100,
        gap=20,
        concurrency=20,
        requests=40,
    ),
    Case(
        name="paced500",
        title="500 streams at once, 40 chunks each, one every 50 ms",
        stream=True,
        chunks=40,
        gap=50,
        concurrency=500,
        requests=500,
        ramp=1,
    ),
    Case(
        name="paced2000",
        title="2,000 streams at once, 10 chunks each, one every 500 ms",
        stream=True,
        chunks=10,
        gap=500,
        concurrency=2000,
        requests=2000,
        ramp=4,
        once=True,
    ),
    Case(
        name="translated",
        title="unary, 16 at once, chat completions from a vendor of Messages",
        concurrency=16,
        translated=True,
    ),
    Case(
        name="translated_stream100",
        title="stream of 100 chunks, back to back, one at a time, chat completions from a vendor of Messages",
        stream=True,
        chunks=100,
        translated=True,
    ),
    Case(name="big", title="unary, 4 at once, body of 1 MB", concurrency=4, padding=BIG_BYTES),
)
