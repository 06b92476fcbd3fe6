"""`gemini.generate` requests to vendors: a conversation into JSON."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import ChatRequest, Message, Part, Tool
from polyroute.dialects import jsontools
from polyroute.dialects.asking import (
    Calls,
    json_of_callers,
    leave_out,
    object_in,
    objects_in,
    put_extensions,
    put_sampling,
    unsupported,
)
from polyroute.dialects.gemini import parts
from polyroute.dialects.gemini.common import MESSAGE_MEMBERS, NAME, SIGNATURE
from polyroute.dialects.gemini.schema import from_json_schema

_SAMPLING: Final = {
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "frequency_penalty": "frequencyPenalty",
    "presence_penalty": "presencePenalty",
    "seed": "seed",
    "logprobs": "responseLogprobs",
    "top_logprobs": "logprobs",
}
_MODE_NAMES: Final = {
    pb.ToolChoice.MODE_AUTO: "AUTO",
    pb.ToolChoice.MODE_NONE: "NONE",
    pb.ToolChoice.MODE_REQUIRED: "ANY",
    pb.ToolChoice.MODE_NAMED: "ANY",
}
# Effort -> budget in tokens, and level, of thinking. Both columns and the equality of the last rows with `high` are
# those of https://ai.google.dev/gemini-api/docs/openai#thinking; thinking in levels cannot be turned off.
_BUDGETS: Final = {"none": 0, "minimal": 1024, "low": 1024, "medium": 8192, "high": 24576, "xhigh": 24576, "max": 24576}
_LEVELS: Final = {
    "none": "MINIMAL",
    "minimal": "MINIMAL",
    "low": "LOW",
    "medium": "MEDIUM",
    "high": "HIGH",
    "xhigh": "HIGH",
    "max": "HIGH",
}
_DYNAMIC: Final = -1  # a budget that the model chooses
_SYSTEM: Final = (pb.ROLE_SYSTEM, pb.ROLE_DEVELOPER)


@dataclass(frozen=True, slots=True)
class Options:
    """How deployments of this dialect differ in what they take; a provider sets what its models need.

    Attributes:
        thinking: Effort is told as a `level` (models of the third generation on) or as a `budget` of tokens (before).
        least_level: The lowest level that is taken; some models do not know MINIMAL.
        json_schema: JSON Schema is taken as it is; otherwise it is rewritten into the API's own `Schema`.
        unsigned_calls: Stands for the signature of calls and pictures that another vendor's model made, or that a
            client kept without: models of the third generation on refuse a history without signatures and document
            this word. Empty where signatures are not demanded.
    """

    thinking: Literal["level", "budget"] = "level"
    least_level: Literal["MINIMAL", "LOW"] = "MINIMAL"
    json_schema: bool = True
    # https://ai.google.dev/gemini-api/docs/thought-signatures
    unsigned_calls: str = "skip_thought_signature_validator"


def write_request(request: ChatRequest, *, source: str, options: Options) -> tuple[bytes, list[str]]:
    """See `dialect.Dialect.write_request`; model and stream are in the address, not in the body."""
    with json_of_callers():
        out, dropped = write_object(request, source=source, options=options)
        return jsontools.dumps(out), dropped


def write_object(request: ChatRequest, *, source: str, options: Options) -> tuple[dict[str, Any], list[str]]:
    """The request before it is bytes, and the names of parameters that were left out."""
    dropped: list[str] = []
    own = source in ("", NAME)
    contents = Contents(options, source, dropped)
    for number, message in enumerate(request.messages):
        contents.add(message, f"messages[{number}]")
    out = contents.members()
    _write_tools(request, out, options, dropped, own=own)
    _write_choice(request, out, dropped, own=own)
    config = _write_config(request, options, dropped, own=own, exact=source == NAME)
    if config:
        out["generationConfig"] = config
    leave_out(request, dropped, choices=False)
    put_extensions(request.extensions, out, dropped, own=own)
    return out, list(dict.fromkeys(dropped))


class Contents:
    """`contents` and `systemInstruction` in the making.

    Args:
        options: What the vendor takes.
        source: Dialect that the conversation came in.
        dropped: Gets the names of what is left out.
    """

    def __init__(self, options: Options, source: str, dropped: list[str]) -> None:
        self._options = options
        self._own = source in ("", NAME)
        self._exact = source == NAME  # the client's own contents are kept apart and as they are
        self._dropped = dropped
        self._system: list[dict[str, Any]] = []
        self._contents: list[dict[str, Any]] = []
        self._calls = Calls()

    def add(self, message: Message, where: str) -> None:
        """The next message; those of one speaker in a row are one content."""
        if message.role in _SYSTEM:
            self._system += self._parts(message, where)
            if any("text" not in part for part in self._system):
                raise unsupported("a system message holds something else than text", where)
            return
        role = "model" if message.role == pb.ROLE_ASSISTANT else "user"
        written = self._parts(message, where)
        if not written and not self._exact:
            return
        if self._contents and self._contents[-1]["role"] == role and not self._exact:
            self._contents[-1]["parts"] += written
            content = self._contents[-1]
        else:
            content = {"role": role, "parts": written}
            self._contents.append(content)
        extensions = {name: raw for name, raw in message.extensions.items() if name not in MESSAGE_MEMBERS}
        put_extensions(extensions, content, self._dropped, own=self._own, where="messages.")

    def members(self) -> dict[str, Any]:
        """The members of the request; one without any turn asks its instructions as the user's words."""
        if not self._exact:
            for content in self._contents:
                self._sign(content)
        if not self._contents:
            return {"contents": [{"role": "user", "parts": self._system}]}
        out: dict[str, Any] = {"contents": self._contents}
        return out | ({"systemInstruction": {"parts": self._system}} if self._system else {})

    def _sign(self, content: dict[str, Any]) -> None:
        """Marks the first of the calls of one turn when none is signed, as the others follow it; and every picture."""
        calls = [part for part in content["parts"] if "functionCall" in part]
        if calls and self._options.unsigned_calls and not any(SIGNATURE in part for part in calls):
            calls[0][SIGNATURE] = self._options.unsigned_calls
        if content["role"] == "model" and self._options.unsigned_calls:
            for part in content["parts"]:
                if "inlineData" in part:
                    part.setdefault(SIGNATURE, self._options.unsigned_calls)

    def _parts(self, message: Message, where: str) -> list[dict[str, Any]]:
        written = []
        for number, part in enumerate(message.parts):
            value = self._part(part, f"{where}.parts[{number}]")
            if value:
                written.append(value)
        return written

    def _part(self, part: Part, where: str) -> dict[str, Any]:
        signature = parts.own_signature(part)
        extensions = {name: raw for name, raw in part.extensions.items() if not name.startswith("functionResponse.")}
        out = self._data(part, where)
        if out == {"text": ""} and not (signature and not extensions):
            out = {}  # some deployments refuse empty text; with extensions it stands for a part of another kind
            if self._exact and not extensions:
                out = {"text": ""}
        if signature and (out or extensions):
            out[SIGNATURE] = signature
        put_extensions(extensions, out, self._dropped, own=self._own, where="messages.")
        return out

    def _data(self, part: Part, where: str) -> dict[str, Any]:
        match part.WhichOneof("part"):
            case "text":
                return {"text": part.text.text}
            case "refusal":
                return {"text": part.refusal.text}
            case "reasoning":
                return self._reasoning(part)
            case "tool_call":
                self._calls.id_of(part.tool_call)
                return parts.write_call(part.tool_call)
            case "tool_result":
                return self._result(part, where)
            case "audio" if not part.audio.HasField("media"):
                return self._spoken(part, where)
            case "image" if part.image.detail not in ("", "auto"):
                self._dropped.append("image_url.detail")
                return parts.write_media(part, where, own=self._own)
            case "image" | "audio" | "file":
                return parts.write_media(part, where, own=self._own)
            case _:
                return {}

    def _reasoning(self, part: Part) -> dict[str, Any]:
        """Thoughts go back to this API only: it has no place for those of others."""
        whole = parts.own_part(part)
        if whole is not None:
            return whole
        nobodys = self._own and part.reasoning.text and not part.HasField("state")
        if nobodys or part.state.dialect == NAME:
            return {"text": part.reasoning.text, "thought": True}
        self._dropped.append("messages.reasoning")
        return {}

    def _spoken(self, part: Part, where: str) -> dict[str, Any]:
        """Sound that a vendor holds, by what was said."""
        if not part.audio.transcript:
            raise unsupported("the sound is held by another vendor", where)
        return {"text": part.audio.transcript}

    def _result(self, part: Part, where: str) -> dict[str, Any]:
        call_id, name = self._calls.answered_by(part.tool_result)
        if not name:
            raise unsupported("a tool result answers no call of the conversation", where)
        if not part.tool_result.tool_call_id:
            call_id = ""  # the call went without one as well
        return parts.write_result(part, name, call_id, where, own=self._own, dropped=self._dropped)


