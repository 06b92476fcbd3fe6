"""Tools, the choice among them, and the form of the answer: flat in this dialect, nested in its elder sibling.

What the contract keeps raw (a custom tool's grammar, a choice among several tools) is kept in the sibling's form, so
that both can write it.
"""

from collections.abc import Mapping
from itertools import takewhile
from typing import Any, Final

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import ChatRequest, Tool
from polyroute.dialects import jsontools
from polyroute.dialects.jsontools import invalid
from polyroute.dialects.openai import parts
from polyroute.dialects.responses import actions
from polyroute.dialects.responses.common import text_of

_MODES: Final = {
    "auto": pb.ToolChoice.MODE_AUTO,
    "none": pb.ToolChoice.MODE_NONE,
    "required": pb.ToolChoice.MODE_REQUIRED,
}
_MODE_NAMES: Final = {mode: name for name, mode in _MODES.items()}
_FORMATS: Final = {"text": pb.ResponseFormat.TYPE_TEXT, "json_object": pb.ResponseFormat.TYPE_JSON_OBJECT}
_FORMAT_NAMES: Final = {form: name for name, form in _FORMATS.items()}
_SCHEMA_MEMBERS: Final = frozenset({"type", "name", "description", "schema", "strict"})
_NAMED: Final = ("function", "custom")
_GRAMMAR: Final = "custom.format"  # the extension that holds a custom tool's grammar
_TOOLS: Final = "tools"
_NAMESPACE: Final = "namespace"
_NAMESPACE_MEMBERS: Final = frozenset({"type", "name", "description", "tools"})


def read_tools(value: object, request: ChatRequest) -> None:
    """Adds the tools; those of the vendor are kept whole in the extension `tools`, with null for each of the others.

    A namespace is one of the others when nothing in it is the vendor's; else it is kept with null for its other tools.
    """
    if value is None:
        return
    if not isinstance(value, list):
        raise invalid("the tools are not a list", _TOOLS)
    kept = [_read_tool(tool, f"tools[{number}]", request) for number, tool in enumerate(value)]
    if any(tool is not None for tool in kept):
        request.extensions[_TOOLS] = jsontools.dumps(kept)


def _read_tool(value: object, where: str, request: ChatRequest) -> object:
    """Adds a function or custom tool; gives any other back."""
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        raise invalid("a tool is not an object with a type", where)
    kind = value["type"]
    if kind == _NAMESPACE:
        return _read_namespace(value, where, request)
    if kind in actions.OF_TOOL and actions.is_local(value):
        tool = Tool(kind=actions.OF_TOOL[kind].kind, name=kind)
        for name, raw in parts.extras(value, ("type",)).items():
            tool.extensions[name] = raw
        request.tools.append(tool)
        return None
    if kind not in _NAMED:
        return value
    request.tools.append(_read_named(value, kind, where))
    return None


def _read_namespace(value: dict[str, Any], where: str, request: ChatRequest) -> object:
    """Adds the functions and custom tools of a namespace; gives it back, null for each, when that is not all of it."""
    name, inner, before = value.get("name"), value.get("tools"), len(request.tools)
    if not isinstance(inner, list) or not isinstance(name, str) or not name:
        raise invalid("a namespace has no name or no tools", where)
    kept = [_read_inner(tool, f"{where}.tools[{number}]", request) for number, tool in enumerate(inner)]
    added = request.tools[before:]
    for tool in added:
        tool.namespace = name
    if not added:
        return value
    added[0].namespace_description = text_of(value.get("description"))
    follows = before and request.tools[before - 1].namespace == name  # told apart only when it is kept
    whole = value.keys() == _NAMESPACE_MEMBERS and bool(added[0].namespace_description) and not any(kept)
    return None if whole and not follows else {**value, "tools": kept}


def _read_inner(value: object, where: str, request: ChatRequest) -> object:
    kind = value.get("type") if isinstance(value, dict) else None
    if isinstance(value, dict) and kind in _NAMED:
        request.tools.append(_read_named(value, kind, where))
        return None
    return value


def _read_named(value: dict[str, Any], kind: str, where: str) -> Tool:
    inner = value.get(kind)
    if isinstance(inner, dict):  # the sibling's form, which vendors of this one take too
        value = {**inner, **{name: item for name, item in value.items() if name != kind}}
    if not value.get("name"):
        raise invalid("a tool has no name", f"{where}.name")
    tool = Tool(
        kind=pb.TOOL_KIND_CUSTOM if kind == "custom" else pb.TOOL_KIND_FUNCTION,
        name=value["name"],
        description=value.get("description") or "",
        strict=value.get("strict"),
    )
    if value.get("parameters") is not None:
        tool.parameters = jsontools.dumps(value["parameters"])
    rest = parts.extras(value, ("type", "name", "description", "parameters", "strict", "format"))
    for name, raw in rest.items():
        tool.extensions[name] = raw
    if kind == "custom" and value.get("format") is not None:
        tool.extensions[_GRAMMAR] = jsontools.dumps(_nested(value["format"]))
    elif value.get("format") is not None:
        tool.extensions["format"] = jsontools.dumps(value["format"])
    return tool


