"""`openai.moderations`: POST /v1/moderations, content checks.

https://platform.openai.com/docs/api-reference/moderations. Free of charge, and without usage. A list of texts gives a
verdict for each; a list of parts (text and pictures) belongs together and gives one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from polyroute.api.chat.v1 import chat_pb2
from polyroute.api.chat.v1.chat_pb2 import OPERATION_MODERATION, Part, RequestFacts, Usage
from polyroute.api.modality.v1.modality_pb2 import (
    ModerationInput,
    ModerationResult,
    ModerationTask,
    ModerationVerdict,
    Result,
    Task,
)
from polyroute.dialects import faults, jsontools
from polyroute.dialects.dialect import Meter
from polyroute.dialects.jsontools import invalid
from polyroute.dialects.openai.facts import BYTES_PER_TOKEN, TOKENS_PER_IMAGE
from polyroute.dialects.openai.parts import read_part
from polyroute.dialects.task import Body, Outcome, TaskDialect
from polyroute.dialects.task_stream import NoStream
from polyroute.dialects.tasktools import (
    Fields,
    answer_of,
    data_url,
    extras,
    facts_of,
    leftovers,
    no_answer,
    objects,
    own,
    patched,
    put_extras,
    put_leftovers,
    score_of,
    text_bytes,
    text_of,
    tokens_from,
    unsupported,
)
from polyroute.mesh.errors import MeshError

NAME: Final = "openai.moderations"
MAX_INPUTS: Final = 2048
DEFAULT_MODEL: Final = "omni-moderation-latest"  # what the API assumes where a request names none
_VERDICT: Final = ("flagged", "categories", "category_scores")


@dataclass(frozen=True, slots=True)
class OpenAIModerations:
    """The dialect; every method is as `task.TaskDialect` says."""

    name: str = NAME

    def read_facts(self, body: Body, *, default_model: str = "") -> RequestFacts:
        """What routing needs of a client's request."""
        fields = Fields.of(body)
        model = fields.model(default_model or DEFAULT_MODEL)
        parts = [part for entry in _read_inputs(fields.take("input")) for part in entry.parts]
        size = sum(text_bytes(part.text.text) for part in parts)
        pictures = sum(part.HasField("image") for part in parts)
        facts = facts_of(OPERATION_MODERATION, model, tokens=size // BYTES_PER_TOKEN + pictures * TOKENS_PER_IMAGE)
        if pictures:
            facts.needs.append(chat_pb2.CAPABILITY_VISION)
        return facts

    def patch_task(self, body: Body, *, model: str) -> Body:
        """The client's own bytes with another model's name."""
        return patched(body, model)

    def read_task(self, body: Body) -> Task:
        """A client's request."""
        fields = Fields.of(body)
        fields.take("model")
        inputs = _read_inputs(fields.take("input"))
        return Task(moderation=ModerationTask(inputs=inputs), extensions=fields.extensions())

    def write_task(self, task: Task, *, model: str, source: str = "") -> tuple[Body, list[str]]:
        """A task as a request to a vendor, and the parameters that were left out."""
        if task.WhichOneof("task") != "moderation":
            raise unsupported("this dialect only checks content", "task")
        out: dict[str, Any] = {"model": model, "input": _write_inputs(task.moderation)}
        extensions, dropped = own(task.extensions, source, (NAME,))
        put_extras(out, extensions)
        return Body(jsontools.dumps(out)), dropped

    def read_outcome(self, body: bytes, content_type: str) -> Outcome:
        """A vendor's whole answer."""
        value = answer_of(body)
        verdicts = objects(value.get("results"))
        if not verdicts or not all(isinstance(verdict.get("flagged"), bool) for verdict in verdicts):
            raise no_answer(value, "verdicts")
        result = Result(id=text_of(value.get("id")), model=text_of(value.get("model")))
        result.moderation.CopyFrom(ModerationResult(verdicts=[_read_verdict(verdict) for verdict in verdicts]))
        for name, raw in extras(value, ("id", "model", "results", "usage")).items():
            result.extensions[name] = raw
        rest = leftovers(verdicts, _VERDICT)
        if rest:
            result.extensions["results"] = rest
        return Outcome(result, tokens_from(value.get("usage")) or Usage())

    def write_outcome(self, outcome: Outcome, task: Task, *, request_id: str, model: str) -> Body:
        """An answer for a client."""
        result = outcome.result
        verdicts = [
            {
                "flagged": verdict.flagged,
                "categories": dict(verdict.categories),
                "category_scores": dict(verdict.scores),
            }
            for verdict in result.moderation.verdicts
        ]
        put_leftovers(verdicts, result.extensions.get("results", b""))
        out: dict[str, Any] = {"id": result.id or f"modr-{request_id}", "model": model, "results": verdicts}
        put_extras(out, result.extensions)
        return Body(jsontools.dumps(out))

    def meter(self) -> Meter:
        """There are no streams of this kind."""
        return NoStream()

    def read_usage(self, body: bytes, content_type: str) -> Usage | None:
        """What an answer says of its usage."""
        return self.read_outcome(body, content_type).usage

    def pending(self, body: bytes) -> str:
        """Nothing: answers are whole."""
        return ""

    def fault_of(self, status: int, body: bytes, headers: Mapping[str, str]) -> MeshError:
        """A vendor's refusal or failure as a classified error."""
        return faults.fault_of(status, body, headers)


def _read_inputs(value: object) -> list[ModerationInput]:
    if isinstance(value, str):
        return [ModerationInput(parts=[Part(text=chat_pb2.TextPart(text=value))])]
    if not isinstance(value, list) or not value:
        raise invalid("the request has no input", "input")
    if len(value) > MAX_INPUTS:
        raise invalid(f"more than {MAX_INPUTS} entries in input", "input")
    if all(isinstance(item, str) for item in value):
        return [ModerationInput(parts=[Part(text=chat_pb2.TextPart(text=item))]) for item in value]
    return [ModerationInput(parts=[_read_part(item, f"input[{place}]") for place, item in enumerate(value)])]


def _read_part(value: object, where: str) -> Part:
    kind = value.get("type") if isinstance(value, dict) else None
    if kind not in ("text", "image_url"):
        raise invalid("an entry of the input is neither text nor a picture", where)
    return read_part(value, where)[0]


def _write_inputs(task: ModerationTask) -> Any:
    plain = [
        entry.parts[0].text.text for entry in task.inputs if len(entry.parts) == 1 and entry.parts[0].HasField("text")
    ]
    if len(plain) == len(task.inputs) and not any(entry.parts[0].extensions for entry in task.inputs):
        return plain[0] if len(plain) == 1 else plain
    if len(task.inputs) > 1:
        raise unsupported("several inputs with pictures cannot be checked in one request", "input")
    return [_write_part(part) for part in task.inputs[0].parts]


def _write_part(part: Part) -> dict[str, Any]:
    kind = part.WhichOneof("part")
    if kind == "text":
        out: dict[str, Any] = {"type": "text", "text": part.text.text}
    elif kind == "image":
        out = {"type": "image_url", "image_url": {"url": data_url(part.image.media, "image/png", "input")}}
    else:
        raise unsupported("only texts and pictures can be checked", "input")
    put_extras(out, part.extensions)
    return out


def _read_verdict(value: Mapping[str, Any]) -> ModerationVerdict:
    categories, scores = value.get("categories"), value.get("category_scores")
    found = categories if isinstance(categories, dict) else {}
    scored = scores if isinstance(scores, dict) else {}
    return ModerationVerdict(
        flagged=value["flagged"],
        # a category that does not apply to the kind of input is null
        categories={name: flag for name, flag in found.items() if isinstance(flag, bool)},
        scores={name: score_of(score) for name, score in scored.items() if score is not None},
    )


DIALECT: Final[TaskDialect] = OpenAIModerations()
