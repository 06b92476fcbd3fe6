"""What is known before anything is loaded: the names of the roles, and the error that ends a program at its start."""

from typing import Final

ROLES: Final = ("auth", "metrics", "providers", "router", "edge")  # start order; stop order is the reverse


class ConfigError(Exception):
    """The configuration cannot be used; the text says where and why, one problem a line."""
