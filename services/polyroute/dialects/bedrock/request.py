"""Conversations as requests of `bedrock.converse`. The model and the wish for a stream stand in the path, not here.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import ChatRequest, Message, Part, Tool
from polyroute.dialects import drawn, jsontools
from polyroute.dialects.asking import leave_out, unsupported
from polyroute.dialects.bedrock import blocks
from polyroute.dialects.bedrock.blocks import Block, Names
from polyroute.dialects.bedrock.common import BLOCKS, CONVERSE
from polyroute.dialects.bedrock.families import FAMILIES, Family, family_of, think
from polyroute.dialects.openai.common import made_call_id

_ID: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_SYSTEM: Final = (pb.ROLE_SYSTEM, pb.ROLE_DEVELOPER)
_FIELDS: Final = "additionalModelRequestFields"
_DROPPED: Final = ("frequency_penalty", "presence_penalty", "seed", "logprobs", "top_logprobs")
_TAG_NAME: Final = re.compile(r"[a-zA-Z0-9\s:_@$#=/+,.-]{1,256}")
_TAG_VALUE: Final = re.compile(r"[a-zA-Z0-9\s:_@$#=/+,.-]{0,256}")
_MAX_TAGS: Final = 16
_ANY_OBJECT: Final[Mapping[str, Any]] = {"type": "object", "properties": {}}
# What a client marks for caching in the manner of other APIs: a member of a part, a message or a tool.
_CACHE_MARK: Final = "cache_control"
_LIFETIMES: Final = ("5m", "1h")


@dataclass(frozen=True, slots=True)
class Options:
    """What an account's models take, where they differ.

    Attributes:
        families: The families of models; the first whose pattern matches a model's id decides.
    """

    families: tuple[Family, ...] = FAMILIES


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


class RequestWriter:
    """Writes one request.

    Args:
        request: The conversation.
        family: Of the model that is asked.
        own: Extensions are of this dialect.
    """

    def __init__(self, request: ChatRequest, family: Family, *, own: bool) -> None:
        self._request = request
        self._family = family
        self._own = own
        self._names = Names()
        self._ids = CallIds()
        self._calls: dict[str, None] = {}  # names of tools that were called or answered, in order
        self._number = 0
        self.dropped: list[str] = []

    def write(self) -> dict[str, Any]:
        """The body."""
        request = self._request
        system, messages = self._conversation()
        out: dict[str, Any] = {"messages": messages}
        if system:
            out["system"] = system
        thinking = think(self._family, request)
        self.dropped += [_wish_name(name) for name in thinking.unused]
        inference = self._inference(thinking.displaced)
        if inference:
            out["inferenceConfig"] = inference
        tools = self._tool_config()
        if tools:
            out["toolConfig"] = tools
        form = self._form()
        if form:
            out["outputConfig"] = form
        tags = self._tags()
        if tags:
            out["requestMetadata"] = tags
        fields = self._top_k(thinking.displaced) | thinking.fields
        if fields:
            out[_FIELDS] = fields
        self._leave_out()
        self._extend(out)
        return out

    def _conversation(self) -> tuple[list[Block], list[dict[str, Any]]]:
        """System blocks, and messages in which the two roles alternate."""
        system: list[Block] = []
        turns: list[tuple[str, list[Block]]] = []
        for number, message in enumerate(drawn.shown_by_users(self._request.messages, self.dropped)):
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
        return out + self._cache(message.extensions, "system", out)

    def _user(self, message: Message, where: str) -> list[Block]:
        out: list[Block] = []
        for number, part in enumerate(message.parts):
            place = f"{where}.content[{number}]"
            if part.HasField("tool_result"):
                result = part.tool_result
                self._calls.setdefault(result.name)
                call_id = self._ids.of_result(result)
                block: Block | None = blocks.write_result(result, call_id, place, self._names, own=self._own)
            else:
                block = blocks.write_block(part, place, self._names, own=self._own)
            out += self._marked(part, block, "messages")
        return out + self._cache(message.extensions, "messages", out)

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
                    self.dropped.append("messages.audio")
                case _:
                    block = blocks.write_block(part, place, self._names, own=self._own)
                    out += self._marked(part, block, "messages")
        out += [block for _, _, block in held]
        return out + self._cache(message.extensions, "messages", out)

    def _reasoning(self, part: Part) -> list[Block]:
        block = blocks.write_reasoning(part)
        if block is None:
            self.dropped.append("messages.reasoning")
        return [block] if block else []

    def _call(self, part: Part) -> Block:
        call = part.tool_call
        self._calls.setdefault(call.name)
        self._number += 1
        call_id = self._ids.of_call(call, self._number)
        return {"toolUse": {"toolUseId": call_id, "name": call.name, "input": blocks.write_input(call)}}

    def _marked(self, part: Part, block: Block | None, where: str) -> list[Block]:
        """A block, and the cache point that its part asks for after it."""
        out = [block] if block else []
        return out + self._cache(part.extensions, where, out)

    def _cache(self, extensions: Mapping[str, bytes], where: str, before: Sequence[Block]) -> list[Block]:
        """The cache point that extensions ask for, in this API's manner or in that of others."""
        point: Any = None
        if self._own and "cachePoint" in extensions:
            point = jsontools.loads(extensions["cachePoint"])
        elif _CACHE_MARK in extensions:
            mark = jsontools.loads(extensions[_CACHE_MARK])
            lifetime = mark.get("ttl") if isinstance(mark, dict) else None
            point = {"type": "default"} | ({"ttl": lifetime} if lifetime in _LIFETIMES else {})
        if point is None or not before:
            return []
        if where not in self._family.cache and not self._own:
            self.dropped.append(_CACHE_MARK)
            return []
        return [{"cachePoint": point}]

    def _inference(self, displaced: frozenset[str]) -> dict[str, Any]:
        request, sampling = self._request, self._request.sampling
        out: dict[str, Any] = {}
        if request.max_output_tokens:
            out["maxTokens"] = request.max_output_tokens
        for name, member in (("temperature", "temperature"), ("top_p", "topP")):
            if not sampling.HasField(name):  # type: ignore[arg-type] # the names stand in the line above
                continue
            if name in displaced or getattr(sampling, name) > 1:  # this API draws from 0 to 1
                self.dropped.append(name)
            else:
                out[member] = getattr(sampling, name)
        stop = [text for text in request.stop if text]
        if stop:
            out["stopSequences"] = stop
        return out

    def _top_k(self, displaced: frozenset[str]) -> dict[str, Any]:
        sampling = self._request.sampling
        if not sampling.HasField("top_k"):
            return {}
        if not self._family.top_k or "top_k" in displaced:
            self.dropped.append("top_k")
            return {}
        value: Any = sampling.top_k
        for member in reversed(self._family.top_k):
            value = {member: value}
        return dict(value)

    def _tool_config(self) -> dict[str, Any]:
        request = self._request
        tools: list[Block] = []
        for number, tool in enumerate(request.tools):
            tools.append(self._tool(tool, f"tools[{number}]"))
            tools += self._cache(tool.extensions, "tools", tools)
        choice = self._choice(self._calls)
        if choice is None:
            return {}
        if not tools:
            # a conversation that holds calls and results is refused without the tools they belong to
            tools = [_spec(name, _ANY_OBJECT) for name in self._calls if name]
            choice = {}
        return {"tools": tools} | ({"toolChoice": choice} if choice else {}) if tools else {}

    def _tool(self, tool: Tool, where: str) -> Block:
        if self._own and "systemTool" in tool.extensions:
            return {"systemTool": jsontools.loads(tool.extensions["systemTool"])}
        if tool.kind == pb.TOOL_KIND_CUSTOM:
            raise unsupported("a tool that takes free text cannot be offered here", where)
        schema = jsontools.loads(tool.parameters) if tool.parameters else _ANY_OBJECT
        out = _spec(tool.name, schema)
        if tool.description:
            out["toolSpec"]["description"] = tool.description
        if tool.HasField("strict") and tool.strict:
            out["toolSpec"]["strict"] = True
        return out

    def _choice(self, called: Mapping[str, None]) -> dict[str, Any] | None:
        """`toolChoice`, empty for the vendor's own; None when no tools may be offered at all."""
        choice = self._request.tool_choice
        if choice.raw:
            value = jsontools.loads(choice.raw) if self._own else None
            if isinstance(value, dict):
                return value
            self.dropped.append("tool_choice")
            return {}
        match choice.mode:
            case pb.ToolChoice.MODE_AUTO:
                return {"auto": {}}
            case pb.ToolChoice.MODE_REQUIRED:
                return {"any": {}}
            case pb.ToolChoice.MODE_NAMED:
                return {"tool": {"name": choice.name}}
            case pb.ToolChoice.MODE_NONE:
                if not called:
                    return None  # this API has no such choice: not offering them says the same
                self.dropped.append("tool_choice")
        return {}

    def _form(self) -> dict[str, Any]:
        form = self._request.response_format
        if form.type in (pb.ResponseFormat.TYPE_UNSPECIFIED, pb.ResponseFormat.TYPE_TEXT):
            return {}
        if form.type != pb.ResponseFormat.TYPE_JSON_SCHEMA or not form.schema:
            self.dropped.append("response_format")
            return {}
        schema = {"schema": form.schema.decode("utf-8", "replace")}
        schema |= {"name": form.name} if form.name else {}
        schema |= {"description": form.description} if form.description else {}
        return {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": schema}}}

    def _tags(self) -> dict[str, str]:
        given = self._request.metadata
        tags = {
            name: value for name, value in given.items() if _TAG_NAME.fullmatch(name) and _TAG_VALUE.fullmatch(value)
        }
        return tags if len(tags) == len(given) <= _MAX_TAGS else {}

    def _leave_out(self) -> None:
        sampling = self._request.sampling
        given = {descriptor.name: value for descriptor, value in sampling.ListFields()}
        self.dropped += [name for name in _DROPPED if given.get(name, False) is not False]
        if sampling.logit_bias:
            self.dropped.append("logit_bias")
        leave_out(self._request, self.dropped)
        if self._tags():
            self.dropped.remove("metadata")

    def _extend(self, out: dict[str, Any]) -> None:
        """Members that the contract does not model; those for the model itself join what was made of the others."""
        if not self._own:
            self.dropped += sorted(name for name in self._request.extensions if name != _CACHE_MARK)
            return
        for name, raw in self._request.extensions.items():
            value = jsontools.loads(raw)
            if name == _FIELDS and isinstance(value, dict):
                out[_FIELDS] = {**out.get(_FIELDS, {}), **value}
            elif name not in out:
                out[name] = value


def write_request(request: ChatRequest, *, model: str, source: str, options: Options) -> tuple[bytes, list[str]]:
    """See `dialect.Outbound.write_request`."""
    body, dropped = compose(request, model=model, source=source, options=options)
    return encoded(body), dropped


def encoded(body: dict[str, Any]) -> bytes:
    """A body as bytes."""
    try:
        return jsontools.dumps(body)
    except RecursionError:
        raise jsontools.invalid("the request is nested too deeply") from None


def compose(request: ChatRequest, *, model: str, source: str, options: Options) -> tuple[dict[str, Any], list[str]]:
    """The body before it becomes bytes.

    Raises:
        MeshError: as `dialect.Outbound.write_request`; REASON_INVALID_REQUEST for broken JSON in an extension.
    """
    writer = RequestWriter(request, family_of(model, options.families), own=source in ("", CONVERSE))
    try:
        body = writer.write()
    except (ValueError, AttributeError) as error:  # of JSON inside the typed form, which nobody has read before
        raise jsontools.invalid("an extension or a schema of the request is not valid JSON") from error
    return body, list(dict.fromkeys(writer.dropped))


def _wish_name(name: str) -> str:
    return "reasoning_effort" if name == "effort" else f"reasoning.{name}"


def _spec(name: str, schema: Any) -> Block:
    return {"toolSpec": {"name": name, "inputSchema": {"json": schema}}}


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
