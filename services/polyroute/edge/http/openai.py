"""OpenAI's doors: chat completions, completions, embeddings, responses; the same under Azure's paths."""

from typing import Final

from polyroute.dialects import (
    jsontools,
    openai_chat,
    openai_compact,
    openai_completions,
    openai_embeddings,
    openai_input_tokens,
    openai_responses,
)
from polyroute.dialects.task import Body
from polyroute.edge.http import manners
from polyroute.edge.http.body import Receive, Scope, Send
from polyroute.edge.http.door import Asked, Door
from polyroute.edge.http.pins import Pin

EMBEDDINGS: Final = "openai.embeddings"
_INPUT: Final = jsontools.quoted(frozenset({"input"}))
_CHAT: Final = (openai_chat.DIALECT.name, openai_chat.DIALECT.read_facts, manners.OPENAI)
_COMPLETIONS: Final = (openai_completions.DIALECT.name, openai_completions.DIALECT.read_facts, manners.OPENAI)
_RESPONSES: Final = (openai_responses.DIALECT.name, openai_responses.DIALECT.read_facts, manners.RESPONSES)
# What may follow `/openai/deployments/{model}` in Azure's scheme.
AZURE: Final = (
    "/chat/completions",
    "/completions",
    "/embeddings",
    "/responses",
    "/responses/compact",
    "/responses/input_tokens",
)


class OpenAiDoor:
    """Turns OpenAI-format requests into calls.

    Args:
        door: What it has in common with the other doors.
    """

    def __init__(self, door: Door) -> None:
        self._door = door

    async def chat(self, scope: Scope, receive: Receive, send: Send, model: str = "") -> None:
        """POST /v1/chat/completions; some editors send the body of a response here, and want chat's answer."""
        door, (dialect, read, how) = self._door, _CHAT

        async def work(asked: Asked) -> None:
            other = _is_response(asked.body)
            if other:
                asked.body = _as_chat(asked.body)
            facts = read(asked.body, default_model=model or asked.model)
            if other:
                facts.stream_usage = False  # only a vendor was asked for it: such clients know no chunk without choices
            await door.generate(door.call(asked, dialect, facts), asked.exchange)

        await door.exchange(scope, receive, how, work)

    async def completions(self, scope: Scope, receive: Receive, send: Send, model: str = "") -> None:
        """POST /v1/completions."""
        door, (dialect, read, how) = self._door, _COMPLETIONS

        async def work(asked: Asked) -> None:
            facts = read(asked.body, default_model=model or asked.model)
            await door.generate(door.call(asked, dialect, facts), asked.exchange)

        await door.exchange(scope, receive, how, work)

    async def responses(self, scope: Scope, receive: Receive, send: Send, model: str = "") -> None:
        """POST /v1/responses."""
        door, (dialect, read, how) = self._door, _RESPONSES

        async def work(asked: Asked) -> None:
            facts = read(asked.body, default_model=model or asked.model)
            await door.generate(door.call(asked, dialect, facts), asked.exchange, Pin(asked.trail))

        await door.exchange(scope, receive, how, work)

    async def compact(self, scope: Scope, receive: Receive, send: Send, model: str = "") -> None:
        """POST /v1/responses/compact."""
        door, dialect = self._door, openai_compact.DIALECT

        async def work(asked: Asked) -> None:
            facts = dialect.read_facts(asked.body, default_model=model or asked.model)
            await door.generate(door.call(asked, dialect.name, facts), asked.exchange, Pin(asked.trail, stored=False))

        await door.exchange(scope, receive, manners.RESPONSES, work)

    async def input_tokens(self, scope: Scope, receive: Receive, send: Send, model: str = "") -> None:
        """POST /v1/responses/input_tokens."""
        door, dialect = self._door, openai_input_tokens.DIALECT

        async def work(asked: Asked) -> None:
            facts = dialect.read_facts(Body(asked.body), default_model=model or asked.model)
            await door.generate(door.call(asked, dialect.name, facts), asked.exchange)

        await door.exchange(scope, receive, manners.RESPONSES, work)

    async def embeddings(self, scope: Scope, receive: Receive, send: Send, model: str = "") -> None:
        """POST /v1/embeddings."""
        door = self._door

        async def work(asked: Asked) -> None:
            facts = openai_embeddings.read_facts(asked.body, default_model=model or asked.model)
            await door.embed(door.call(asked, EMBEDDINGS, facts), asked.exchange)

        await door.exchange(scope, receive, manners.OPENAI, work)

    async def azure(self, scope: Scope, receive: Receive, send: Send, model: str, rest: str) -> None:
        """POST /openai/deployments/{model}{rest}, where the deployment is the model."""
        if rest == "/embeddings":
            await self.embeddings(scope, receive, send, model)
        elif rest == "/responses":
            await self.responses(scope, receive, send, model)
        elif rest == "/responses/compact":
            await self.compact(scope, receive, send, model)
        elif rest == "/responses/input_tokens":
            await self.input_tokens(scope, receive, send, model)
        elif rest == "/chat/completions":
            await self.chat(scope, receive, send, model)
        else:
            await self.completions(scope, receive, send, model)


def _is_response(body: bytes) -> bool:
    """Whether a body is one of `/v1/responses`: what it asks stands in `input`, and there are no messages."""
    if not jsontools.holds(body, _INPUT):
        return False
    members = jsontools.members_of(body)
    return "input" in members and "messages" not in members


def _as_chat(body: bytes) -> bytes:
    """The body of a response as that of a chat completion."""
    request = openai_responses.DIALECT.read_request(body)
    stream = openai_responses.DIALECT.read_facts(body).stream
    return openai_chat.DIALECT.write_request(request, model=request.model, stream=stream)[0]
