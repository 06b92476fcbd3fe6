"""`openai.responses` answers into the contract. The way back is the writer of streams: its last event is the answer."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import ChatResponse, Choice, Part
from polyroute.dialects import jsontools
from polyroute.dialects.openai.chat_answer import seconds_of
from polyroute.dialects.openai.meter import object_of
from polyroute.dialects.responses import items
from polyroute.dialects.responses.common import (
    ECHO,
    bad_answer,
    check_answer,
    finish_of,
    objects,
    own_state,
    text_of,
    told,
    usage_from,
)

_MEMBERS: Final = ("id", "object", "model", "created_at", "status", "output", "output_text", "usage", "error")
# Members that mean the same in the sibling dialect, under the same name.
_SHARED: Final = ("service_tier",)


def read_answer(body: bytes) -> ChatResponse:
    """See `dialect.Outbound.read_answer`."""
    value = object_of(body)
    check_answer(value)
    try:
        return response_of(value)
    except (TypeError, ValueError, AttributeError) as error:  # a member of a type that the contract does not take
        raise bad_answer("a member of the provider's answer has a wrong type") from error


def response_of(value: Mapping[str, Any]) -> ChatResponse:
    """A response object that `check_answer` let pass."""
    response = ChatResponse(
        id=value.get("id") or "", model=value.get("model") or "", create_time=seconds_of(value.get("created_at"))
    )
    response.choices.append(_choice_of(value))
    usage = usage_from(value.get("usage"))
    if usage:
        response.usage.CopyFrom(usage)
    for name, raw in extensions_of(value).items():
        response.extensions[name] = raw
    return response


def _choice_of(value: Mapping[str, Any]) -> Choice:
    choice = Choice()
    choice.message.role = pb.ROLE_ASSISTANT
    parts = choice.message.parts
    output = list(objects(value.get("output")))
    thought = value.get("reasoning")  # elsewhere the options of the request; here and there the reasoning itself
    if isinstance(thought, str) and thought and not any(item.get("type") == items.REASONING for item in output):
        parts.append(Part(reasoning=pb.ReasoningPart(text=thought)))
    tokens: list[Any] = []
    for place, item in enumerate(output):
        bare, found = without_logprobs(item)
        tokens += found
        parts.extend(items.read_item(bare, (value.get("id"), place)))
    if not output and text_of(value.get("output_text")):
        parts.append(Part(text=pb.TextPart(text=value["output_text"])))
    if tokens:
        choice.logprobs = logprobs_of(tokens)
    calls = any(part.HasField("tool_call") for part in parts)
    choice.finish_reason, choice.vendor_finish_reason = finish_of(
        value.get("status"), value.get("incomplete_details"), calls=calls
    )
    cited = annotations_of(parts)
    if cited:
        choice.message.extensions["annotations"] = cited
    return choice


def logprobs_of(tokens: list[Any]) -> bytes:
    """Log probabilities as the contract holds them: in the form of the sibling dialect."""
    return jsontools.dumps({"content": tokens})


def without_logprobs(item: dict[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    """An item without the log probabilities in its content, and these."""
    content = item.get("content")
    if item.get("type") != "message" or not isinstance(content, list):
        return item, []
    tokens: list[Any] = []
    for entry in objects(content):
        if isinstance(entry.get("logprobs"), list):
            tokens += entry["logprobs"]
    bare = [{name: part for name, part in entry.items() if name != "logprobs"} for entry in objects(content)]
    return {**item, "content": bare}, tokens


def extensions_of(value: Mapping[str, Any]) -> dict[str, bytes]:
    """What of a response the contract does not model, most of it the request again, in one extension."""
    rest = told(value, *_MEMBERS, *_SHARED)
    if isinstance(rest.get("reasoning"), str):
        del rest["reasoning"]
    rest.pop("incomplete_details", None)
    out = {name: jsontools.dumps(value[name]) for name in _SHARED if value.get(name) is not None}
    return out | ({ECHO: jsontools.dumps(rest)} if rest else {})


def annotations_of(parts: Iterable[Part]) -> bytes:
    """All citations of web pages in the parts, as the sibling dialect writes them; empty when there are none."""
    found: list[dict[str, Any]] = []
    for part in parts:
        inner = (own_state(part) or {}).get("part") if part.HasField("text") else None
        found += cited_in(inner.get("annotations") if isinstance(inner, Mapping) else None)
    return jsontools.dumps(found) if found else b""


def cited_in(annotations: object) -> list[dict[str, Any]]:
    """The citations of web pages among annotations, as the sibling dialect writes them."""
    return [nested_annotation(note) for note in objects(annotations) if note.get("type") == "url_citation"]


def nested_annotation(note: Mapping[str, Any]) -> dict[str, Any]:
    """A citation in the sibling's form."""
    return {"type": "url_citation", "url_citation": {name: item for name, item in note.items() if name != "type"}}


def flat_annotation(note: Mapping[str, Any]) -> dict[str, Any]:
    """A citation in this dialect's form."""
    inner = note.get("url_citation")
    return {"type": "url_citation", **inner} if isinstance(inner, Mapping) else dict(note)
