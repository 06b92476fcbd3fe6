"""`gemini.generate` requests of clients: JSON into a conversation.

The model and whether the answer is a stream stand in the address, not in the body.
"""

from collections.abc import Mapping
from typing import Any, Final

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import ChatRequest, Message, Part, Tool
from polyroute.dialects import jsontools
from polyroute.dialects.asking import WRONG_TYPES, objects_in, text_of
from polyroute.dialects.gemini.common import camel, loads
from polyroute.dialects.gemini.parts import Answered, read_part
from polyroute.dialects.gemini.schema import to_json_schema
from polyroute.dialects.jsontools import invalid

_ROLES: Final = {
    "": pb.ROLE_USER,
    "user": pb.ROLE_USER,
    "model": pb.ROLE_ASSISTANT,
    "function": pb.ROLE_USER,
    "tool": pb.ROLE_USER,
}
_SAMPLING: Final = {
    "temperature": "temperature",
    "topP": "top_p",
    "topK": "top_k",
    "frequencyPenalty": "frequency_penalty",
    "presencePenalty": "presence_penalty",
    "seed": "seed",
    "responseLogprobs": "logprobs",
    "logprobs": "top_logprobs",
}
_WHOLE: Final = frozenset({"topK", "seed", "logprobs"})  # clients write 40.0
_MODES: Final = {"AUTO": pb.ToolChoice.MODE_AUTO, "ANY": pb.ToolChoice.MODE_REQUIRED, "NONE": pb.ToolChoice.MODE_NONE}


def read_request(body: bytes) -> ChatRequest:
    """See `dialect.Dialect.read_request`."""
    try:
        value = loads(body)
    except ValueError:
        raise invalid("the body is not valid JSON") from None
    if not isinstance(value, dict):
        raise invalid("the body is not a JSON object")
    return read_object(value)


def read_object(value: Mapping[str, Any]) -> ChatRequest:
    """A decoded request.

    Raises:
        MeshError: REASON_INVALID_REQUEST; metadata `param` names the member.
    """
    try:
        return _read(camel(value))
    except WRONG_TYPES as error:  # a member of a type that the contract does not take
        raise invalid("a member of the request has a wrong type") from error


def _read(members: dict[str, Any]) -> ChatRequest:
    request = ChatRequest(model=model_name(members.pop("model", "")))
    answered = Answered()
    system = members.pop("systemInstruction", None)
    if system is not None:
        request.messages.extend(_read_system(system))
    contents = objects_in(members.get("contents"))
    if not contents or (isinstance(members["contents"], list) and len(contents) < len(members["contents"])):
        raise invalid("the request has no contents, or some that are no objects", "contents")
    del members["contents"]
    for number, content in enumerate(contents):
        request.messages.extend(_read_content(content, f"contents[{number}]", answered))
    _read_tools(members, request)
    _read_choice(members, request)
    _read_config(members, request)
    for name, item in members.items():
        request.extensions[name] = jsontools.dumps(item)
    return request


def model_name(name: object) -> str:
    """A model's name without the folder that this API puts before it."""
    return text_of(name).removeprefix("models/")


def _read_system(value: object) -> list[Message]:
    if not isinstance(value, dict):
        raise invalid("the system instruction is not an object", "systemInstruction")
    content = camel(value, "systemInstruction")
    content.pop("role", None)
    return _messages(content, pb.ROLE_SYSTEM, "systemInstruction", Answered())


def _read_content(value: dict[str, Any], where: str, answered: Answered) -> list[Message]:
    content = camel(value, where)
    role = _ROLES.get(content.pop("role", ""))
    if role is None:
        raise invalid("a content has an unknown role", f"{where}.role")
    return _messages(content, role, where, answered)


def _messages(content: dict[str, Any], role: pb.Role.ValueType, where: str, answered: Answered) -> list[Message]:
    """The messages of one content: results of calls are messages of their own."""
    given = content.pop("parts", [])
    if not isinstance(given, list | dict):
        raise invalid("the parts are not a list", f"{where}.parts")
    parts: list[Part] = []
    for number, item in enumerate([given] if isinstance(given, dict) else given):
        part = read_part(item, f"{where}.parts[{number}]", answered)
        if part is not None:
            parts.append(part)
    messages: list[Message] = []
    for part in parts:
        speaker = pb.ROLE_TOOL if part.HasField("tool_result") else role
        if not messages or messages[-1].role != speaker:
            messages.append(Message(role=speaker))
        messages[-1].parts.append(part)
    messages = messages or [Message(role=role)]
    for name, item in content.items():
        messages[-1].extensions[name] = jsontools.dumps(item)
    return messages


def _read_tools(members: dict[str, Any], request: ChatRequest) -> None:
    """Functions are tools of the contract; what runs at the vendor stays an extension."""
    rest = []
    for number, item in enumerate(objects_in(members.pop("tools", None))):
        tool = camel(item, f"tools[{number}]")
        functions = tool.pop("functionDeclarations", None)
        for place, function in enumerate(objects_in(functions)):
            where = f"tools[{number}].functionDeclarations[{place}]"
            request.tools.append(_read_function(camel(function, where), where))
        if tool or functions is None:
            rest.append(tool)
    if rest:
        request.extensions["tools"] = jsontools.dumps(rest)