def _nested(form: Any) -> Any:
    if not isinstance(form, Mapping) or form.get("type") != "grammar" or "grammar" in form:
        return form
    return {"type": "grammar", "grammar": {name: item for name, item in form.items() if name != "type"}}


def _flat(form: Any) -> Any:
    inner = form.get("grammar") if isinstance(form, Mapping) else None
    return {"type": "grammar", **inner} if isinstance(inner, Mapping) else form


def write_tools(request: ChatRequest, dropped: list[str], *, foreign: bool) -> list[Any]:
    """The tools in the order in which they came; those of a vendor only where they came in this dialect."""
    typed = list(request.tools)
    raw = b"" if foreign else request.extensions.get(_TOOLS, b"")
    kept = jsontools.loads(raw) if raw else []
    out: list[Any] = []
    for tool in kept if isinstance(kept, list) else ():
        if tool is None and typed:
            out.append(_write_next(typed, dropped, foreign=foreign))
        elif isinstance(tool, dict) and tool.get("type") == _NAMESPACE:
            out.append(_filled(tool, typed, dropped))
        elif tool is not None:
            out.append(tool)
    while typed:
        out.append(_write_next(typed, dropped, foreign=foreign))
    return out


def _write_next(typed: list[Tool], dropped: list[str], *, foreign: bool) -> dict[str, Any]:
    """Takes the next tool, or all of a namespace."""
    first = typed[0]
    if not first.namespace:
        return _write_tool(typed.pop(0), dropped, foreign=foreign)
    together = list(takewhile(lambda tool: tool.namespace == first.namespace, typed))
    del typed[: len(together)]
    # whoever groups tools has to say what for
    described = first.namespace_description or f"Tools of {first.namespace}."
    inner = [_write_tool(tool, dropped, foreign=foreign) for tool in together]
    return {"type": _NAMESPACE, "name": first.namespace, "description": described, "tools": inner}


def _filled(kept: dict[str, Any], typed: list[Tool], dropped: list[str]) -> dict[str, Any]:
    """A namespace that was kept, with the tools that are not the vendor's."""
    tools = []
    for tool in kept.get("tools") or ():
        if tool is not None:
            tools.append(tool)
        elif typed and typed[0].namespace == kept.get("name"):
            tools.append(_write_tool(typed.pop(0), dropped, foreign=False))
    return {**kept, "tools": tools}


def _write_tool(tool: Tool, dropped: list[str], *, foreign: bool) -> dict[str, Any]:
    custom, action = tool.kind == pb.TOOL_KIND_CUSTOM, actions.OF_KIND.get(tool.kind)
    if action:
        return {"type": action.tool, **{name: jsontools.loads(raw) for name, raw in tool.extensions.items()}}
    out: dict[str, Any] = {"type": "custom" if custom else "function", "name": tool.name}
    if tool.description:
        out["description"] = tool.description
    if tool.parameters:
        out["parameters"] = jsontools.loads(tool.parameters)
    elif not custom and foreign:
        out["parameters"] = {"type": "object", "properties": {}, "additionalProperties": False}  # it takes nothing
    if tool.HasField("strict"):
        out["strict"] = tool.strict
    elif foreign and not custom:
        # unset means strict here and lax elsewhere: https://platform.openai.com/docs/guides/migrate-to-responses
        out["strict"] = False
    for name, raw in tool.extensions.items():
        if name == _GRAMMAR:
            out["format"] = _flat(jsontools.loads(raw))
        elif foreign:
            dropped.append(f"tools.{name}")
        else:
            out.setdefault(name, jsontools.loads(raw))
    return out


def read_choice(value: object, request: ChatRequest) -> None:
    """Sets the tool choice."""
    if value is None:
        return
    choice = request.tool_choice
    if isinstance(value, str) and value in _MODES:
        choice.mode = _MODES[value]
    elif isinstance(value, dict) and value.keys() == {"type"} and any(_is_action(t, value) for t in request.tools):
        choice.mode = pb.ToolChoice.MODE_NAMED
        choice.name = value["type"]
    elif isinstance(value, dict) and _name_in(value):
        choice.mode = pb.ToolChoice.MODE_NAMED
        choice.name = _name_in(value)
    else:
        choice.raw = jsontools.dumps(_as_nested_choice(value))


