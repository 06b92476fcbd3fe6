"""What the dialects for work other than conversation share: reading untrusted fields, usage, leftovers of lists."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from polyroute.api.chat.v1 import chat_pb2
from polyroute.api.chat.v1.chat_pb2 import Media, Operation, RequestFacts, Usage
from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects import faults, jsontools, multipart
from polyroute.dialects.jsontools import invalid
from polyroute.dialects.openai import patch
from polyroute.dialects.openai.common import usage_from
from polyroute.dialects.openai.facts import MAX_MODEL_BYTES, check_outer
from polyroute.dialects.openai.facts import text_bytes as text_bytes
from polyroute.dialects.openai.meter import object_of
from polyroute.dialects.openai.parts import extras as extras
from polyroute.dialects.openai.parts import media_of as media_of
from polyroute.dialects.openai.parts import put_extras as put_extras
from polyroute.dialects.task import JSON, Body
from polyroute.dialects.vendor_error import error_of
from polyroute.mesh.errors import MeshError

MAX_TEXT_BYTES: Final = 1 << 20
MAX_EXTENSIONS: Final = 256  # of a task, as the contract says
# A form has text only: what is plainly a number or a switch becomes one, so that it can stand in JSON as well.
_LITERAL: Final = re.compile(r"true|false|-?(?:0|[1-9][0-9]{0,15})(?:\.[0-9]{0,14}[1-9])?")
_TRUE: Final = frozenset({"true", "True", "1"})
_FALSE: Final = frozenset({"false", "False", "0"})


def bad_answer(message: str) -> MeshError:
    """A vendor's answer that makes no sense."""
    return MeshError.upstream(errors_pb2.FAULT_BAD_ANSWER, message)


def unsupported(message: str, param: str) -> MeshError:
    """Content of a request that a vendor's dialect cannot express."""
    return MeshError.upstream(errors_pb2.FAULT_UNSUPPORTED, message, param=param)


class Fields:
    """The members of a client's request, taken out one by one and checked; what is left is nobody's.

    Args:
        values: The members by name.
        form: They came in a form, where everything is text.
    """

    __slots__ = ("_form", "_left")

    def __init__(self, values: Mapping[str, Any], *, form: bool = False) -> None:
        self._left = dict(values)
        self._form = form

    @classmethod
    def of(cls, body: Body) -> "Fields":
        """The members of a JSON object.

        Raises:
            MeshError: REASON_INVALID_REQUEST when it is none, or not one that every parser reads alike.
        """
        try:
            value = jsontools.loads(body.data)
            check_outer(body.data)
        except UnicodeDecodeError as error:
            jsontools.refuse(error)
        except ValueError:
            raise invalid("the body is not valid JSON") from None
        if not isinstance(value, dict):
            raise invalid("the body is not a JSON object")
        return cls(value)

    def take(self, name: str) -> Any:
        """A member as it is; None when it is absent or null."""
        return self._left.pop(name, None)

    def all(self) -> dict[str, Any]:
        """The members that nobody has taken."""
        return self._left

    def put(self, name: str, value: object) -> None:
        """Gives a member back."""
        self._left[name] = value

    def text(self, name: str, *, most: int = MAX_TEXT_BYTES, needed: bool = False) -> str:
        """A text of at most that many bytes; empty when absent."""
        value = self.take(name)
        if value is None:
            value = ""
        if not isinstance(value, str):
            raise invalid(f"{name} is not text", name)
        if needed and not value:
            raise invalid(f"the request has no {name}", name)
        if text_bytes(value) > most:
            raise invalid(f"{name} is longer than {most} bytes", name)
        return value

    def integer(self, name: str, least: int, most: int) -> int | None:
        """A whole number within bounds; None when absent."""
        value = self._number(name)
        if value is None:
            return None
        if value != int(value) or not least <= value <= most:
            raise invalid(f"{name} is not a whole number between {least} and {most}", name)
        return int(value)

    def real(self, name: str, least: float, most: float) -> float | None:
        """A number within bounds; None when absent."""
        value = self._number(name)
        if value is not None and not least <= value <= most:
            raise invalid(f"{name} is not between {least:g} and {most:g}", name)
        return value

    def _number(self, name: str) -> float | None:
        value = self.take(name)
        if self._form and isinstance(value, str):
            try:
                value = float(value) if value else None
            except ValueError:
                raise invalid(f"{name} is not a number", name) from None
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not -1e18 < value < 1e18:
            raise invalid(f"{name} is not a number", name)
        return value

    def flag(self, name: str) -> bool | None:
        """A switch; None when absent."""
        value = self.take(name)
        if self._form and isinstance(value, str) and value in _TRUE | _FALSE:
            return value in _TRUE
        if value is not None and not isinstance(value, bool):
            raise invalid(f"{name} is neither true nor false", name)
        return value

    def texts(self, name: str, *, most: int) -> list[str]:
        """A list of texts, or one alone; empty when absent."""
        value = self.take(name)
        listed = value if isinstance(value, list) else [] if value is None else [value]
        if len(listed) > most:
            raise invalid(f"more than {most} entries in {name}", name)
        if not all(isinstance(item, str) for item in listed):
            raise invalid(f"{name} holds something else than text", name)
        return listed

    def model(self, default: str = "") -> str:
        """The model that is asked for.

        Raises:
            MeshError: REASON_INVALID_REQUEST when there is none and no default either.
        """
        model = self.text("model", most=MAX_MODEL_BYTES) or default
        if not model:
            raise invalid("the request names no model", "model")
        return model

    def extensions(self) -> dict[str, bytes]:
        """What is left, as JSON by name."""
        left = {name: _literal(value) for name, value in self._left.items()} if self._form else self._left
        found = extras(left, ())
        if len(found) > MAX_EXTENSIONS:
            raise invalid(f"more than {MAX_EXTENSIONS} members")
        return found


