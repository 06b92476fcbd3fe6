"""Asks deployments that are ejected whether they are there again: one token, seldom, and only those nobody else tries.

What callers send says more and costs nothing extra, so it comes first (`health`'s probes). But a vendor that was given
up by all callers would stay out for the whole of its ejection; a question of one token every few seconds ends it early.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from polyroute.api.chat.v1 import chat_pb2 as chat
from polyroute.api.providers.v1.providers_pb2 import GenerateRequest, Target
from polyroute.api.router.v1.router_pb2 import Attempt, Plan
from polyroute.mesh import scope as scopes
from polyroute.router.health.tracker import Health
from polyroute.router.snapshot import CatalogStore

EVERY: Final = 0.5  # s between two looks at who is to be asked

Ping = Callable[[GenerateRequest], Awaitable[bool]]


class Asking:
    """Asks those whom health wants to be asked.

    Args:
        health: Says whom, and is told what came of it.
        catalogs: Knows where they are.
        ping: Asks, and says whether there was an answer.
    """

    def __init__(self, health: Health, catalogs: CatalogStore, ping: Ping) -> None:
        self._health = health
        self._catalogs = catalogs
        self._ping = ping

    async def run(self) -> None:
        """Asks for ever."""
        while True:
            await asyncio.sleep(EVERY)
            names = self._health.asks()
            if names:
                known = _attempts(self._catalogs)
                await asyncio.gather(*(self._ask(known[name]) for name in names if name in known))

    async def _ask(self, attempt: Attempt) -> None:
        there = await self._ping(question(attempt))
        self._health.told(attempt.deployment, there=there)


def _attempts(catalogs: CatalogStore) -> Mapping[str, Attempt]:
    models = catalogs.view.catalog.models
    return {one.name: Plan.FromString(one.attempt).attempts[0] for model in models for one in model.deployments}


def question(attempt: Attempt) -> GenerateRequest:
    """What costs a vendor next to nothing: a word, and one token for an answer."""
    words = chat.Message(role=chat.ROLE_USER, parts=[chat.Part(text=chat.TextPart(text="ping"))])
    model = attempt.upstream_model
    return GenerateRequest(
        request_id=scopes.new_request_id(),
        attempt=1,
        target=Target(deployment=attempt.deployment, provider=attempt.provider, upstream_model=model),
        chat=chat.ChatRequest(model=model, messages=[words], max_output_tokens=1),
        facts=chat.RequestFacts(operation=chat.OPERATION_CHAT, model=model, stream=True, stream_usage=True),
    )
