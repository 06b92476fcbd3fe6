"""Identifiers of what billing makes; later ones sort after earlier ones (UUIDv7, RFC 9562)."""

from typing import Literal

import uuid_utils


def new_id(kind: Literal["cod", "sub", "bud", "alt", "evt"]) -> str:
    """A new identifier such as `cod_01a2...`."""
    return f"{kind}_{uuid_utils.uuid7().hex}"
