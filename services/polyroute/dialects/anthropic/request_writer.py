"""A conversation as a request to a vendor of `anthropic.messages`: members and tools; `turns` writes the messages."""

from typing import Any, Final

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import ChatRequest, Tool
from polyroute.dialects import drawn, jsontools
from polyroute.dialects.anthropic import reasoning
from polyroute.dialects.anthropic.common import NAME, WRONG_SHAPE, Options, put_extras, unsupported
from polyroute.dialects.anthropic.turns import Turns
from polyroute.dialects.jsontools import invalid

_MODE_NAMES: Final = {
    pb.ToolChoice.MODE_AUTO: "auto",
    pb.ToolChoice.MODE_NONE: "none",
    pb.ToolChoice.MODE_REQUIRED: "any",
    pb.ToolChoice.MODE_NAMED: "tool",
}
_INEXPRESSIBLE: Final = ("frequency_penalty", "presence_penalty", "seed", "logprobs", "top_logprobs")
_SAMPLING: Final = ("temperature", "top_p", "top_k")
_EMPTY_SCHEMA: Final = {"type": "object", "properties": {}}


def write_request(
    request: ChatRequest, *, model: str, stream: bool, source: str, options: Options
) -> tuple[bytes, list[str]]:
    """See `dialect.Dialect.write_request`."""
    try:
        members, dropped = members_of(request, source=source, options=options)
    except WRONG_SHAPE as error:  # a schema, a state or an extension that is no JSON
        raise invalid("a member of the request is not valid JSON") from error
    if options.body_version:
        return jsontools.dumps({"anthropic_version": options.body_version} | members), dropped
    out = {"model": model} | members
    if stream:
        out["stream"] = True
    return jsontools.dumps(out), dropped


def members_of(request: ChatRequest, *, source: str, options: Options) -> tuple[dict[str, Any], list[str]]:
    """The members of a request but `model` and `stream`, and the names of parameters that were left out."""
    dropped: list[str] = []
    own = source in ("", NAME)
    turns = Turns(source, options, dropped)
    turns.add(request.messages if source == NAME else drawn.shown_by_users(request.messages, dropped))
    out: dict[str, Any] = {}
    if turns.system:
        out["system"] = turns.system_member()
    out["messages"] = turns.messages
    out["max_tokens"] = request.max_output_tokens if request.HasField("max_output_tokens") else options.max_tokens
    _write_stop(request, out, dropped, own=own)
    _write_tools(request, out, own=own)
    _write_choice(request, out)
    _write_format(request, out, dropped)
    reasoning.write(request, out, dropped, source=source, options=options)
    if request.HasField("sampling"):
        _write_sampling(request.sampling, out, dropped, own=own, options=options)
    _write_user(request, out, dropped)
    if request.choices > 1:
        dropped.append("n")
    if own:
        _put_extensions(request, out)
    else:
        dropped += sorted(request.extensions)
    return out, list(dict.fromkeys(dropped))


def _write_stop(request: ChatRequest, out: dict[str, Any], dropped: list[str], *, own: bool) -> None:
    # vendors refuse a stop text of white space alone
    stop = [text for text in request.stop if own or text.strip()]
    if stop:
        out["stop_sequences"] = stop
    if len(stop) < len(request.stop):
        dropped.append("stop")


def _write_tools(request: ChatRequest, out: dict[str, Any], *, own: bool) -> None:
    if own and "tools" in request.extensions:  # which holds the whole member
        return
    if request.tools:
        out["tools"] = [_write_tool(tool, own=own) for tool in request.tools]


def _write_tool(tool: Tool, *, own: bool) -> dict[str, Any]:
    if tool.kind == pb.TOOL_KIND_CUSTOM:
        raise unsupported(f"the free-text tool {tool.name[:80]!r} cannot be expressed in {NAME}", "tools")
    out: dict[str, Any] = {"name": tool.name}
    if tool.description:
        out["description"] = tool.description
    out["input_schema"] = jsontools.loads(tool.parameters) if tool.parameters else _EMPTY_SCHEMA
    if tool.HasField("strict") and (own or tool.strict):
        out["strict"] = tool.strict
    for name, raw in tool.extensions.items():
        # cache marks come in from clients of other dialects as well, on the tool or on its function
        if own or name.rpartition(".")[2] == "cache_control":
            out.setdefault(name if own else "cache_control", jsontools.loads(raw))
    return out


def _write_choice(request: ChatRequest, out: dict[str, Any]) -> None:
    if "tools" not in out and "tools" not in request.extensions:
        return  # vendors refuse a choice of nothing
    choice = request.tool_choice
    serial = request.HasField("parallel_tool_calls") and not request.parallel_tool_calls
    if choice.raw:
        out["tool_choice"] = jsontools.loads(choice.raw)
        return
    if choice.mode == pb.ToolChoice.MODE_UNSPECIFIED and not serial:
        return
    mode = _MODE_NAMES.get(choice.mode, "auto")
    written: dict[str, Any] = {"type": mode}
    if mode == "tool":
        written["name"] = choice.name
    if serial and mode != "none":
        written["disable_parallel_tool_use"] = True
    out["tool_choice"] = written


def _write_format(request: ChatRequest, out: dict[str, Any], dropped: list[str]) -> None:
    """The form of the answer; where the older member is kept as an extension, it is the one that counts."""
    if not request.HasField("response_format"):
        return
    form = request.response_format
    if "output_format" in request.extensions or form.type in (
        pb.ResponseFormat.TYPE_UNSPECIFIED,
        pb.ResponseFormat.TYPE_TEXT,
    ):
        return
    if form.type != pb.ResponseFormat.TYPE_JSON_SCHEMA or not form.schema:
        dropped.append("response_format")
        return
    out["output_config"] = {"format": {"type": "json_schema", "schema": jsontools.loads(form.schema)}}


def _write_sampling(
    sampling: pb.Sampling, out: dict[str, Any], dropped: list[str], *, own: bool, options: Options
) -> None:
    given = {name: getattr(sampling, name) for name in _SAMPLING if sampling.HasField(name)}
    refused = set() if options.sampling else set(given)
    if not own:
        # thinking takes none of them, and randomness ends at 1
        if out.get("thinking", {}).get("type") in ("enabled", "adaptive"):
            refused = set(given)
        if given.get("temperature", 0) > 1:
            refused.add("temperature")
    out.update({name: value for name, value in given.items() if name not in refused})
    dropped += [name for name in given if name in refused]
    dropped += [name for name in _INEXPRESSIBLE if sampling.HasField(name)]
    if sampling.logit_bias:
        dropped.append("logit_bias")


def _write_user(request: ChatRequest, out: dict[str, Any], dropped: list[str]) -> None:
    if request.user:
        out["metadata"] = {"user_id": request.user}
    if request.metadata:  # the caller's tags; this dialect's `metadata` is another thing
        dropped.append("metadata")


def _put_extensions(request: ChatRequest, out: dict[str, Any]) -> None:
    for name in ("output_config", "metadata"):  # of which a part may be written already
        rest = jsontools.loads(request.extensions[name]) if name in request.extensions else None
        if isinstance(rest, dict) and isinstance(out.get(name), dict):
            out[name] = rest | out[name]
    for name in ("thinking", "tools", "output_format"):
        if name in request.extensions:
            out[name] = jsontools.loads(request.extensions[name])
    put_extras(out, request.extensions)
