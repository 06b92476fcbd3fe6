"""`openai.transcriptions`: POST /v1/audio/transcriptions, sound to text; and `translations` beside it, into English.

https://platform.openai.com/docs/api-reference/audio/createTranscription. The request is a form. The answer is JSON,
text, subtitles, or a stream of events that ends with the whole text. Usage is in tokens (sound inside `input_tokens`)
or in seconds; some servers state the length of the sound alone, or nothing.

The two paths have the same body, so they are two dialects: `openai.translations` is for clients, and a vendor of
`openai.transcriptions` is asked for either.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from polyroute.api.chat.v1.chat_pb2 import OPERATION_TRANSCRIPTION, RequestFacts, Usage
from polyroute.api.modality.v1.modality_pb2 import Task, TranscriptionTask
from polyroute.dialects import faults, multipart, sound
from polyroute.dialects.dialect import Meter
from polyroute.dialects.jsontools import invalid, loads
from polyroute.dialects.openai import transcript
from polyroute.dialects.openai.facts import BYTES_PER_TOKEN
from polyroute.dialects.task import Body, Outcome, TaskDialect
from polyroute.dialects.task_stream import TaskMeter
from polyroute.dialects.tasktools import Fields, facts_of, own, patched, text_bytes, unsupported
from polyroute.mesh.errors import MeshError

NAME: Final = "openai.transcriptions"
TRANSLATIONS_NAME: Final = "openai.translations"
_BESIDE: Final = "translations"  # the path beside `transcriptions`
TOKENS_PER_SECOND: Final = 10  # of sound, as the models that count it say
_HELD: Final = ("file_url", "file_id")  # sound that the vendor fetches or has; some vendors take it instead of a file


@dataclass(frozen=True, slots=True)
class OpenAITranscriptions:
    """The dialect; every method is as `task.TaskDialect` says.

    Attributes:
        translate: Clients of it want English.
    """

    name: str = NAME
    translate: bool = False

    def read_facts(self, body: Body, *, default_model: str = "") -> RequestFacts:
        """What routing needs of a client's request."""
        file, fields = _opened(body)
        model = fields.model(default_model)
        stream = fields.flag("stream")
        asked = _read(fields)
        if file is None and not any(fields.take(name) for name in _HELD):
            raise invalid("the request has no file", "file")
        length = sound.milliseconds(file.data, file.content_type) if file else 0
        tokens = length * TOKENS_PER_SECOND // 1000 + text_bytes(asked.prompt) // BYTES_PER_TOKEN
        facts = facts_of(OPERATION_TRANSCRIPTION, model, tokens=tokens, stream=bool(stream))
        facts.sound_milliseconds = sound.at_most(file.data, file.content_type) if file else 0
        return facts

    def patch_task(self, body: Body, *, model: str) -> Body:
        """The client's own bytes with another model's name."""
        return patched(body, model)

    def read_task(self, body: Body) -> Task:
        """A client's request."""
        file, fields = _opened(body)
        fields.take("model")
        asked = _read(fields)
        if file is None or not file.data:
            raise invalid("the request has no file, or an empty one", "file")
        asked.data, asked.filename, asked.media_type = file.data, file.filename or "", file.content_type
        asked.translate = self.translate
        return Task(transcription=asked, extensions=fields.extensions())

    def write_task(self, task: Task, *, model: str, source: str = "") -> tuple[Body, list[str]]:
        """A task as a request to a vendor, and the parameters that were left out."""
        if task.WhichOneof("task") != "transcription":
            raise unsupported("this dialect only writes down sound", "task")
        asked = task.transcription
        extensions, dropped = own(task.extensions, source, (NAME, TRANSLATIONS_NAME))
        members = {"model": model, **_members(asked)}
        if asked.translate:
            dropped += [name for name in ("language", "timestamp_granularities") if members.pop(name, None)]
        members |= {name: loads(raw) for name, raw in extensions.items() if name not in members}
        kind = asked.media_type or sound.media_type(asked.data[:16])
        name = asked.filename or f"audio.{sound.ENDINGS.get(kind, 'mp3')}"
        file = multipart.Field("file", asked.data, name, kind)
        path = _BESIDE if asked.translate else ""
        return multipart.write([*multipart.fields_of(members), file], path=path), dropped

    def read_outcome(self, body: bytes, content_type: str) -> Outcome:
        """A vendor's whole answer."""
        return transcript.read(body, content_type)

    def write_outcome(self, outcome: Outcome, task: Task, *, request_id: str, model: str) -> Body:
        """An answer for a client, in the format that it asked for."""
        return transcript.write(outcome, task)

    def meter(self) -> Meter:
        """A meter for one stream."""
        return TaskMeter()

    def read_usage(self, body: bytes, content_type: str) -> Usage | None:
        """What an answer says of its usage."""
        return transcript.read(body, content_type).usage

    def pending(self, body: bytes) -> str:
        """Nothing: answers are whole."""
        return ""

    def fault_of(self, status: int, body: bytes, headers: Mapping[str, str]) -> MeshError:
        """A vendor's refusal or failure as a classified error."""
        return faults.fault_of(status, body, headers)


def _opened(body: Body) -> tuple[multipart.Field | None, Fields]:
    if not multipart.is_form(body.content_type):
        raise invalid(f"the body is not {multipart.MEDIA_TYPE}")
    parts = multipart.read(body)
    files = [part for part in parts if part.filename is not None]
    if len(files) > 1 or any(part.name != "file" for part in files):
        raise invalid("the request has another file than the one called file", "file")
    return (files[0] if files else None), Fields(multipart.values(parts), form=True)


def _read(fields: Fields) -> TranscriptionTask:
    return TranscriptionTask(
        language=fields.text("language", most=32),
        prompt=fields.text("prompt", most=65536),
        format=fields.text("response_format", most=32),
        temperature=fields.real("temperature", 0, 1),
        timestamps=fields.texts("timestamp_granularities", most=4),
    )


def _members(asked: TranscriptionTask) -> dict[str, Any]:
    out: dict[str, Any] = {
        "language": asked.language,
        "prompt": asked.prompt,
        "response_format": asked.format,
        "timestamp_granularities": list(asked.timestamps),
    }
    out = {name: value for name, value in out.items() if value}
    if asked.HasField("temperature"):
        out["temperature"] = asked.temperature
    return out


DIALECT: Final[TaskDialect] = OpenAITranscriptions()
TRANSLATIONS: Final[TaskDialect] = OpenAITranscriptions(name=TRANSLATIONS_NAME, translate=True)
