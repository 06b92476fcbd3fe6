"""The object around an answer."""

from collections.abc import Mapping
from typing import Any


def envelope(answer_id: str, status: str, told: Mapping[str, Any]) -> dict[str, Any]:
    """A response object with every member that clients look for; what it repeats of the request is null or the default.

    Args:
        answer_id: Its id.
        status: Its state, in this API's words.
        told: The members that are known.
    """
    unknown: dict[str, Any] = {
        "id": answer_id,
        "object": "response",
        "created_at": 0,
        "status": status,
        "background": False,
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "max_tool_calls": None,
        "metadata": {},
        "model": "",
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "store": False,
        "temperature": None,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "truncation": "disabled",
        "usage": None,
        "user": None,
    }
    return unknown | dict(told)
