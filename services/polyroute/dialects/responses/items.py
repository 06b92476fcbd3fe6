"""Items of an assistant's turn between JSON and parts of a message: messages, reasoning, calls, and all the others.

What of an item the contract does not model (its id, its phase, its encrypted content) is the state of the part that
was read last from it, so a part with state also ends its item. An item of a kind that the contract does not model at
all (a search on the vendor's side, a compaction) is a reasoning part without text whose state is the whole item: it
keeps its place, returns with the turn, and no other dialect sees it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import Media, Part
from polyroute.dialects import jsontools
from polyroute.dialects.responses import actions
from polyroute.dialects.responses.common import (
    RESPONSES,
    SEPARATOR,
    arguments_of,
    carried,
    made_id,
    objects,
    own_state,
    state_of,
    text_of,
    told,
)

CALLS: Final = {"function_call": "arguments", "custom_tool_call": "input"}  # kind of item -> member with what is said
REASONING: Final = "reasoning"
IMAGE: Final = "image_generation_call"
# Kind of a state that stands for one entry of a message's `content` instead of for an item.
CONTENT_PART: Final = "content_part"
SOUND: Final = "output_audio"  # kind of an entry of a message's `content`

_CONTENT: Final = {"text": "text", "output_text": "text", "input_text": "text", "refusal": "refusal"}
# Lists that say nothing when they are empty.
_EMPTY: Final = ("annotations", "logprobs")


class Group(NamedTuple):
    """Parts that make one item.

    Attributes:
        kind: `message`, `reasoning`, `call`, `image`, or `opaque` for an item that is kept whole in a state.
        parts: The parts, in order.
    """

    kind: str
    parts: list[Part]


def read_item(item: Mapping[str, Any], seed: object) -> list[Part]:
    """The parts of one item of an assistant's turn; `seed` makes the id of a call without one."""
    kind = item.get("type") or ("message" if "role" in item else "")
    if kind == "message":
        return _read_message(item)
    if kind in CALLS:
        return [read_call(item, seed)]
    if (asked := actions.asked_in(item)) is not None and (item.get("call_id") or item.get("id")):
        return [_read_action(item, asked)]
    if kind == REASONING:
        return read_reasoning(item)
    if kind == IMAGE and (picture := picture_of(item)):
        return [opaque({name: value for name, value in item.items() if name != "result"}), picture]
    return [opaque(item)]


def is_call(item: Mapping[str, Any]) -> bool:
    """Whether an item waits for its caller to answer it."""
    kind = text_of(item.get("type"))
    return kind in CALLS or (kind in actions.OF_CALL and actions.is_local(item))


def opaque(item: Mapping[str, Any]) -> Part:
    """An item that the contract does not model."""
    return Part(reasoning=pb.ReasoningPart(), state=state_of(text_of(item.get("type")), dict(item)))


def _read_message(item: Mapping[str, Any]) -> list[Part]:
    content = item.get("content")
    if isinstance(content, str):
        content = [{"type": "output_text", "text": content}]
    parts = [read_content_part(entry) for entry in objects(content)]
    outer = item_state(item)
    for number, (part, entry) in enumerate(zip(parts, objects(content), strict=True)):
        if part.HasField("text"):
            seal(part, outer if number == len(parts) - 1 else told({"id": outer.get("id")}), entry)
    return parts


def item_state(item: Mapping[str, Any]) -> dict[str, Any]:
    """What of a message the contract does not model."""
    return told(item, "type", "role", "content")


def seal(part: Part, outer: Mapping[str, Any], entry: Mapping[str, Any]) -> None:
    """Gives a text part what its item and its entry of `content` say beyond the text; nothing when they do not."""
    inner = told(entry, "type", "text")
    data = {"item": dict(outer), "part": {name: value for name, value in inner.items() if value or name not in _EMPTY}}
    if outer or data["part"]:
        part.state.CopyFrom(state_of("message", {name: value for name, value in data.items() if value}))


def read_content_part(entry: Mapping[str, Any]) -> Part:
    """One entry of the `content` of a message of the assistant, without state."""
    kind = _CONTENT.get(text_of(entry.get("type")), "")
    if kind == "text":
        return Part(text=pb.TextPart(text=text_of(entry.get("text"))))
    if kind == "refusal":
        return Part(refusal=pb.RefusalPart(text=text_of(entry.get("refusal"))))
    sound = sound_of(entry) if entry.get("type") == SOUND else None
    if sound:
        return Part(audio=sound)
    return Part(reasoning=pb.ReasoningPart(), state=state_of(CONTENT_PART, dict(entry)))