def _write_tools(request: ChatRequest, out: dict[str, Any], options: Options, dropped: list[str], *, own: bool) -> None:
    tools: list[Any] = []
    if request.tools:
        functions = [_write_function(tool, options, dropped, own=own) for tool in request.tools]
        tools.append({"functionDeclarations": functions})
    if own and "tools" in request.extensions:
        tools += objects_in(jsontools.loads(request.extensions["tools"]))
    if tools:
        out["tools"] = tools


def _write_function(tool: Tool, options: Options, dropped: list[str], *, own: bool) -> dict[str, Any]:
    if tool.kind == pb.TOOL_KIND_CUSTOM:
        raise unsupported("a tool that takes free text cannot be expressed in this format", "tools")
    out: dict[str, Any] = {"name": tool.name}
    if tool.description:
        out["description"] = tool.description
    if tool.parameters:
        schema = jsontools.loads(tool.parameters)
        if options.json_schema:
            out["parametersJsonSchema"] = schema
        elif object_in(schema).get("properties"):  # an object without members is refused there: no schema says the same
            out["parameters"] = from_json_schema(schema, "tools")
    put_extensions(tool.extensions, out, dropped, own=own, where="tools.")
    return out


def _write_choice(request: ChatRequest, out: dict[str, Any], dropped: list[str], *, own: bool) -> None:
    if not request.HasField("tool_choice") or (own and "toolConfig" in request.extensions):
        return  # the extension holds the whole member
    choice = request.tool_choice
    config: dict[str, Any] = {}
    if choice.raw:
        config = _allowed(jsontools.loads(choice.raw))
        if not config:
            dropped.append("tool_choice")
    elif choice.mode:
        config = {"mode": _MODE_NAMES[choice.mode]}
        if choice.mode == pb.ToolChoice.MODE_NAMED:
            config["allowedFunctionNames"] = [choice.name]
    if config:
        out["toolConfig"] = {"functionCallingConfig": config}


