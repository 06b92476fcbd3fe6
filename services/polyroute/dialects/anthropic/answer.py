"""Whole answers: JSON into parts, and parts into JSON."""

from typing import Any, Final

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import ChatResponse, Part
from polyroute.dialects import faults, jsontools
from polyroute.dialects.anthropic import blocks, media, seals, turns
from polyroute.dialects.anthropic.common import (
    WRONG_SHAPE,
    UsageTally,
    bad_answer,
    extras,
    finish_of,
    finish_word,
    put_extras,
    text_or_empty,
    usage_json,
)
from polyroute.dialects.anthropic.faults import fault_in
from polyroute.dialects.dialect import AnswerFacts
from polyroute.dialects.vendor_error import error_of
from polyroute.mesh.errors import MeshError

ANSWER_MEMBERS: Final = frozenset({"id", "type", "role", "model", "content", "stop_reason", "usage"})
# Of these the answer's end tells; they belong to the choice.
CHOICE_MEMBERS: Final = frozenset({"stop_sequence", "stop_details"})


def object_of(body: bytes) -> dict[str, Any]:
    """A vendor's whole answer as a JSON object.

    Raises:
        MeshError: the fault inside an error body, FAULT_BAD_ANSWER for nothing, HTML, broken JSON and other values.
    """
    text = body.strip()
    if not text:
        raise bad_answer("the provider answered with nothing")
    try:
        value = jsontools.loads(text)
    except ValueError:
        raise bad_answer("the provider's answer is not JSON") from None
    if not isinstance(value, dict):
        raise bad_answer("the provider's answer is not a JSON object")
    return value


def check_answer(answer: dict[str, Any]) -> None:
    """Refuses an error in place of an answer, by its own class, and an answer without content."""
    if answer.get("error") or answer.get("type") == "error":
        raise fault_in(answer)
    if not isinstance(answer.get("content"), list | str):
        error = error_of(answer)
        if error.message and error.codes:
            raise faults.classified(200, error, {})
        raise bad_answer("the provider's answer has no content")


def read_answer(body: bytes) -> ChatResponse:
    """See `dialect.Dialect.read_answer`."""
    return read_message(object_of(body))


def read_message(value: dict[str, Any]) -> ChatResponse:
    """An answer out of its JSON.

    Raises:
        MeshError: the fault inside an error body, FAULT_BAD_ANSWER for anything else that is no answer.
    """
    check_answer(value)
    try:
        return _read(value)
    except WRONG_SHAPE as error:
        raise bad_answer("a member of the provider's answer has a wrong type") from error
    except MeshError as error:  # from code that reads clients' blocks, and blames them
        raise bad_answer(error.message) from error


def _read(value: dict[str, Any]) -> ChatResponse:
    response = ChatResponse(id=text_or_empty(value.get("id")), model=text_or_empty(value.get("model")))
    choice = response.choices.add()
    message = choice.message
    message.role = pb.ROLE_ASSISTANT
    said = blocks.read_said(value["content"], "content", answer_id=response.id)
    blocks.seal_neighbours(said)
    message.parts.extend(said)
    word = choice.vendor_finish_reason = text_or_empty(value.get("stop_reason"))
    choice.finish_reason = finish_of(word, tool_calls=any(part.HasField("tool_call") for part in said))
    tally = UsageTally()
    tally.note(value.get("usage"))
    usage = tally.usage()
    if usage:
        response.usage.CopyFrom(usage)
    for name, raw in (extras(value, ANSWER_MEMBERS) | tally.details()).items():
        (choice if name in CHOICE_MEMBERS else response).extensions[name] = raw
    return response