def _read_function(value: dict[str, Any], where: str) -> Tool:
    name = value.pop("name", "")
    if not isinstance(name, str) or not name:
        raise invalid("a function has no name", f"{where}.name")
    tool = Tool(kind=pb.TOOL_KIND_FUNCTION, name=name, description=value.pop("description", ""))
    plain, schema = value.pop("parametersJsonSchema", None), value.pop("parameters", None)
    if plain is not None:
        tool.parameters = jsontools.dumps(plain)
    elif schema is not None:
        tool.parameters = jsontools.dumps(to_json_schema(schema))
    for extra, item in value.items():
        tool.extensions[extra] = jsontools.dumps(item)
    return tool


def _read_choice(members: dict[str, Any], request: ChatRequest) -> None:
    value = members.get("toolConfig")
    if value is None:
        return
    config = camel(value, "toolConfig")
    calling = camel(config.pop("functionCallingConfig", {}), "toolConfig.functionCallingConfig")
    names = calling.pop("allowedFunctionNames", [])
    mode = calling.pop("mode", "")
    # the mode that keeps arguments to the schema has no name in the contract and is nearest to the model's own choice
    chosen = _MODES.get(str(mode).upper(), pb.ToolChoice.MODE_AUTO if mode else pb.ToolChoice.MODE_UNSPECIFIED)
    if chosen == pb.ToolChoice.MODE_REQUIRED and len(names) == 1:
        request.tool_choice.mode = pb.ToolChoice.MODE_NAMED
        request.tool_choice.name = names[0]
    elif chosen:
        request.tool_choice.mode = chosen
    named = request.tool_choice.mode == pb.ToolChoice.MODE_NAMED
    known = not mode or str(mode).upper() in _MODES
    if known and not config and not calling and len(names) == named:  # else the extension holds it whole
        del members["toolConfig"]


def _read_config(members: dict[str, Any], request: ChatRequest) -> None:
    value = members.pop("generationConfig", None)
    if value is None:
        return
    config = camel(value, "generationConfig")
    for name, field in _SAMPLING.items():
        given = config.pop(name, None)
        if given is not None:
            setattr(request.sampling, field, _whole(given) if name in _WHOLE else given)
    if "maxOutputTokens" in config:
        request.max_output_tokens = _whole(config.pop("maxOutputTokens"))
    if "candidateCount" in config:
        request.choices = _whole(config.pop("candidateCount"))
    stop = config.pop("stopSequences", [])
    request.stop.extend([stop] if isinstance(stop, str) else stop)
    _read_format(config, request)
    _read_thinking(config, request)
    if config:
        request.extensions["generationConfig"] = jsontools.dumps(config)


def _whole(value: Any) -> int:
    """A whole number, as clients write it: 40, 40.0 or, as protobuf does, in text."""
    number = int(value)
    if not isinstance(value, str) and number != value:
        raise ValueError("not a whole number")
    return number


def _read_format(config: dict[str, Any], request: ChatRequest) -> None:
    kind = config.get("responseMimeType", "")
    plain, schema = config.get("responseJsonSchema"), config.get("responseSchema")
    form = request.response_format
    if plain is not None and schema is None and kind in ("", "application/json"):
        form.type, form.schema = pb.ResponseFormat.TYPE_JSON_SCHEMA, jsontools.dumps(plain)
    elif schema is not None and plain is None and kind in ("", "application/json"):
        form.type, form.schema = pb.ResponseFormat.TYPE_JSON_SCHEMA, jsontools.dumps(to_json_schema(schema))
    elif kind == "application/json":
        form.type = pb.ResponseFormat.TYPE_JSON_OBJECT
    elif kind == "text/plain":
        form.type = pb.ResponseFormat.TYPE_TEXT
    else:
        return  # one of a list of words: an extension
    for name in ("responseMimeType", "responseJsonSchema", "responseSchema"):
        config.pop(name, None)


def _read_thinking(config: dict[str, Any], request: ChatRequest) -> None:
    if "thinkingConfig" not in config:
        return
    thinking = camel(config.pop("thinkingConfig"), "generationConfig.thinkingConfig")
    budget, level = thinking.pop("thinkingBudget", None), thinking.pop("thinkingLevel", "")
    if budget is not None:
        number = _whole(budget)
        if number > 0:
            request.reasoning.max_tokens = number
        else:
            request.reasoning.enabled = number < 0  # -1: as much as the model likes
    if level and str(level).upper() != "THINKING_LEVEL_UNSPECIFIED":
        request.reasoning.effort = str(level).lower()
    if thinking.pop("includeThoughts", False) is True:
        request.reasoning.summary = "auto"
    if thinking:
        config["thinkingConfig"] = thinking