def _is_action(tool: Tool, choice: Mapping[str, Any]) -> bool:
    action = actions.OF_KIND.get(tool.kind)
    return action is not None and action.tool == choice["type"]


def _name_in(value: Mapping[str, Any]) -> str:
    """The name in a choice of one function or custom tool; empty for every other choice."""
    kind = value.get("type")
    if kind not in _NAMED:
        return ""
    inner = value.get(kind)
    named = inner if isinstance(inner, Mapping) else value
    name = named.get("name")
    return name if isinstance(name, str) and set(named) <= {"type", "name"} else ""


def _as_nested_choice(value: Any) -> Any:
    if (
        not isinstance(value, Mapping)
        or value.get("type") != "allowed_tools"
        or not isinstance(value.get("tools"), list)
    ):
        return value
    tools = [_nested_tool(tool) for tool in value["tools"]]
    return {"type": "allowed_tools", "allowed_tools": {"mode": value.get("mode"), "tools": tools}}


def _nested_tool(tool: Any) -> Any:
    kind = tool.get("type") if isinstance(tool, Mapping) else None
    if kind not in _NAMED or not isinstance(tool.get("name"), str):
        return tool
    return {"type": kind, kind: {name: item for name, item in tool.items() if name != "type"}}


def write_choice(request: ChatRequest, dropped: list[str], *, foreign: bool) -> Any:
    """`tool_choice`, None where there is nothing to say."""
    choice = request.tool_choice
    if choice.raw:
        value = jsontools.loads(choice.raw)
        flat = _as_flat_choice(value)
        if flat is value and foreign and not isinstance(value, str):
            dropped.append("tool_choice")
            return None
        return flat
    if choice.mode != pb.ToolChoice.MODE_NAMED:
        return _MODE_NAMES.get(choice.mode)
    kinds = [tool.kind for tool in request.tools if tool.name == choice.name]
    action = actions.OF_KIND.get(kinds[0]) if len(kinds) == 1 else None
    if action:
        return {"type": action.tool}
    return {"type": "custom" if pb.TOOL_KIND_CUSTOM in kinds else "function", "name": choice.name}


def _as_flat_choice(value: Any) -> Any:
    allowed = value.get("allowed_tools") if isinstance(value, Mapping) else None
    if not isinstance(allowed, Mapping) or not isinstance(allowed.get("tools"), list):
        return value
    tools = [_flat_tool(tool) for tool in allowed["tools"]]
    mode = {"mode": allowed["mode"]} if allowed.get("mode") is not None else {}
    return {"type": "allowed_tools", **mode, "tools": tools}


def _flat_tool(tool: Any) -> Any:
    kind = tool.get("type") if isinstance(tool, Mapping) else None
    inner = tool.get(kind) if kind in _NAMED else None
    return {"type": kind, **inner} if isinstance(inner, Mapping) else tool


def read_format(value: object, form: pb.ResponseFormat) -> None:
    """Sets the form of the answer from `text.format`."""
    kind = value.get("type") if isinstance(value, dict) else None
    if isinstance(value, dict) and kind in _FORMATS and len(value) == 1:
        form.type = _FORMATS[kind]
    elif isinstance(value, dict) and kind == "json_schema" and set(value) <= _SCHEMA_MEMBERS:
        form.type = pb.ResponseFormat.TYPE_JSON_SCHEMA
        form.name = value.get("name") or ""
        form.description = value.get("description") or ""
        form.schema = jsontools.dumps(value["schema"]) if value.get("schema") is not None else b""
        if value.get("strict") is not None:
            form.strict = value["strict"]
    else:
        form.type = pb.ResponseFormat.TYPE_RAW
        form.raw = jsontools.dumps(value)


def write_format(form: pb.ResponseFormat, dropped: list[str], *, foreign: bool) -> Any:
    """`text.format`, None where there is nothing to say."""
    if form.type == pb.ResponseFormat.TYPE_RAW:
        if foreign:
            dropped.append("response_format")
            return None
        return jsontools.loads(form.raw)
    if form.type != pb.ResponseFormat.TYPE_JSON_SCHEMA:
        return {"type": _FORMAT_NAMES.get(form.type, "text")}
    out: dict[str, Any] = {"type": "json_schema", "name": form.name or "answer"}
    if form.description:
        out["description"] = form.description
    out["schema"] = jsontools.loads(form.schema) if form.schema else {}
    if form.HasField("strict"):
        out["strict"] = form.strict
    return out