def read_answer_facts(body: bytes) -> AnswerFacts:
    """What metering needs of an answer that is passed on; see `dialect.Dialect.read_answer_facts`."""
    value = object_of(body)
    check_answer(value)
    content = value["content"]
    said = [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []
    chars = len(content) if isinstance(content, str) else sum(chars_of(block) for block in said)
    tally = UsageTally()
    try:
        tally.note(value.get("usage"))
        usage = tally.usage()
    except WRONG_SHAPE as error:
        raise bad_answer("the usage of the provider's answer cannot be read") from error
    called = any(block.get("type") == "tool_use" for block in said)
    return AnswerFacts(usage, finish_of(value.get("stop_reason"), tool_calls=called), chars)


def chars_of(block: dict[str, Any]) -> int:
    """Characters of a block of an answer; at least 1 when it holds anything that is content."""
    kind = block.get("type")
    if kind == "text":
        return len(text_or_empty(block.get("text")))
    if kind == "thinking":
        return len(text_or_empty(block.get("thinking"))) or int(bool(block.get("signature")))
    if kind == "tool_use":
        return 1 + len(text_or_empty(block.get("name"))) + len(blocks.arguments_of(block.get("input")))
    return 1


def write_answer(response: ChatResponse, *, request_id: str, model: str) -> bytes:
    """See `dialect.Dialect.write_answer`. This format knows one choice: the first is written."""
    choice = response.choices[0] if response.choices else pb.Choice()
    out: dict[str, Any] = {
        "id": f"msg_{request_id}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [block for part in choice.message.parts for block in written(part)],
        "stop_reason": finish_word(choice.finish_reason, choice.vendor_finish_reason),
        "stop_sequence": None,
    }
    for name, raw in choice.extensions.items():
        if name in CHOICE_MEMBERS:
            out[name] = jsontools.loads(raw)
    members = dict(response.extensions)
    details = details_of(members.pop("usage_details", b""))
    out["usage"] = usage_json(response.usage, details)
    put_extras(out, members)
    return jsontools.dumps(out)


def details_of(raw: bytes) -> dict[str, Any]:
    """The extension `usage_details`, empty when it is missing or another thing of that name."""
    value = jsontools.loads(raw) if raw else None
    return value if isinstance(value, dict) else {}


def written(part: Part) -> list[dict[str, Any]]:
    """A part of an answer as blocks for a client; another dialect's state travels in a block beside its part.

    After a text, which many clients look for in the first block.
    """
    block = block_of(part)
    if block is None:
        return []
    for name, raw in part.extensions.items():
        block.setdefault(name, jsontools.loads(raw))
    state = seals.worth_carrying(part.state) if seals.is_foreign(part) and not part.HasField("reasoning") else None
    if state is None:
        return [block]
    return [block, carrier(state, seals.PREVIOUS)] if part.HasField("text") else [carrier(state, seals.NEXT), block]


def carrier(state: pb.VendorState, of: str) -> dict[str, Any]:
    """A block that carries a state of another dialect for the part after or before it."""
    return {"type": seals.REDACTED, "data": seals.carry(state, of=of)}


def block_of(part: Part) -> dict[str, Any] | None:
    """The block of a part; None when this format has none for it."""
    kept = turns.own_block(part)
    if kept is not None:
        return kept
    match part.WhichOneof("part"):
        case "text":
            return turns.text_block(part)
        case "refusal":
            return {"type": "text", "text": part.refusal.text}
        case "reasoning":
            return turns.reasoning_block(part) or _unsealed(part)
        case "tool_call":
            call = part.tool_call
            return {"type": "tool_use", "id": call.id, "name": call.name, "input": turns.input_of(call.arguments)}
        case "audio" if part.audio.transcript:
            return {"type": "text", "text": part.audio.transcript}
        case "image":
            return media.write_image(part.image)
        case _:
            return None


def _unsealed(part: Part) -> dict[str, Any] | None:
    """Thinking of another dialect: its seal, or the mark that it has none; None when nothing is thought or sealed."""
    state = seals.worth_carrying(part.state) if part.HasField("state") else None
    if state is None and part.HasField("state") and not part.reasoning.text and not part.reasoning.redacted:
        return None
    seal = seals.carry(state, summary=part.reasoning.summary)
    if part.reasoning.redacted and not part.reasoning.text:
        return {"type": seals.REDACTED, "data": seal}
    return {"type": "thinking", "thinking": part.reasoning.text, "signature": seal}
