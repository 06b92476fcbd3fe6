"""Who may use a path of the HTTP door: declared where the path is made, and nowhere else."""

from enum import StrEnum
from typing import Any, Final, NamedTuple

from starlette.routing import Route

ANY: Final = "*"


class Access(StrEnum):
    """What a request must bring."""

    PUBLIC = "public"
    """Nothing."""
    KEY = "key"
    """A caller's key."""
    ADMIN = "admin"
    """An administrator's credential."""


class Declared(NamedTuple):
    """A path and who may use it.

    Attributes:
        verb: In capitals; `*` for all.
        path: With its variables in braces.
        access: What a request must bring.
    """

    verb: str
    path: str
    access: Access


class UndeclaredError(Exception):
    """A path does not say who may use it."""


class Page(Route):
    """One of Starlette's routes with its access.

    Args:
        path: With its variables in braces.
        endpoint: What answers.
        access: What a request must bring.
    """

    def __init__(self, path: str, endpoint: Any, access: Access) -> None:
        super().__init__(path, endpoint)
        self.access = access

    @property
    def declared(self) -> Declared:
        """The path and who may use it."""
        return Declared("GET", self.path, self.access)


def declared(routes: list[Any]) -> list[Declared]:
    """The paths of Starlette's routes, each with its access.

    Raises:
        UndeclaredError: One of them says nothing of it.
    """
    unsaid = [getattr(route, "path", str(route)) for route in routes if not isinstance(route, Page)]
    if unsaid:
        raise UndeclaredError(f"{', '.join(unsaid)}: say who may use it, as polyroute.edge.http.access.Page")
    return [route.declared for route in routes]