def is_opaque_entry(entry: Mapping[str, Any]) -> bool:
    """Whether an entry of the `content` of a message is of a type that the contract does not model."""
    return text_of(entry.get("type")) not in {*_CONTENT, "reasoning_text"}


def sound_of(entry: Mapping[str, Any]) -> pb.AudioPart | None:
    """Sound that a model made, with its transcript; None when the entry holds neither."""
    try:
        data = jsontools.unpacked(text_of(entry.get("data")))
    except ValueError:
        return None
    sound = pb.AudioPart(transcript=text_of(entry.get("transcript")))
    if data:
        sound.media.data = data
    return sound if data or sound.transcript else None


def sound_entry(sound: pb.AudioPart) -> dict[str, str]:
    """The entry of `content` for sound."""
    return {"type": SOUND, "data": jsontools.packed(sound.media.data), "transcript": sound.transcript}


def read_call(item: Mapping[str, Any], seed: object) -> Part:
    """A call of a function or of a custom tool."""
    kind = text_of(item.get("type"))
    name = text_of(item.get("name"))
    part = Part(
        tool_call=pb.ToolCall(
            id=text_of(item.get("call_id")) or made_id("call", seed, name),
            name=name,
            arguments=arguments_of(item.get(CALLS[kind])),
            kind=pb.TOOL_KIND_CUSTOM if kind == "custom_tool_call" else pb.TOOL_KIND_FUNCTION,
            namespace=text_of(item.get("namespace")),
        )
    )
    rest = call_state(item)
    if rest:
        part.state.CopyFrom(state_of(kind, rest))
    return part


def call_state(item: Mapping[str, Any]) -> dict[str, Any]:
    """What of a call the contract does not model."""
    return told(item, "type", "call_id", "name", "namespace", CALLS[text_of(item.get("type"))])


def _read_action(item: Mapping[str, Any], asked: Mapping[str, Any]) -> Part:
    """A call of a tool whose form this dialect knows itself."""
    action = actions.OF_CALL[item["type"]]
    call_id = text_of(item.get("call_id")) or text_of(item.get("id"))
    given = told(asked)
    if action.kind == pb.TOOL_KIND_LOCAL_SHELL:  # without what is said of every one of them
        given = {name: value for name, value in given.items() if name != "type" and value != {}}
    arguments = jsontools.dumps(given).decode()
    rest = told(item, "type", "call_id", action.member)
    if actions.made_of(action, arguments) != asked:  # it says more than can be made of the arguments again
        rest[action.member] = asked
    call = pb.ToolCall(id=call_id, name=action.tool, arguments=arguments, kind=action.kind)
    return Part(tool_call=call, state=state_of(action.call, rest))


def texts_of(entries: object) -> list[str]:
    """The texts of `summary` or of the `content` of reasoning; plain text is one entry."""
    if isinstance(entries, str):
        return [entries] if entries else []
    return [text_of(entry.get("text")) for entry in objects(entries)]


def read_reasoning(item: Mapping[str, Any]) -> list[Part]:
    """The parts of a reasoning item: its summary, its text, and what it seals them with."""
    kept = carried(item.get("encrypted_content"))
    summary, content = texts_of(item.get("summary")), texts_of(item.get("content"))
    parts = [
        Part(reasoning=pb.ReasoningPart(text=SEPARATOR.join(texts), summary=texts is summary))
        for texts in (summary, content)
        if any(texts)
    ] or [Part(reasoning=pb.ReasoningPart())]
    if kept:
        parts[-1].reasoning.redacted = kept.reasoning.redacted
        if kept.HasField("state"):
            parts[-1].state.CopyFrom(kept.state)
    else:
        parts[-1].state.CopyFrom(state_of(REASONING, reasoning_state(item)))
    return parts


def reasoning_state(item: Mapping[str, Any]) -> dict[str, Any]:
    """What of a reasoning item the contract does not model, and where its paragraphs end when it has several."""
    state = told(item, "type", "summary", "content")
    for name in ("summary", "content"):
        texts = texts_of(item.get(name))
        if len(texts) > 1 or texts == [""]:
            state.setdefault("lengths", {})[name] = [len(text) for text in texts]
    return state


def picture_of(item: Mapping[str, Any]) -> Part | None:
    """The picture in an image generation call; None while there is none."""
    try:
        data = jsontools.unpacked(text_of(item.get("result")))
    except ValueError:
        return None
    form = text_of(item.get("output_format")) or "png"
    return Part(image=pb.ImagePart(media=Media(data=data, media_type=f"image/{form}"))) if data else None


