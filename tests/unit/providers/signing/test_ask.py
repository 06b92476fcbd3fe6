"""Small questions over the connections to vendors."""

from typing import Any, cast

import pytest

from polyroute.providers.http import Target
from polyroute.providers.signing.ask import Question, Reply, over
from polyroute.providers.transport import Transport


class Answer:
    """An answer that knows whether it was closed."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.ok = status < 300
        self.closed = False

    async def body(self) -> bytes:
        return b"whole"

    async def error_body(self) -> bytes:
        return b"refusal"

    def close(self) -> None:
        self.closed = True


class Connections:
    """A transport that answers everything with one status, and notes what was asked."""

    def __init__(self, status: int) -> None:
        self.answer = Answer(status)
        self.asked: list[tuple[str, bytes, bytes]] = []

    async def post(self, target: Target, body: bytes, limits: Any) -> Answer:
        self.asked.append(("POST", target.head, body))
        return self.answer

    async def get(self, target: Target, limits: Any) -> Answer:
        self.asked.append(("GET", target.head, b""))
        return self.answer


@pytest.mark.parametrize(("status", "body"), [(200, b"whole"), (401, b"refusal")])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_question_is_asked_and_its_answer_closed(method: str, status: int, body: bytes) -> None:
    """By its method, with its headers; whole answers and refusals alike."""
    connections = Connections(status)
    question = Question(method, "https://token.example/a", {"x-b": "c"}, b"q" if method == "POST" else b"")

    reply = await over(cast("Transport", connections))(question)

    assert Reply(status, body) == reply
    assert connections.answer.closed
    [(asked, head, sent)] = connections.asked
    assert (method, question.body) == (asked, sent)
    assert b"/a HTTP/1.1\r\nhost: token.example\r\nx-b: c\r\n" in head
