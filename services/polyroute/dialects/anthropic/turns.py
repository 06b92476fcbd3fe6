"""Messages of a conversation as this dialect wants them.

System messages stand apart; the answers of tools are blocks of a user; turns of one side that follow one another are
one turn (which is how the vendor reads them anyway, and compatible ones insist on it).
"""

from collections.abc import Iterable
from typing import Any

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import Message, Part
from polyroute.dialects import jsontools
from polyroute.dialects.anthropic import media, seals
from polyroute.dialects.anthropic.common import NAME, Options, fitting_call_id, made_call_id, put_extras, unsupported

_SYSTEM = (pb.ROLE_SYSTEM, pb.ROLE_DEVELOPER)


class Turns:
    """Collects the messages of one request.

    Args:
        source: Dialect that the conversation came in.
        options: What the vendor takes.
        dropped: Names of what is left out are added here.

    Attributes:
        system: Blocks of the system prompt.
        messages: The turns.
    """

    def __init__(self, source: str, options: Options, dropped: list[str]) -> None:
        self.system: list[dict[str, Any]] = []
        self.messages: list[dict[str, Any]] = []
        self._source = source
        self._own = source in ("", NAME)
        self._in_place = options.system_messages or source == NAME
        self._dropped = dropped
        self._calls = 0
        self._waiting: list[tuple[str, str]] = []  # id and name of calls that came without an id, not answered yet

    def add(self, messages: Iterable[Message]) -> None:
        """Adds messages in order."""
        for message in messages:
            if message.role in _SYSTEM and not (self.messages and self._in_place):
                self.system += self._content(message)
            else:
                self._turn(message)

    def system_member(self) -> Any:
        """`system`: a text where that is all there is."""
        return _short(self.system)

    def _turn(self, message: Message) -> None:
        role = "system" if message.role in _SYSTEM else "assistant" if message.role == pb.ROLE_ASSISTANT else "user"
        content = self._content(message)
        if not content and not self._own:
            return  # an empty turn is refused, and says nothing
        if self.messages and self.messages[-1]["role"] == role:
            turn = self.messages[-1]
            turn["content"] = _short(_long(turn["content"]) + content)
        else:
            turn = {"role": role, "content": _short(content)}
            self.messages.append(turn)
        if self._own:
            put_extras(turn, message.extensions)

    def _content(self, message: Message) -> list[dict[str, Any]]:
        blocks = []
        write = self._said if message.role == pb.ROLE_ASSISTANT else self._asked
        for part in message.parts:
            block = write(part) if part.HasField("state") or not part.HasField("text") else self._text(part)
            if block is not None:
                blocks.append(self._extended(block, part))
        return blocks

    def _extended(self, block: dict[str, Any], part: Part) -> dict[str, Any]:
        """The block with its extensions; of another dialect's only cache marks, which mean the same everywhere."""
        extensions = part.extensions
        for name, raw in extensions.items() if extensions else ():
            if self._own or name == "cache_control":
                block.setdefault(name, jsontools.loads(raw))
        return block

    def _said(self, part: Part) -> dict[str, Any] | None:
        """A block of the assistant."""
        kept = own_block(part)
        if kept is not None:
            return kept
        match part.WhichOneof("part"):
            case "text":
                return self._text(part)
            case "refusal":
                return {"type": "text", "text": part.refusal.text} if part.refusal.text else None
            case "reasoning":
                return self._reasoning(part)
            case "tool_call":
                return self._call(part)
            case "audio" if part.audio.transcript:
                return {"type": "text", "text": part.audio.transcript}
            case "image" | "file":
                return self._asked(part)
            case kind:
                raise unsupported(f"a {kind} part cannot be expressed in {NAME}", "messages")

    def _text(self, part: Part) -> dict[str, Any] | None:
        if not part.text.text and not self._own:
            return None  # refused when empty
        return text_block(part)

    def _reasoning(self, part: Part) -> dict[str, Any] | None:
        """Thinking goes back sealed, as it came, or not at all: vendors check the seal."""
        block = reasoning_block(part)
        if block is None and self._source == NAME and not part.HasField("state") and not part.reasoning.redacted:
            return {"type": "thinking", "thinking": part.reasoning.text}  # of a vendor that does not seal
        if block is None:
            self._dropped.append("messages.reasoning")
        return block

    def _call(self, part: Part) -> dict[str, Any]:
        call = part.tool_call
        call_id = fitting_call_id(call.id) if call.id else made_call_id(self._calls, call.name, call.arguments)
        if not call.id:
            self._waiting.append((call_id, call.name))
        self._calls += 1
        return {"type": "tool_use", "id": call_id, "name": call.name, "input": input_of(call.arguments)}

    def _asked(self, part: Part) -> dict[str, Any] | None:
        """A block of anyone but the assistant."""
        kept = own_block(part)
        if kept is not None:
            return kept
        match part.WhichOneof("part"):
            case "text":
                return self._text(part)
            case "image":
                if part.image.detail not in ("", "auto"):
                    self._dropped.append("messages.detail")
                return media.write_image(part.image)
            case "file":
                return media.write_document(part.file, "messages")
            case "tool_result":
                return self._result(part.tool_result)
            case kind:
                raise unsupported(f"a {kind} part cannot be expressed in {NAME}", "messages")

    def _result(self, result: pb.ToolResult) -> dict[str, Any]:
        call_id = fitting_call_id(result.tool_call_id) if result.tool_call_id else self._answered(result.name)
        out: dict[str, Any] = {"type": "tool_result", "tool_use_id": call_id}
        blocks = [self._extended(block, part) for part in result.parts if (block := self._asked(part)) is not None]
        if blocks:
            out["content"] = _short(blocks)
        if result.failed:
            out["is_error"] = True
        return out

    def _answered(self, name: str) -> str:
        """The id of the call that a result without an id answers: the first of its name, else the first."""
        place = next((number for number, (_, called) in enumerate(self._waiting) if called == name), 0)
        return self._waiting.pop(place)[0] if self._waiting else made_call_id("unknown", name)