def groups(parts: Iterable[Part]) -> Iterator[Group]:
    """The parts of one turn of the assistant by the items they make."""
    open_group: Group | None = None
    for part in parts:
        kind = kind_of(part)
        if open_group and not (open_group.kind == kind and _continues(open_group, part)):
            yield open_group
            open_group = None
        if open_group:
            open_group.parts.append(part)
        else:
            open_group = Group(kind, [part])
    if open_group:
        yield open_group


def kind_of(part: Part) -> str:
    """The kind of group that a part belongs to."""
    own = part.state.kind if part.state.dialect == RESPONSES else ""
    match part.WhichOneof("part"):
        case "reasoning":
            if own == CONTENT_PART:
                return "message"
            return "opaque" if own and own != REASONING else "reasoning"
        case "tool_call":
            return "call"
        case "image":
            return "image"
        case _:
            return "message"


def _continues(group: Group, part: Part) -> bool:
    last = group.parts[-1]
    if group.kind == "reasoning":
        return not last.HasField("state")
    if group.kind != "message":
        return False
    last_state = own_state(last) if last.HasField("text") else None
    if not last_state or part.HasField("refusal") or part.HasField("reasoning"):
        return True
    return item_id(part) != "" and item_id(last) == item_id(part)


def item_id(part: Part) -> str:
    """The id of the item that a text part came from; empty when unknown."""
    state = own_state(part) or {}
    item = state.get("item")
    return text_of(item.get("id")) if isinstance(item, dict) else ""


def reasoning_item(parts: Sequence[Part]) -> dict[str, Any]:
    """A reasoning item with all that its parts and their state of this dialect say."""
    state = own_state(parts[-1]) or {}
    lengths = state.pop("lengths", None)
    lengths = lengths if isinstance(lengths, dict) else {}
    out: dict[str, Any] = {"type": REASONING, **state}
    out["summary"] = _entries(parts, lengths.get("summary"), summary=True)
    content = _entries(parts, lengths.get("content"), summary=False)
    return out | ({"content": content} if content else {})


def _entries(parts: Sequence[Part], lengths: object, *, summary: bool) -> list[dict[str, str]]:
    text = "".join(part.reasoning.text for part in parts if part.reasoning.summary == summary)
    kind = "summary_text" if summary else "reasoning_text"
    return [{"type": kind, "text": paragraph} for paragraph in paragraphs(text, lengths)]


def paragraphs(text: str, lengths: object) -> list[str]:
    """A text cut where its paragraphs ended, or whole when the lengths are not its own."""
    if not isinstance(lengths, list) or not all(isinstance(length, int) and length >= 0 for length in lengths):
        return [text] if text else []
    found, place = [], 0
    for length in lengths:
        found.append(text[place : place + length])
        place += length + len(SEPARATOR)
    return found if SEPARATOR.join(found) == text else [text] if text else []


def call_item(part: Part) -> dict[str, Any]:
    """A call with all that its part and its state of this dialect say."""
    call, own = part.tool_call, own_state(part) or {}
    action = actions.OF_KIND.get(call.kind)
    asked = actions.made_of(action, call.arguments) if action else None
    if action and asked is not None:
        own = {"status": "completed"} if own_state(part) is None else own
        return {"type": action.call, action.member: asked, **own, "call_id": call.id}
    kind = "custom_tool_call" if call.kind == pb.TOOL_KIND_CUSTOM else "function_call"
    out = {"type": kind, **own, "call_id": call.id, "name": call.name}
    if call.namespace:
        out["namespace"] = call.namespace
    return out | {CALLS[kind]: call.arguments}


def text_entry(part: Part) -> dict[str, Any]:
    """The entry of `content` for a text of the assistant."""
    inner = (own_state(part) or {}).get("part")
    return {"type": "output_text", "text": part.text.text, **(inner if isinstance(inner, dict) else {})}


def message_state(parts: Iterable[Part]) -> dict[str, Any]:
    """What the state of a message's parts says of the message itself."""
    out: dict[str, Any] = {}
    for part in parts:
        state = own_state(part) if part.HasField("text") else None
        item = (state or {}).get("item")
        out |= item if isinstance(item, dict) else {}
    return out


def opaque_item(part: Part, picture: Part | None = None) -> dict[str, Any]:
    """The item that a state holds whole, a picture in its place."""
    out = own_state(part) or {}
    if picture is not None:
        out["result"] = jsontools.packed(picture.image.media.data)
    return out