def _literal(value: Any) -> Any:
    return jsontools.loads(value.encode()) if isinstance(value, str) and _LITERAL.fullmatch(value) else value


def facts_of(
    operation: Operation.ValueType, model: str, *, tokens: int = 0, stream: bool = False, choices: int = 0
) -> RequestFacts:
    """What routing needs of a task."""
    return RequestFacts(operation=operation, model=model, stream=stream, input_tokens_estimate=tokens, choices=choices)


def patched(body: Body, model: str) -> Body:
    """The client's own bytes with another model's name."""
    if multipart.is_form(body.content_type):
        return multipart.with_value(body, "model", model)
    data = patch.patch_request(body.data, chat_pb2.RequestFacts(), model=model, ask_usage=False)
    return body._replace(data=data, content_type=body.content_type or JSON)


def own(extensions: Mapping[str, bytes], source: str, names: Iterable[str]) -> tuple[dict[str, bytes], list[str]]:
    """The extensions that may go to a vendor, and the names of those that are left out.

    They may when they came in the vendor's own dialect (one of `names`) or typed (`source` empty). Members that only
    say how the answer is to be handed over are no parameters and are not named.
    """
    if source in ("", *names):
        return dict(extensions), []
    return {}, [name for name in extensions if name not in ("stream", "stream_format", "partial_images")]


def answer_of(body: bytes) -> dict[str, Any]:
    """A vendor's whole answer as a JSON object.

    Raises:
        MeshError: the fault inside an error body, FAULT_BAD_ANSWER for anything else that is no object.
    """
    value = object_of(body)
    if value.get("error"):
        raise faults.fault_in(value)
    return value


def no_answer(value: Mapping[str, Any], what: str) -> MeshError:
    """What is wrong with an answer that lacks its content: the error it holds in any envelope, or nonsense."""
    error = error_of(value)
    return (
        faults.fault_in(value) if error.message or error.code else bad_answer(f"the provider's answer holds no {what}")
    )


def objects(value: object) -> list[dict[str, Any]]:
    """The objects in a list; none when it is no list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def text_of(value: object) -> str:
    """A text of a vendor; empty when it is something else."""
    return value if isinstance(value, str) else ""


def count_of(value: object) -> int:
    """A count of a vendor; 0 when it is something else."""
    ok = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1 << 53
    return int(value) if ok else 0  # type: ignore[call-overload] # a number, says the line above


def score_of(value: object) -> float:
    """A score of a vendor; 0 when it is something else."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0


def seconds_of(value: object) -> int:
    """Seconds of a vendor as milliseconds; 0 when it is something else."""
    ok = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1 << 40
    return round(value * 1000) if ok else 0  # type: ignore[operator] # a number, says the line above


