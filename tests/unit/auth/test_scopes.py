"""What keys may do, and what one key may grant another."""

from dataclasses import replace

import pytest

from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth.scopes import Grant, Scope, excess
from polyroute.mesh.errors import MeshError

PARENT = Grant(
    models=("a", "b"),
    expires=1000,
    scope=Scope((1, 3), ("/v1/*", "/x"), ("10.0.0.0/8", "2001:db8::/32"), b"{}", {"team": "red"}),
)
CHILD = Grant(
    models=("a",),
    expires=900,
    scope=Scope((3,), ("/v1/embeddings", "/x"), ("10.1.0.0/16", "2001:db8:1::/48"), b"", {"team": "red", "n": "1"}),
)


def test_less_is_no_excess() -> None:
    """Nor is the same, nor anything of a creator that nothing binds."""
    assert [] == list(excess(CHILD, PARENT))
    assert [] == list(excess(PARENT, PARENT))
    assert [] == list(excess(CHILD, Grant()))


@pytest.mark.parametrize(
    ("wanted", "param"),
    [
        (Grant((), 900, CHILD.scope), "models"),
        (Grant(("a", "c"), 900, CHILD.scope), "models"),
        (Grant(("a",), None, CHILD.scope), "lifetime"),
        (Grant(("a",), 1001, CHILD.scope), "lifetime"),
        (Grant(("a",), 900, replace(CHILD.scope, operations=(1, 2))), "scope.operations"),
        (Grant(("a",), 900, replace(CHILD.scope, routes=("/v2",))), "scope.routes"),
        (Grant(("a",), 900, replace(CHILD.scope, routes=("/x*",))), "scope.routes"),
        (Grant(("a",), 900, replace(CHILD.scope, source_ranges=("0.0.0.0/0",))), "scope.source_ranges"),
        (Grant(("a",), 900, replace(CHILD.scope, source_ranges=())), "scope.source_ranges"),
        (Grant(("a",), 900, replace(CHILD.scope, tags={"team": "blue"})), "scope.tags"),
    ],
)
def test_more_is_named(wanted: Grant, param: str) -> None:
    """By the field in which it is more."""
    assert [param] == list(excess(wanted, PARENT))


@pytest.mark.parametrize(
    ("scope", "param"),
    [
        (Scope(source_ranges=("10.0.0.1/8",)), "scope.source_ranges"),
        (Scope(source_ranges=("nowhere",)), "scope.source_ranges"),
        (Scope(provider_defaults=b"[1]"), "scope.provider_defaults"),
        (Scope(provider_defaults=b"{"), "scope.provider_defaults"),
        (Scope(provider_defaults=b'{"onyl": ["a"]}'), "scope.provider_defaults"),
        (Scope(provider_defaults=b'{"sort": "colour"}'), "scope.provider_defaults"),
        (Scope(routes=("v1",)), "scope.routes"),
        (Scope(routes=("/v1/*/x",)), "scope.routes"),
    ],
)
def test_what_cannot_be_meant_is_refused(scope: Scope, param: str) -> None:
    """When it is set, not when a call meets it."""
    with pytest.raises(MeshError) as caught:
        scope.check()

    assert (errors_pb2.REASON_INVALID_REQUEST, param) == (caught.value.reason, caught.value.metadata["param"])


def test_scope_is_kept_as_it_was() -> None:
    """As JSON and back; a scope that binds nothing is nothing."""
    assert PARENT.scope == Scope.from_json(PARENT.scope.to_json())
    assert (None, Scope()) == (Scope().to_json(), Scope.from_json(None))
