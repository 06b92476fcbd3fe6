"""Tools, the choice among them, and the form of the answer: between `openai.chat` and the contract."""

from typing import Any, Final

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import ChatRequest, Tool
from polyroute.dialects import jsontools
from polyroute.dialects.jsontools import invalid
from polyroute.dialects.openai import parts

_MODES: Final = {
    "auto": pb.ToolChoice.MODE_AUTO,
    "none": pb.ToolChoice.MODE_NONE,
    "required": pb.ToolChoice.MODE_REQUIRED,
    "any": pb.ToolChoice.MODE_REQUIRED,
}
_MODE_NAMES: Final = {mode: name for name, mode in reversed(_MODES.items())}
_FORMATS: Final = {"text": pb.ResponseFormat.TYPE_TEXT, "json_object": pb.ResponseFormat.TYPE_JSON_OBJECT}
_FORMAT_NAMES: Final = {form: name for name, form in _FORMATS.items()}


def read_tools(value: dict[str, Any], request: ChatRequest) -> None:
    """Adds the tools of a request and sets the choice among them, in either generation's members.

    Raises:
        MeshError: REASON_INVALID_REQUEST for a tool without a name, or of an unknown type.
    """
    for number, tool in enumerate(value.get("tools") or ()):
        request.tools.append(_read_tool(tool, f"tools[{number}]"))
    for function in value.get("functions") or ():
        request.tools.append(_read_tool({"type": "function", "function": function}, "functions"))
    choice = value.get("tool_choice", value.get("function_call"))
    if choice is None:
        return
    if isinstance(choice, str) and choice in _MODES:
        request.tool_choice.mode = _MODES[choice]
        return
    named = choice.get("function", choice.get("custom", choice)) if isinstance(choice, dict) else {}
    if isinstance(named, dict) and set(named) <= {"name", "type"} and isinstance(named.get("name"), str):
        request.tool_choice.mode = pb.ToolChoice.MODE_NAMED
        request.tool_choice.name = named["name"]
    else:
        request.tool_choice.raw = jsontools.dumps(choice)


def _read_tool(value: object, where: str) -> Tool:
    kind = value.get("type", "function") if isinstance(value, dict) else ""
    body = value.get(kind) if isinstance(value, dict) else None
    if not isinstance(body, dict) or kind not in ("function", "custom") or not body.get("name"):
        raise invalid("a tool is neither a named function nor a named custom tool", where)
    tool = Tool(
        kind=pb.TOOL_KIND_CUSTOM if kind == "custom" else pb.TOOL_KIND_FUNCTION,
        name=body["name"],
        description=body.get("description") or "",
        strict=body.get("strict"),
    )
    if body.get("parameters") is not None:
        tool.parameters = jsontools.dumps(body["parameters"])
    for name, raw in parts.extras(body, ("name", "description", "parameters", "strict")).items():
        tool.extensions[f"{kind}.{name}"] = raw
    for name, raw in parts.extras(value, ("type", kind)).items():  # type: ignore[arg-type] # an object, seen above
        tool.extensions[name] = raw
    return tool


def read_format(value: Any, request: ChatRequest) -> None:
    """Sets the form of the answer from `response_format`."""
    if value is None:
        return
    form = request.response_format
    kind, schema = value.get("type"), value.get("json_schema")
    if kind in _FORMATS and len(value) == 1:
        form.type = _FORMATS[kind]
    elif (
        kind == "json_schema"
        and isinstance(schema, dict)
        and not set(schema) - {"name", "description", "schema", "strict"}
    ):
        form.type = pb.ResponseFormat.TYPE_JSON_SCHEMA
        form.name = schema.get("name") or ""
        form.description = schema.get("description") or ""
        form.schema = jsontools.dumps(schema["schema"]) if schema.get("schema") is not None else b""
        if schema.get("strict") is not None:
            form.strict = schema["strict"]
    else:
        form.type = pb.ResponseFormat.TYPE_RAW
        form.raw = jsontools.dumps(value)


def write_tool(tool: Tool) -> dict[str, Any]:
    """One entry of `tools`."""
    kind = "custom" if tool.kind == pb.TOOL_KIND_CUSTOM else "function"
    body: dict[str, Any] = {"name": tool.name}
    if tool.description:
        body["description"] = tool.description
    if tool.parameters:
        body["parameters"] = jsontools.loads(tool.parameters)
    if tool.HasField("strict"):
        body["strict"] = tool.strict
    out: dict[str, Any] = {"type": kind, kind: body}
    for name, raw in tool.extensions.items():
        inner = name.removeprefix(f"{kind}.")
        (body if inner != name else out).setdefault(inner, jsontools.loads(raw))
    return out


def write_choice(request: ChatRequest) -> Any:
    """`tool_choice`."""
    choice = request.tool_choice
    if choice.raw:
        return jsontools.loads(choice.raw)
    if choice.mode != pb.ToolChoice.MODE_NAMED:
        return _MODE_NAMES.get(choice.mode, "auto")
    custom = any(tool.name == choice.name and tool.kind == pb.TOOL_KIND_CUSTOM for tool in request.tools)
    kind = "custom" if custom else "function"
    return {"type": kind, kind: {"name": choice.name}}


def write_format(form: pb.ResponseFormat) -> Any:
    """`response_format`."""
    if form.type == pb.ResponseFormat.TYPE_RAW:
        return jsontools.loads(form.raw)
    if form.type != pb.ResponseFormat.TYPE_JSON_SCHEMA:
        return {"type": _FORMAT_NAMES.get(form.type, "text")}
    schema: dict[str, Any] = {"name": form.name or "answer"}
    if form.description:
        schema["description"] = form.description
    if form.schema:
        schema["schema"] = jsontools.loads(form.schema)
    if form.HasField("strict"):
        schema["strict"] = form.strict
    return {"type": "json_schema", "json_schema": schema}
