"""Messages of a conversation as this dialect wants them.

System messages stand apart; the two roles alternate, so turns of one side that follow one another are one; results of
tools come first in the turn of a user, under the ids of their calls. What `reader` put aside of an answer of this
dialect returns to its place in the text.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import Message, Part
from polyroute.dialects import drawn, jsontools
from polyroute.dialects.asking import unsupported
from polyroute.dialects.bedrock import blocks
from polyroute.dialects.bedrock.blocks import Block, Names
from polyroute.dialects.bedrock.cache_points import CachePoints
from polyroute.dialects.bedrock.common import BLOCKS
from polyroute.dialects.openai.common import made_call_id

_ID: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_SYSTEM: Final = (pb.ROLE_SYSTEM, pb.ROLE_DEVELOPER)


class CallIds:
    """The ids of tool calls in one request: each once, in the letters that this API takes, found again by results."""

    def __init__(self) -> None:
        self._used: set[str] = set()
        self._latest: dict[str, str] = {}
        self._waiting: list[tuple[str, str]] = []  # calls without an id of their own: (name, id that was made)

    def of_call(self, call: pb.ToolCall, number: int) -> str:
        """The id under which a call is sent; `number` is its place among the calls."""
        given = call.id
        made = given
        if not _ID.fullmatch(given) or given in self._used:
            made = made_call_id(given, call.name, call.arguments, number)
        self._used.add(made)
        if given:
            self._latest[given] = made
        else:
            self._waiting.append((call.name, made))
        return made

    def of_result(self, result: pb.ToolResult) -> str:
        """The id under which a result is sent: that of its call, by id, else by name, else in order."""
        given = result.tool_call_id
        if given:
            return self._latest.get(given) or (given if _ID.fullmatch(given) else made_call_id(given))
        waiting = self._waiting
        found = next((pair for pair in waiting if pair[0] == result.name), waiting[0] if waiting else None)
        if found is None:
            return made_call_id(result.name)
        waiting.remove(found)
        return found[1]


class Turns:
    """Writes the messages of one request.

    Args:
        cache: Its cache points.
        dropped: Gets the names of what is left out.
        own: Extensions are of this dialect.

    Attributes:
        called: Names of tools that were called or answered, in order.
    """

    def __init__(self, cache: CachePoints, dropped: list[str], *, own: bool) -> None:
        self._cache = cache
        self._dropped = dropped
        self._own = own
        self._names = Names()
        self._ids = CallIds()
        self._number = 0
        self.called: dict[str, None] = {}

    def write(self, messages: Sequence[Message]) -> tuple[list[Block], list[dict[str, Any]]]:
        """System blocks, and messages in which the two roles alternate."""
        system: list[Block] = []
        turns: list[tuple[str, list[Block]]] = []
        for number, message in enumerate(drawn.shown_by_users(messages, self._dropped)):
            where = f"messages[{number}]"
            if message.role in _SYSTEM:
                system += self._system(message, where)
                continue
            role = "assistant" if message.role == pb.ROLE_ASSISTANT else "user"
            content = self._assistant(message, where) if role == "assistant" else self._user(message, where)
            if turns and turns[-1][0] == role:
                turns[-1][1].extend(content)
            elif content:
                turns.append((role, content))
        return system, [{"role": role, "content": _results_first(content)} for role, content in turns]

    def _system(self, message: Message, where: str) -> list[Block]:
        out: list[Block] = []
        for number, part in enumerate(message.parts):
            place = f"{where}.content[{number}]"
            if part.WhichOneof("part") != "text":
                raise unsupported("a system message can hold text only", place)
            out += self._marked(part, blocks.write_block(part, place, self._names, own=self._own), "system")
        return out + self._cache.after(message.extensions, "system", out)

    def _user(self, message: Message, where: str) -> list[Block]:
        out: list[Block] = []
        for number, part in enumerate(message.parts):
            place = f"{where}.content[{number}]"
            if part.HasField("tool_result"):
                result = part.tool_result
                self.called.setdefault(result.name)
                call_id = self._ids.of_result(result)
                block: Block | None = blocks.write_result(result, call_id, place, self._names, own=self._own)
            else:
                block = blocks.write_block(part, place, self._names, own=self._own)
            out += self._marked(part, block, "messages")
        return out + self._cache.after(message.extensions, "messages", out)

    def _assistant(self, message: Message, where: str) -> list[Block]:
        held = _held_blocks(message) if self._own else []
        out: list[Block] = []
        offset = 0
        for number, part in enumerate(_fused(message.parts) if held else message.parts):
            place = f"{where}.content[{number}]"
            match part.WhichOneof("part"):
                case "text" if held:
                    out += _woven(part.text.text, offset, held)
                    offset += len(part.text.text)
                case "reasoning":
                    out += self._reasoning(part)
                case "tool_call":
                    out += [block for _, _, block in held]
                    held = []
                    out += self._marked(part, self._call(part), "messages")
                case "audio" if not part.audio.HasField("media"):
                    self._dropped.append("messages.audio")
                case _:
                    block = blocks.write_block(part, place, self._names, own=self._own)
                    out += self._marked(part, block, "messages")
        out += [block for _, _, block in held]
        return out + self._cache.after(message.extensions, "messages", out)

    def _reasoning(self, part: Part) -> list[Block]:
        block = blocks.write_reasoning(part)
        if block is None:
            self._dropped.append("messages.reasoning")
        return [block] if block else []

    def _call(self, part: Part) -> Block:
        call = part.tool_call
        self.called.setdefault(call.name)
        self._number += 1
        call_id = self._ids.of_call(call, self._number)
        return {"toolUse": {"toolUseId": call_id, "name": call.name, "input": blocks.write_input(call)}}

    def _marked(self, part: Part, block: Block | None, where: str) -> list[Block]:
        """A block, and the cache point that its part asks for after it."""
        out = [block] if block else []
        return out + self._cache.after(part.extensions, where, out)


def _results_first(content: list[Block]) -> list[Block]:
    """Results of tools before anything else that the user says, as the models want them."""
    if not any("toolResult" in block for block in content):
        return content
    place = max(number for number, block in enumerate(content) if "toolResult" in block)
    head, tail = content[: place + 1], content[place + 1 :]
    results: list[Block] = []
    others: list[Block] = []
    target = others
    for block in head:
        if "cachePoint" not in block:  # which stays with what it marks
            target = results if "toolResult" in block else others
        target.append(block)
    return results + others + tail


def _held_blocks(message: Message) -> list[tuple[int, int, Block]]:
    """The blocks that `reader` put aside, as (from, to, block) in characters of the text."""
    raw = message.extensions.get(BLOCKS)
    value = jsontools.loads(raw) if raw else []
    out: list[tuple[int, int, Block]] = []
    for entry in value if isinstance(value, list) else ():
        if not isinstance(entry, dict) or not isinstance(entry.get("from"), int):
            continue
        rest = {name: item for name, item in entry.items() if name not in ("from", "to")}
        if len(rest) == 1 and isinstance(next(iter(rest.values())), dict):
            end = entry.get("to")
            out.append((entry["from"], end if isinstance(end, int) else entry["from"], rest))
    return sorted(out, key=lambda held: held[:2])


def _fused(parts: Iterable[Part]) -> list[Part]:
    """The parts with neighbouring texts as one, so that a block may span them."""
    out: list[Part] = []
    for part in parts:
        if out and part.HasField("text") and out[-1].HasField("text"):
            out[-1] = Part(text=pb.TextPart(text=out[-1].text.text + part.text.text))
        else:
            out.append(part)
    return out


def _woven(text: str, offset: int, held: list[tuple[int, int, Block]]) -> list[Block]:
    """A text with the blocks that stood in it, which are taken out of `held`; it begins `offset` characters in."""
    out: list[Block] = []
    done = 0
    while held and held[0][0] <= offset + len(text):
        start, end, block = held.pop(0)
        first = max(start - offset, done)
        last = min(max(end - offset, first), len(text))
        if text[done:first].strip():
            out.append({"text": text[done:first]})
        cited = block.get("citationsContent")
        if isinstance(cited, dict):
            content = {"content": [{"text": text[first:last]}]} if first < last else {}
            block = {"citationsContent": {**content, **cited}}
            done = last
        else:
            done = first
        out.append(block)
    if text[done:].strip():
        out.append({"text": text[done:]})
    return out
