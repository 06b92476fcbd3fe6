"""Who may use which path of the HTTP door, as the paths themselves say."""

import pytest
from starlette.routing import Route

from polyroute.edge.admin.bindings import anonymous
from polyroute.edge.http.access import Access, Page, UndeclaredError, declared
from polyroute.edge.http.admin import Reach
from polyroute.mesh.validation import Rules
from tests.mesh.samples import doors, of_admin


@pytest.mark.parametrize(
    ("wanted", "host", "reach"),
    [
        (None, "127.0.0.1", Reach.MACHINE),
        (None, "::1", Reach.MACHINE),
        (None, "0.0.0.0", Reach.NOBODY),
        (None, "::", Reach.NOBODY),
        (None, "192.0.2.1", Reach.NOBODY),
        (True, "0.0.0.0", Reach.EVERYBODY),
        (False, "127.0.0.1", Reach.NOBODY),
    ],
)
def test_never_by_surprise(wanted: bool | None, host: str, reach: Reach) -> None:
    """A door that others can reach has no administration unless the operator says so."""
    assert reach is Reach.of(wanted, host)


def test_every_path_says_who_may_use_it() -> None:
    """What is public is little, and known here by name."""
    app, administration = doors()
    public = {declaration.path for declaration in app.declared if declaration.access is Access.PUBLIC}
    open_to_all = {one.template for one in administration.table.bindings if anonymous(one.method)}

    pages = {"/", "/health/live", "/health/ready", "/metrics", "/openapi.json", "/admin/v1/openapi.json"}
    browser = {"/admin/v1/oidc/{provider}/begin", "/admin/v1/oidc/callback"}
    assert pages | browser == public - open_to_all
    assert all(path.startswith("/admin/v1/self:") for path in open_to_all)
    assert len(app.declared) == len(set(app.declared))


def test_a_path_that_does_not_say() -> None:
    """Stops the start."""
    with pytest.raises(UndeclaredError, match="/secret"):
        declared([Page("/", test_a_path_that_does_not_say, Access.PUBLIC), Route("/secret", test_never_by_surprise)])


def test_samples_hold_the_rules() -> None:
    """Or the cells above would say nothing."""
    rules = Rules()
    _, administration = doors()
    for binding in administration.table.bindings:
        sample = of_admin(binding)
        path, _, query = sample.path.partition("?")
        found = administration.table.find(binding.verb, path)

        assert found is not None
        rules.check(administration.request(found, query, sample.body))
