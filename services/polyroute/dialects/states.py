"""Opaque state of a vendor as JSON, for wherever it travels through a format that has no place of its own for it."""

from collections.abc import Mapping
from typing import Any, Final

from polyroute.api.chat.v1.chat_pb2 import VendorState
from polyroute.dialects import jsontools

# The extension of a step with a picture or sound, whose messages have no member for it, that holds its state.
OF_PART: Final = "part.state"


def as_json(state: VendorState) -> dict[str, str]:
    """A state as an object."""
    return {"dialect": state.dialect, "kind": state.kind, "data": jsontools.packed(state.data)}


def from_json(value: Mapping[str, Any]) -> VendorState | None:
    """The state that an object is; None for any other object."""
    try:
        data = jsontools.unpacked(value.get("data") or "")
    except (ValueError, TypeError):
        return None
    dialect, kind = value.get("dialect"), value.get("kind")
    if not isinstance(dialect, str) or not isinstance(kind, str):
        return None
    return VendorState(dialect=dialect, kind=kind, data=data)


def packed(state: VendorState) -> bytes:
    """The value of the extension `OF_PART`."""
    return jsontools.dumps(as_json(state))


def unpacked(raw: bytes) -> VendorState | None:
    """The state in the extension `OF_PART`; None when it is none."""
    value = jsontools.loads(raw) if raw else None
    return from_json(value) if isinstance(value, dict) else None