def _allowed(value: Any) -> dict[str, Any]:
    """A choice among some of the tools as other formats write it; empty for any other."""
    value = object_in(value)
    inner = object_in(value.get("allowed_tools", value))
    tools = objects_in(inner.get("tools"))
    names = [name for tool in tools if isinstance(name := object_in(tool.get("function", tool)).get("name"), str)]
    if value.get("type") != "allowed_tools" or len(names) < len(tools) or not names:
        return {}
    # only a mode that holds the model to the functions takes their names
    return {"mode": "ANY" if inner.get("mode") == "required" else "VALIDATED", "allowedFunctionNames": names}


def _write_config(
    request: ChatRequest, options: Options, dropped: list[str], *, own: bool, exact: bool
) -> dict[str, Any]:
    config: dict[str, Any] = {}
    put_sampling(request, _SAMPLING, config, dropped)
    if request.HasField("max_output_tokens"):
        config["maxOutputTokens"] = request.max_output_tokens
    if request.stop:
        config["stopSequences"] = list(request.stop)
    if request.HasField("choices"):
        config["candidateCount"] = request.choices
    if request.HasField("response_format"):
        _write_format(request.response_format, config, options, dropped)
    thinking = _thinking(request.reasoning, options, dropped, exact=exact)
    if thinking:
        config["thinkingConfig"] = thinking
    if own and "generationConfig" in request.extensions:
        more: Mapping[str, Any] = object_in(jsontools.loads(request.extensions["generationConfig"]))
        if thinking:
            config["thinkingConfig"] = object_in(more.get("thinkingConfig")) | thinking
        config = {**more, **config}
    return config


def _write_format(form: pb.ResponseFormat, config: dict[str, Any], options: Options, dropped: list[str]) -> None:
    if form.type == pb.ResponseFormat.TYPE_RAW:
        dropped.append("response_format")
        return
    plain = form.type in (pb.ResponseFormat.TYPE_UNSPECIFIED, pb.ResponseFormat.TYPE_TEXT)
    config["responseMimeType"] = "text/plain" if plain else "application/json"
    if form.type == pb.ResponseFormat.TYPE_JSON_SCHEMA and form.schema:
        schema = jsontools.loads(form.schema)
        if options.json_schema:
            config["responseJsonSchema"] = schema
        else:
            config["responseSchema"] = from_json_schema(schema)


def _thinking(reasoning: pb.ReasoningOptions, options: Options, dropped: list[str], *, exact: bool) -> dict[str, Any]:
    """`thinkingConfig`: a bound in tokens before an effort, for the API refuses both."""
    out: dict[str, Any] = {}
    effort = reasoning.effort
    off = effort == "none" or (reasoning.HasField("enabled") and not reasoning.enabled)
    if reasoning.HasField("max_tokens") and not off:
        out["thinkingBudget"] = reasoning.max_tokens
    elif exact and effort:
        out["thinkingLevel"] = effort.upper()
    elif off or effort:
        out |= _effort("none" if off else effort, options, dropped, exact=exact)
    elif reasoning.enabled and (exact or options.thinking == "budget"):
        out["thinkingBudget"] = _DYNAMIC
    # thoughts cost the same told or not: they are told to whoever asked for thinking by more than a word
    if reasoning.summary or (not exact and not off and (reasoning.enabled or reasoning.max_tokens)):
        out["includeThoughts"] = True
    return out


def _effort(effort: str, options: Options, dropped: list[str], *, exact: bool) -> dict[str, Any]:
    if effort not in _BUDGETS:
        dropped.append("reasoning_effort")
        return {}
    if options.thinking == "budget" or (exact and effort == "none"):
        return {"thinkingBudget": _BUDGETS[effort]}
    level = _LEVELS[effort]
    return {"thinkingLevel": options.least_level if level == "MINIMAL" else level}