def tokens_from(value: object) -> Usage | None:
    """Usage of the audio and picture APIs, whose names differ from those of conversations; None when it says nothing.

    Cached tokens stand inside `input_tokens`, reasoning inside `output_tokens`; the sum of the buckets is the total.
    """
    if not isinstance(value, Mapping):
        return None
    renamed = {
        "prompt_tokens": value.get("prompt_tokens", value.get("input_tokens")),
        "completion_tokens": value.get("completion_tokens", value.get("output_tokens")),
        "total_tokens": value.get("total_tokens"),
        "prompt_tokens_details": _first(value, "prompt_tokens_details", "input_tokens_details", "input_token_details"),
        "completion_tokens_details": _first(
            value, "completion_tokens_details", "output_tokens_details", "output_token_details"
        ),
    }
    usage = usage_from({name: item for name, item in renamed.items() if item is not None})
    heard = seconds_of(value.get("seconds")) or seconds_of(value.get("prompt_audio_seconds"))
    if heard:
        usage = usage or Usage()
        usage.audio_milliseconds = heard
    return usage


def _first(value: Mapping[str, Any], *names: str) -> Any:
    return next((value[name] for name in names if isinstance(value.get(name), Mapping)), None)


def tokens_json(usage: Usage, *, details: str = "details") -> dict[str, Any]:
    """Usage in the form of the audio and picture APIs; `details` as in `input_tokens_details`."""
    prompt = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
    answer = usage.output_tokens + usage.reasoning_tokens
    out: dict[str, Any] = {"input_tokens": prompt, "output_tokens": answer, "total_tokens": prompt + answer}
    for side, total in (("input", prompt), ("output", answer)):
        special = {
            f"{kind}_tokens": usage.other[f"{side}_{kind}_tokens"]
            for kind in ("image", "audio")
            if f"{side}_{kind}_tokens" in usage.other
        }
        if special:
            out[f"{side}_{details}"] = {**special, "text_tokens": max(0, total - sum(special.values()))}
    if usage.cache_read_tokens:
        out.setdefault(f"input_{details}", {})["cached_tokens"] = usage.cache_read_tokens
    return out


def leftovers(items: Sequence[Mapping[str, Any]], known: Iterable[str]) -> bytes:
    """The members of a list's entries that are not `known`, as JSON of a list; empty when there are none."""
    names = frozenset(known)
    rest = [{name: item for name, item in entry.items() if name not in names and item is not None} for entry in items]
    return jsontools.dumps(rest) if any(rest) else b""


def put_leftovers(items: Sequence[dict[str, Any]], raw: bytes) -> None:
    """Adds what `leftovers` kept to the entries that it was taken from."""
    for entry, rest in zip(items, objects(jsontools.loads(raw)) if raw else (), strict=False):
        for name, item in rest.items():
            entry.setdefault(name, item)


def decoded(text: object) -> bytes:
    """Base64 of a vendor, as bare text or as a `data:` URL.

    Raises:
        MeshError: FAULT_BAD_ANSWER when it is none.
    """
    words = text_of(text)
    if words.startswith("data:"):
        words = words.partition(",")[2]
    try:
        return jsontools.unpacked(words + "=" * (-len(words) % 4))
    except ValueError:
        raise bad_answer("the provider's answer holds data that is not base64") from None


def encoded(data: bytes) -> str:
    """Base64."""
    return jsontools.packed(data)


def data_url(media: Media, default_type: str, param: str) -> str:
    """The address of media, its bytes as a `data:` URL.

    Raises:
        MeshError: FAULT_UNSUPPORTED for a file that only its vendor holds.
    """
    kind = media.WhichOneof("source")
    if kind == "url":
        return media.url
    if kind == "data":
        return f"data:{media.media_type or picture_type(media.data, default_type)};base64,{encoded(media.data)}"
    raise unsupported("a file held by another vendor cannot be sent to this one", param)


# The first bytes of picture formats.
_MAGIC: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"RIFF", "image/webp"),
    (b"<svg", "image/svg+xml"),
)


def picture_type(data: bytes, default: str = "image/png") -> str:
    """The media type of a picture by its first bytes."""
    return next((kind for magic, kind in _MAGIC if data.startswith(magic)), default)


def is_json(content_type: str) -> bool:
    """Whether an answer of this media type is JSON; what does not say its type is tried as such."""
    return "json" in content_type or not content_type