def _short(blocks: list[dict[str, Any]]) -> Any:
    """Content as a text where that is all there is."""
    if not blocks:
        return ""
    alone = len(blocks) == 1 and blocks[0].keys() == {"type", "text"} and blocks[0]["type"] == "text"
    return blocks[0]["text"] if alone else blocks


def _long(content: Any) -> list[dict[str, Any]]:
    if not content:
        return []
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def own_block(part: Part) -> dict[str, Any] | None:
    """The block that a part keeps whole in its state."""
    data = seals.own_data(part, seals.BLOCK)
    if data is None:
        return None
    block = jsontools.loads(data)
    return block if isinstance(block, dict) else None


def text_block(part: Part) -> dict[str, Any]:
    """A text with its citations."""
    out: dict[str, Any] = {"type": "text", "text": part.text.text}
    if not part.HasField("state"):
        return out
    citations = seals.own_data(part, seals.CITATIONS)
    if citations:
        out["citations"] = jsontools.loads(citations)
    return out


def reasoning_block(part: Part) -> dict[str, Any] | None:
    """Thinking with this dialect's own seal; None without one."""
    redacted = seals.own_data(part, seals.REDACTED)
    if redacted is not None:
        return {"type": "redacted_thinking", "data": redacted.decode("utf-8", "replace")}
    signature = seals.own_data(part, seals.SIGNATURE)
    if signature is None:
        return None
    return {"type": "thinking", "thinking": part.reasoning.text, "signature": signature.decode("utf-8", "replace")}


def input_of(arguments: str) -> dict[str, Any]:
    """The `input` of a call, which must be an object: what a model wrote otherwise stands in one."""
    try:
        value = jsontools.loads(arguments.encode()) if arguments else {}
    except ValueError:
        value = arguments
    return value if isinstance(value, dict) else {"input": value}
