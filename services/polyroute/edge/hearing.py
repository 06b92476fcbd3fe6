"""The messages of an attempt: how they are waited for, and what they say."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final, Self

from polyroute.api.providers.v1.providers_pb2 import Finished, GenerateResponse
from polyroute.edge.trail import Trail

CONTENT: Final = frozenset({"text", "reasoning", "tool_call", "refusal", "audio", "image"})


def heard(response: GenerateResponse, trail: Trail) -> Finished | None:
    """Takes into the trail what a message says; how the attempt finished, when it is its last one."""
    finished = None
    for event in response.events:
        kind = event.WhichOneof("event")
        if kind == "encoded":
            trail.content_events += event.encoded.content_events
        elif kind == "chat":
            trail.content_events += event.chat.WhichOneof("event") in CONTENT
        elif kind == "result":
            trail.content_events += 1
        elif kind == "started":
            trail.opened(event.started)
        elif kind == "usage":
            trail.usage = event.usage
        elif kind == "finished":
            finished = event.finished
    return finished


class Lasting:
    """A stream that outlives its reader: each message is awaited in a task of its own.

    Args:
        stream: What the providers role answers.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._messages: AsyncIterator[GenerateResponse] = aiter(stream)
        self._next: asyncio.Task[GenerateResponse] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> GenerateResponse:
        if self._next is None:
            self._next = asyncio.ensure_future(anext(self._messages))
            self._next.add_done_callback(_retrieved)
        message = await asyncio.shield(self._next)
        self._next = None
        return message

    def cancel(self) -> None:
        """Ends the vendor's work."""
        if self._next is not None:
            self._next.cancel()
        self._stream.cancel()


def _retrieved(task: asyncio.Task[GenerateResponse]) -> None:
    """Whoever reads a message is told how it failed; nobody needs to be told that nobody reads it."""
    if not task.cancelled():
        task.exception()
