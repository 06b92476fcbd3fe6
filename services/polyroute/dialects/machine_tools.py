"""What a model is told of tools that work where the caller runs, when its vendor does not know them by themselves.

The members are those of OpenAI's reference: https://platform.openai.com/docs/guides/tools-local-shell,
https://platform.openai.com/docs/guides/tools-shell, https://platform.openai.com/docs/guides/tools-apply-patch.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from polyroute.api.chat.v1 import chat_pb2 as pb


class Told(NamedTuple):
    """A tool in the words of a function.

    Attributes:
        description: What it is for.
        schema: Of its arguments.
    """

    description: str
    schema: Mapping[str, Any]


def _object(required: tuple[str, ...], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def _text(description: str) -> dict[str, Any]:
    return {"type": "string", "description": description}


def _number(description: str) -> dict[str, Any]:
    return {"type": "integer", "description": description}


def _texts(description: str) -> dict[str, Any]:
    return {"type": "array", "items": {"type": "string"}, "description": description}


_TIMEOUT: Final = _number("How long it may take, in milliseconds.")

MACHINE_TOOLS: Final[Mapping[int, Told]] = {
    pb.TOOL_KIND_LOCAL_SHELL: Told(
        "Runs a command on the user's machine and returns its output.",
        _object(
            ("command",),
            command=_texts('The program and its arguments, such as ["bash", "-lc", "ls -la"].'),
            working_directory=_text("Where to run it."),
            timeout_ms=_TIMEOUT,
            env={
                "type": "object",
                "additionalProperties": {"type": "string"},
                "description": "Environment variables to set for it.",
            },
            user=_text("The user to run it as."),
        ),
    ),
    pb.TOOL_KIND_SHELL: Told(
        "Runs commands in a shell on the user's machine and returns what each prints.",
        _object(
            ("commands",),
            commands=_texts("The commands, each a line for the shell."),
            timeout_ms=_TIMEOUT,
            max_output_length=_number("The most characters to return of what each prints."),
        ),
    ),
    pb.TOOL_KIND_APPLY_PATCH: Told(
        "Creates, changes or deletes one file on the user's machine.",
        _object(
            ("type", "path"),
            type={"type": "string", "enum": ["create_file", "update_file", "delete_file"]},
            path=_text("The file."),
            diff=_text(
                "What changes, not for delete_file: sections that begin with a line of @@ and the text they are at,"
                " and in them lines that begin with a space (stay), - (go) or + (come). A new file has only lines"
                " with +."
            ),
        ),
    ),
}
