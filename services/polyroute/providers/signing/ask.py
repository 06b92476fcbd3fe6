"""How the sources of credentials ask over HTTP: a question and an answer, whatever carries them."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, NamedTuple

from polyroute.providers.http import target
from polyroute.providers.transport import Limits, Transport

LIMITS: Final = Limits(connect=5.0, first_token=10.0, inter_token=10.0, total=15.0)


class Question(NamedTuple):
    """A small request.

    Attributes:
        method: `GET` or `POST`.
        url: Where.
        headers: Its headers, lower-case names.
        body: The bytes; empty with `GET`.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes = b""


class Reply(NamedTuple):
    """What came back."""

    status: int
    body: bytes


# Raises MeshError when nobody answers.
Ask = Callable[[Question], Awaitable[Reply]]


def over(transport: Transport, limits: Limits = LIMITS) -> Ask:
    """Asks over the connections to vendors."""

    async def ask(question: Question) -> Reply:
        where = target(question.url, question.headers)
        if question.method == "GET":
            answer = await transport.get(where, limits)
        else:
            answer = await transport.post(where, question.body, limits)
        try:
            return Reply(answer.status, await answer.body() if answer.ok else await answer.error_body())
        finally:
            answer.close()

    return ask
