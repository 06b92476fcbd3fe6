"""The description of the HTTP door, held against its routes."""

import re
from collections.abc import Iterator
from typing import Any, Final

from polyroute.edge.http.access import ANY, Access
from polyroute.edge.http.openapi import DOCUMENT
from tests.mesh.samples import doors

# What the description says of paths below /v1: they answer below these too.
_ALIASES: Final = ("/openai/v1/", "/openai/", "/v1/", "/")
_METHOD: Final = re.compile(r"/v1(/models/\{\w+\}:\w+)")


def looks(path: str) -> str:
    """A path whatever its variables are called."""
    return re.sub(r"\{[^}]+\}", "{}", path)


def described() -> dict[str, dict[str, Any]]:
    """Paths by how they look."""
    return {looks(path): item for path, item in DOCUMENT["paths"].items()}


def places(path: str) -> Iterator[str]:
    """Where the description of a declared path may stand."""
    yield looks(path)
    if method := _METHOD.fullmatch(path):
        yield looks(f"/v1beta{method[1]}")
    for prefix in _ALIASES:
        if path.startswith(prefix):
            yield looks(f"/v1/{path.removeprefix(prefix)}")


def test_every_path_is_described() -> None:
    """What the doors declare, but administration, which describes itself; by every method that it has."""
    known, (app, _) = described(), doors()
    declared = [one for one in app.declared if not one.path.startswith("/admin/")]
    missing = [one for one in declared if not any(place in known for place in places(one.path))]

    assert len(declared) > 100
    assert not missing
    for one in declared:
        item = next(known[place] for place in places(one.path) if place in known)
        wanted = {"get", "post"} if one.verb == ANY else {one.verb.lower()}
        assert wanted <= item.keys(), one
        for verb in wanted:
            assert bool(item[verb]["security"]) == (one.access is not Access.PUBLIC), one


def test_nothing_else_is_described() -> None:
    """A path that no door declares has no place in the description."""
    app, _ = doors()
    there = {looks(one.path) for one in app.declared}

    assert set() == described().keys() - there


def test_operations_have_names_of_their_own() -> None:
    """Generators of clients make functions of them."""
    operations = [one for item in DOCUMENT["paths"].values() for verb, one in item.items() if verb != "parameters"]
    names = [one["operationId"] for one in operations if "operationId" in one]

    assert len(names) == len(set(names))


def test_variables_are_described() -> None:
    """Each that stands in a path, and no other."""
    for path, item in DOCUMENT["paths"].items():
        given = {one["name"] for one in item.get("parameters", ()) if one["in"] == "path"}
        assert set(re.findall(r"\{(\w+)\}", path)) == given, path
