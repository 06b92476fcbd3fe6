"""What an assistant made besides text, in conversations for formats that take pictures and sound from users only.

A picture moves into the next turn of the user, before the words that are said about it, and sound is told by its
transcript. The model sees and reads the same; only who showed it differs, which those formats cannot say.
"""

from collections.abc import Iterable, Sequence

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import Message, Part

PICTURES = "messages.images"  # the name under which pictures are dropped


def shown_by_users(messages: Sequence[Message], dropped: list[str], *, own: str = "") -> Sequence[Message]:
    """The conversation without pictures, and sound with a transcript, in turns of the assistant.

    Args:
        messages: The conversation; not changed, and the answer itself when there is nothing to move.
        dropped: Gets the name of pictures after which no turn of a user or a tool comes.
        own: The vendor's format, when it has a form of its own for a picture whose state stands in the part before it.
    """
    assistant = pb.ROLE_ASSISTANT
    if not any(message.role == assistant and _made(message, own) for message in messages):
        return messages
    out: list[Message] = []
    waiting: list[Part] = []
    for message in messages:
        if message.role == pb.ROLE_ASSISTANT:
            made = _made(message, own)
            waiting += [Part(image=part.image) for part in made if part.HasField("image")]
            out += _without(message, made)
        elif waiting and message.role == pb.ROLE_USER:
            out.append(_with(message, waiting))
            waiting = []
        else:
            out.append(message)
    if waiting and out and out[-1].role == pb.ROLE_TOOL:
        out.append(Message(role=pb.ROLE_USER, parts=waiting))
    elif waiting:
        dropped.append(PICTURES)
    return out


def _made(message: Message, own: str) -> list[Part]:
    """The parts of a message of the assistant that cannot stay."""
    found: list[Part] = []
    before: Part | None = None
    for part in message.parts:
        kept = before is not None and own and before.state.dialect == own
        if (part.HasField("image") and not kept) or (part.HasField("audio") and _told(part)):
            found.append(part)
        before = part
    return found


def _told(part: Part) -> bool:
    """Whether sound can be told by its words; what the vendor holds by an id it knows itself."""
    return bool(part.audio.transcript) and not part.audio.id


def _without(message: Message, made: list[Part]) -> Iterable[Message]:
    """The message with words for its sound and no pictures; nothing when that leaves nothing of it."""
    if not made:
        return [message]
    gone = {id(part) for part in made}
    left = Message()
    left.CopyFrom(message)
    del left.parts[:]
    for part in message.parts:
        if id(part) not in gone:
            left.parts.append(part)
        elif part.HasField("audio"):
            left.parts.add().text.text = part.audio.transcript
    return [left] if left.parts else []


def _with(message: Message, pictures: list[Part]) -> Message:
    """The user's message with pictures before its words, and after results of tools, which come first everywhere."""
    shown = Message()
    shown.CopyFrom(message)
    del shown.parts[:]
    results = [part for part in message.parts if part.HasField("tool_result")]
    others = [part for part in message.parts if not part.HasField("tool_result")]
    shown.parts.extend([*results, *pictures, *others])
    return shown
