"""Anthropic's doors: messages and counting tokens. https://docs.anthropic.com/en/api/messages."""

from polyroute.api.chat.v1 import chat_pb2
from polyroute.dialects import anthropic_count_tokens, anthropic_messages
from polyroute.dialects.task import Body
from polyroute.edge.http.body import Receive, Scope, Send
from polyroute.edge.http.door import Asked, Door
from polyroute.edge.http.manners import ANTHROPIC
from polyroute.edge.http.pins import Pin


class AnthropicDoor:
    """Turns Anthropic-format requests into calls.

    Args:
        door: What it has in common with the other doors.
    """

    def __init__(self, door: Door) -> None:
        self._door = door

    async def messages(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /v1/messages."""
        door, dialect = self._door, anthropic_messages.DIALECT

        async def work(asked: Asked) -> None:
            facts = dialect.read_facts(asked.body, default_model=asked.model)
            facts.stream_usage = facts.stream  # the API always tells it
            call = door.call(asked, dialect.name, facts, ANTHROPIC.forwarded)
            await door.generate(call, asked.exchange, Pin(asked.trail, stored=False, sealed=False))

        await door.exchange(scope, receive, ANTHROPIC, work)

    async def count_tokens(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /v1/messages/count_tokens."""
        door, dialect = self._door, anthropic_count_tokens.DIALECT

        async def work(asked: Asked) -> None:
            facts = dialect.read_facts(Body(asked.body), default_model=asked.model)
            facts.operation = chat_pb2.OPERATION_COUNT_TOKENS
            await door.generate(door.call(asked, dialect.name, facts, ANTHROPIC.forwarded), asked.exchange)

        await door.exchange(scope, receive, ANTHROPIC, work)
