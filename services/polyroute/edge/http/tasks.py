"""The doors for work other than conversation: rerank, pictures, speech, transcription, checks."""

from collections.abc import Mapping
from typing import Final

from polyroute.api.chat.v1 import chat_pb2
from polyroute.dialects import cohere_rerank, openai_images, openai_moderations, openai_speech, openai_transcriptions
from polyroute.dialects.task import Body, TaskDialect
from polyroute.edge.http.body import Receive, Scope, Send
from polyroute.edge.http.door import Asked, Door
from polyroute.edge.http.manners import OPENAI

_JSON: Final = "application/json"
# What may follow `/openai/deployments/{model}` in Azure's scheme.
AZURE: Final[Mapping[str, TaskDialect]] = {
    "/images/generations": openai_images.DIALECT,
    "/images/edits": openai_images.DIALECT,
    "/audio/speech": openai_speech.DIALECT,
    "/audio/transcriptions": openai_transcriptions.DIALECT,
    "/audio/translations": openai_transcriptions.TRANSLATIONS,
}


class TasksDoor:
    """Turns requests for such work into calls.

    Args:
        door: What it has in common with the other doors.
    """

    def __init__(self, door: Door) -> None:
        self._door = door

    async def rerank(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /v1/rerank, in the form that Cohere and Jina share."""
        await self._serve(scope, receive, cohere_rerank.DIALECT)

    async def images(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /v1/images/generations, /v1/images/edits and /v1/images/variations."""
        await self._serve(scope, receive, openai_images.DIALECT)

    async def speech(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /v1/audio/speech: sound as it is made."""
        await self._serve(scope, receive, openai_speech.DIALECT)

    async def transcriptions(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /v1/audio/transcriptions."""
        await self._serve(scope, receive, openai_transcriptions.DIALECT)

    async def translations(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /v1/audio/translations."""
        await self._serve(scope, receive, openai_transcriptions.TRANSLATIONS)

    async def moderations(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /v1/moderations."""
        await self._serve(scope, receive, openai_moderations.DIALECT)

    async def azure(self, scope: Scope, receive: Receive, model: str, rest: str) -> None:
        """POST /openai/deployments/{model}{rest}, where the deployment is the model."""
        await self._serve(scope, receive, AZURE[rest], model)

    async def _serve(self, scope: Scope, receive: Receive, dialect: TaskDialect, model: str = "") -> None:
        door = self._door

        async def work(asked: Asked) -> None:
            kind = asked.content_type
            facts = dialect.read_facts(Body(asked.body, kind), default_model=model or asked.model)
            plain = kind.partition(";")[0].strip().lower() == _JSON
            call = door.call(asked, dialect.name, facts, kind="" if plain else kind)
            sound = facts.operation == chat_pb2.OPERATION_SPEECH and not facts.stream
            await (door.sound if sound else door.generate)(call, asked.exchange)

        await door.exchange(scope, receive, OPENAI, work)
