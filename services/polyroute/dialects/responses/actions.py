"""Tools that work where the caller runs and whose form this dialect knows itself: shells, and what changes files.

A call of one holds an object (`action`, `operation`) where that of a function holds text; the contract has it as the
arguments of the call. What runs at the vendor, in a container of its own, is none of these: no caller answers it.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import ToolKind, ToolResult
from polyroute.dialects import jsontools
from polyroute.dialects.responses.common import objects, text_of

_OPERATIONS: Final = frozenset({"create_file", "update_file", "delete_file"})


class Action(NamedTuple):
    """One kind of such tool.

    Attributes:
        kind: In the contract.
        tool: Its type, and the name under which the model knows it.
        call: The type of the item that calls it.
        member: The member of that item which says what is to be done.
        made: That member out of the arguments of a call; None when they do not say it.
    """

    kind: ToolKind.ValueType
    tool: str
    call: str
    member: str
    made: Callable[[Mapping[str, Any]], dict[str, Any] | None]

    @property
    def output(self) -> str:
        """The type of the item that answers a call."""
        return f"{self.call}_output"


def _exec(given: Mapping[str, Any]) -> dict[str, Any] | None:
    command = given.get("command")
    if isinstance(command, str) and command:
        command = ["bash", "-lc", command]  # one line is what models write that know other shells
    if not _texts(command):
        return None
    env = given.get("env")
    told = env.items() if isinstance(env, dict) else ()
    texts = {name: one if isinstance(one, str) else jsontools.dumps(one).decode() for name, one in told}
    out = {"type": "exec", "command": command, "env": texts}
    out |= _counts(given, "timeout_ms")
    return out | {name: given[name] for name in ("user", "working_directory") if text_of(given.get(name))}


def _commands(given: Mapping[str, Any]) -> dict[str, Any] | None:
    commands = given.get("commands")
    commands = [commands] if isinstance(commands, str) and commands else commands
    bounds = {"max_output_length": None, "timeout_ms": None}  # null is said where there is none
    return {"commands": commands, **bounds, **_counts(given, *bounds)} if _texts(commands) else None


def _operation(given: Mapping[str, Any]) -> dict[str, Any] | None:
    kind, path, diff = given.get("type"), given.get("path"), given.get("diff")
    if kind not in _OPERATIONS or not text_of(path):
        return None
    if kind == "delete_file":
        return {"type": kind, "path": path}
    return {"type": kind, "path": path, "diff": diff} if isinstance(diff, str) else None


def _texts(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, str) for one in value)


def _counts(given: Mapping[str, Any], *names: str) -> dict[str, int]:
    """The whole numbers among members; models write them as 1.0 as well."""
    found = {name: given.get(name) for name in names}
    return {
        name: int(value)
        for name, value in found.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1
    }


ACTIONS: Final = (
    Action(pb.TOOL_KIND_LOCAL_SHELL, "local_shell", "local_shell_call", "action", _exec),
    Action(pb.TOOL_KIND_SHELL, "shell", "shell_call", "action", _commands),
    Action(pb.TOOL_KIND_APPLY_PATCH, "apply_patch", "apply_patch_call", "operation", _operation),
)
OF_TOOL: Final[Mapping[str, Action]] = {action.tool: action for action in ACTIONS}
OF_CALL: Final[Mapping[str, Action]] = {action.call: action for action in ACTIONS}
OF_OUTPUT: Final[Mapping[str, Action]] = {action.output: action for action in ACTIONS}
OF_KIND: Final[Mapping[int, Action]] = {action.kind: action for action in ACTIONS}


def is_local(value: Mapping[str, Any]) -> bool:
    """Whether a tool, or a call of it, is one for the caller to carry out."""
    place = value.get("environment")
    return place is None or (isinstance(place, dict) and place.get("type") == "local")


def asked_in(item: Mapping[str, Any]) -> dict[str, Any] | None:
    """What an item asks of its caller; None when it is no such call, or one in a form that is not known."""
    action = OF_CALL.get(text_of(item.get("type")))
    asked = item.get(action.member) if action else None
    if action is None or not isinstance(asked, dict) or not is_local(item):
        return None
    return asked if action.made(asked) is not None else None


def made_of(action: Action, arguments: str) -> dict[str, Any] | None:
    """What a call asks for, out of its arguments; None when they do not say it."""
    try:
        given = jsontools.loads(arguments.encode())
    except ValueError:
        return None
    return action.made(given) if isinstance(given, dict) else None


def told_by(value: Mapping[str, Any]) -> Any:
    """What an output says, as text for a model or as the entries of any other output."""
    output = value.get("output")
    if value.get("type") == "shell_call_output":
        return "\n".join(_told(entry) for entry in objects(output))
    if isinstance(output, dict):
        return jsontools.dumps(output).decode()
    return output if output is not None else text_of(value.get("status"))


def _told(entry: Mapping[str, Any]) -> str:
    """What one command printed, and how it ended when that was not well."""
    outcome = entry.get("outcome")
    outcome = outcome if isinstance(outcome, dict) else {}
    ended = "timed out" if outcome.get("type") == "timeout" else ""
    if outcome.get("exit_code"):
        ended = f"exit code {outcome['exit_code']}"
    said = (text_of(entry.get("stdout")), text_of(entry.get("stderr")), f"[{ended}]" if ended else "")
    return "\n".join(part.removesuffix("\n") for part in said if part)


def output_of(action: Action, result: ToolResult) -> dict[str, Any]:
    """The members of an output for a result that did not come in this dialect."""
    text = "\n".join(part.text.text for part in result.parts if part.HasField("text"))
    if action.kind == pb.TOOL_KIND_SHELL:
        outcome = {"type": "exit", "exit_code": int(result.failed)}
        return {"output": [{"stdout": text, "stderr": "", "outcome": outcome}]}
    if action.kind == pb.TOOL_KIND_APPLY_PATCH:
        return {"status": "failed" if result.failed else "completed", "output": text}
    return {"id": result.tool_call_id, "output": text}
