"""Conversations as requests of `bedrock.converse`: members and tools; `turns` writes the messages.

The model and the wish for a stream stand in the path, not here.
https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import ChatRequest, Tool
from polyroute.dialects import jsontools
from polyroute.dialects.asking import leave_out, unsupported
from polyroute.dialects.bedrock.blocks import Block
from polyroute.dialects.bedrock.cache_points import CACHE_MARK, CachePoints
from polyroute.dialects.bedrock.common import CONVERSE
from polyroute.dialects.bedrock.families import FAMILIES, Family, family_of, think
from polyroute.dialects.bedrock.turns import Turns

_FIELDS: Final = "additionalModelRequestFields"
_DROPPED: Final = ("frequency_penalty", "presence_penalty", "seed", "logprobs", "top_logprobs")
_TAG_NAME: Final = re.compile(r"[a-zA-Z0-9\s:_@$#=/+,.-]{1,256}")
_TAG_VALUE: Final = re.compile(r"[a-zA-Z0-9\s:_@$#=/+,.-]{0,256}")
_MAX_TAGS: Final = 16
_ANY_OBJECT: Final[Mapping[str, Any]] = {"type": "object", "properties": {}}


@dataclass(frozen=True, slots=True)
class Options:
    """What an account's models take, where they differ.

    Attributes:
        families: The families of models; the first whose pattern matches a model's id decides.
    """

    families: tuple[Family, ...] = FAMILIES


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
        self.dropped: list[str] = []
        self._cache = CachePoints(family, self.dropped, own=own)
        self._turns = Turns(self._cache, self.dropped, own=own)

    def write(self) -> dict[str, Any]:
        """The body."""
        request = self._request
        system, messages = self._turns.write(request.messages)
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
            tools += self._cache.after(tool.extensions, "tools", tools)
        choice = self._choice(self._turns.called)
        if choice is None:
            return {}
        if not tools:
            # a conversation that holds calls and results is refused without the tools they belong to
            tools = [_spec(name, _ANY_OBJECT) for name in self._turns.called if name]
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
            self.dropped += sorted(name for name in self._request.extensions if name != CACHE_MARK)
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
