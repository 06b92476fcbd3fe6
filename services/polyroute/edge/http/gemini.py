"""Gemini's doors: the model and the method stand in the path. https://ai.google.dev/api/generate-content."""

from contextlib import aclosing
from typing import Final

from polyroute.dialects import gemini_count_tokens, gemini_embeddings, gemini_generate
from polyroute.dialects.gemini.framing import ArrayWriter
from polyroute.dialects.task import Body
from polyroute.edge.call import Call
from polyroute.edge.http.body import Receive, Scope, Send
from polyroute.edge.http.door import Asked, Door
from polyroute.edge.http.exchange import JSON, Exchange
from polyroute.edge.http.manners import GEMINI

METHODS: Final = ("generateContent", "streamGenerateContent", "countTokens", "embedContent", "batchEmbedContents")
_KEY: Final = "x-goog-api-key"


class GeminiDoor:
    """Turns Gemini-format requests into calls.

    Args:
        door: What it has in common with the other doors.
    """

    def __init__(self, door: Door) -> None:
        self._door = door

    async def models(self, scope: Scope, receive: Receive, send: Send, model: str, method: str) -> None:
        """POST /v1beta/models/{model}:{method}."""

        async def work(asked: Asked) -> None:
            if "key" in asked.query:  # where this API's own examples put it
                asked.headers = {_KEY: asked.query["key"], **asked.headers}
            if method == "countTokens":
                await self._count(asked, model)
            elif method in ("embedContent", "batchEmbedContents"):
                await self._embed(asked, model)
            else:
                await self._generate(asked, model, stream=method == "streamGenerateContent")

        await self._door.exchange(scope, receive, GEMINI, work)

    async def _generate(self, asked: Asked, model: str, *, stream: bool) -> None:
        dialect = gemini_generate.DIALECT
        facts = dialect.read_facts(asked.body, default_model=model)
        facts.stream = facts.stream_usage = stream
        call = self._door.call(asked, dialect.name, facts)
        if stream and asked.query.get("alt") != "sse":
            await self._array(call, asked.exchange)
        else:
            await self._door.generate(call, asked.exchange)

    async def _array(self, call: Call, exchange: Exchange) -> None:
        """The stream as one JSON array that grows, which is what a client gets who does not ask for events."""
        array = ArrayWriter()
        async with aclosing(self._door.flow.generate(call)) as responses:
            async for response in responses:
                data = b"".join([event.encoded.data for event in response.events if event.HasField("encoded")])
                if not exchange.started:
                    exchange.open(JSON)
                last = response.events[-1].HasField("finished")
                await exchange.raw(array.feed(data) + (array.close() if last else b""), last=last)

    async def _count(self, asked: Asked, model: str) -> None:
        dialect = gemini_count_tokens.DIALECT
        facts = dialect.read_facts(Body(asked.body), default_model=model)
        await self._door.generate(self._door.call(asked, dialect.name, facts), asked.exchange)

    async def _embed(self, asked: Asked, model: str) -> None:
        dialect = gemini_embeddings.DIALECT
        facts = dialect.read_facts(asked.body, default_model=model)
        await self._door.embed(self._door.call(asked, dialect.name, facts), asked.exchange)
