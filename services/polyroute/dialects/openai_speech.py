"""`openai.speech`: POST /v1/audio/speech, text to sound.

https://platform.openai.com/docs/api-reference/audio/createSpeech. The answer is the sound itself, or, with
`stream_format: sse`, events that carry it in base64 and end with usage. Sound alone comes without usage; some models
charge by characters of the text, some by the length of the sound.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from polyroute.api.chat.v1.chat_pb2 import OPERATION_SPEECH, RequestFacts, Usage
from polyroute.api.modality.v1.modality_pb2 import Result, SpeechResult, SpeechTask, Task
from polyroute.dialects import faults, jsontools, sound, sse
from polyroute.dialects.dialect import Meter
from polyroute.dialects.openai.facts import BYTES_PER_TOKEN
from polyroute.dialects.task import Body, Outcome, TaskDialect
from polyroute.dialects.task_stream import TaskMeter, events_of
from polyroute.dialects.tasktools import (
    Fields,
    answer_of,
    bad_answer,
    decoded,
    encoded,
    facts_of,
    own,
    patched,
    put_extras,
    text_bytes,
    tokens_from,
    tokens_json,
    unsupported,
)
from polyroute.mesh.errors import MeshError

NAME: Final = "openai.speech"
STREAM: Final = "text/event-stream"
MAX_TEXT_BYTES: Final = 1 << 20
PIECE_BYTES: Final = 48 * 1024  # of sound in one event, when a whole is given as a stream
_STREAMED: Final = b'"sse"'
_TYPES: Final = {
    "": "audio/mpeg",
    "mp3": "audio/mpeg",
    "opus": "audio/opus",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}


@dataclass(frozen=True, slots=True)
class OpenAISpeech:
    """The dialect; every method is as `task.TaskDialect` says."""

    name: str = NAME

    def read_facts(self, body: Body, *, default_model: str = "") -> RequestFacts:
        """What routing needs of a client's request."""
        fields = Fields.of(body)
        model = fields.model(default_model)
        stream = fields.text("stream_format", most=32) == "sse"
        asked = _read(fields)
        size = text_bytes(asked.text) + text_bytes(asked.instructions)
        return facts_of(OPERATION_SPEECH, model, tokens=size // BYTES_PER_TOKEN, stream=stream)

    def patch_task(self, body: Body, *, model: str) -> Body:
        """The client's own bytes with another model's name."""
        return patched(body, model)

    def read_task(self, body: Body) -> Task:
        """A client's request."""
        fields = Fields.of(body)
        fields.take("model")
        asked = _read(fields)
        return Task(speech=asked, extensions=fields.extensions())

    def write_task(self, task: Task, *, model: str, source: str = "") -> tuple[Body, list[str]]:
        """A task as a request to a vendor, and the parameters that were left out."""
        if task.WhichOneof("task") != "speech":
            raise unsupported("this dialect only speaks", "task")
        asked = task.speech
        texts = {"voice": asked.voice, "response_format": asked.format, "instructions": asked.instructions}
        out: dict[str, Any] = {"model": model, "input": asked.text}
        out |= {name: text for name, text in texts.items() if text}
        if asked.HasField("speed"):
            out["speed"] = asked.speed
        extensions, dropped = own(task.extensions, source, (NAME,))
        put_extras(out, extensions)
        return Body(jsontools.dumps(out)), dropped

    def read_outcome(self, body: bytes, content_type: str) -> Outcome:
        """A vendor's whole answer."""
        if content_type.startswith(STREAM):
            return _read_events(body)
        if sound.is_sound(content_type):
            return Outcome(_result(body, content_type), None)
        answer_of(body)  # an error, most likely
        raise bad_answer("the provider's answer holds no sound")

    def write_outcome(self, outcome: Outcome, task: Task, *, request_id: str, model: str) -> Body:
        """An answer for a client, as a stream when it asked for one."""
        spoken = outcome.result.speech
        if task.extensions.get("stream_format") == _STREAMED:
            return Body(_events(spoken.data, outcome.usage), STREAM)
        return Body(spoken.data, spoken.media_type or _TYPES.get(task.speech.format, "application/octet-stream"))

    def meter(self) -> Meter:
        """A meter for one stream."""
        return TaskMeter()

    def read_usage(self, body: bytes, content_type: str) -> Usage | None:
        """What an answer says of its usage."""
        return self.read_outcome(body, content_type).usage

    def pending(self, body: bytes) -> str:
        """Nothing: answers are whole."""
        return ""

    def fault_of(self, status: int, body: bytes, headers: Mapping[str, str]) -> MeshError:
        """A vendor's refusal or failure as a classified error."""
        return faults.fault_of(status, body, headers)


def _read(fields: Fields) -> SpeechTask:
    voice = fields.take("voice")
    asked = SpeechTask(
        text=fields.text("input", most=MAX_TEXT_BYTES, needed=True),
        format=fields.text("response_format", most=32),
        speed=fields.real("speed", 0.25, 4),
        instructions=fields.text("instructions", most=65536),
    )
    if isinstance(voice, str) and text_bytes(voice) <= 256:
        asked.voice = voice
    elif voice is not None:  # a voice of one's own, by its id
        fields.put("voice", voice)
    return asked


def _result(data: bytes, media_type: str) -> Result:
    if not data:
        raise bad_answer("the provider's answer holds no sound")
    return Result(speech=SpeechResult(data=data, media_type=media_type))


def _read_events(body: bytes) -> Outcome:
    data = bytearray()
    usage: Usage | None = None
    for event in events_of(body):
        if event.get("audio"):
            data += decoded(event["audio"])
        usage = tokens_from(event.get("usage")) or usage
    return Outcome(_result(bytes(data), sound.media_type(bytes(data[:16])) or "audio/mpeg"), usage)


def _events(data: bytes, usage: Usage | None) -> bytes:
    pieces = [data[start : start + PIECE_BYTES] for start in range(0, len(data), PIECE_BYTES)]
    events: list[dict[str, Any]] = [{"type": "speech.audio.delta", "audio": encoded(piece)} for piece in pieces]
    figures = {} if usage is None else {"usage": tokens_json(usage)}
    events.append({"type": "speech.audio.done", **figures})
    return sse.frame([jsontools.dumps(event) for event in events])


DIALECT: Final[TaskDialect] = OpenAISpeech()
