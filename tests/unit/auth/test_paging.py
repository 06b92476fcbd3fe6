"""Pages and filters of lists."""

import pytest

from polyroute.auth import schema
from polyroute.auth.admin.filters import NO_FIELDS, Text
from polyroute.auth.admin.paging import Page, token
from polyroute.mesh.errors import MeshError

FIELDS = {"name": Text(schema.accounts.c.name), "scope": Text(schema.limits.c.scope)}


def test_page_knows_what_its_filter_names() -> None:
    """Some lists show more when they are asked for it."""
    page = Page.of(0, "", 'name = "a" AND scope:"b*"', FIELDS)

    assert {"name", "scope"} == page.named
    assert 1 == len(page.wanted)
    assert () == Page.of(0, "", " ", FIELDS).wanted


def test_token_says_where_the_page_before_ended() -> None:
    """Whatever the place is made of."""
    assert ("key_1", 2, "m") == Page.of(0, token("key_1", 2, "m"), "", NO_FIELDS).after
    assert (100, 1000) == (Page.of(0, "", "", NO_FIELDS).size, Page.of(5000, "", "", NO_FIELDS).size)


@pytest.mark.parametrize("text", ["x", "e30=", "W10=", "W251bGxd", "\xff"])
def test_foreign_token_is_refused(text: str) -> None:
    """Not base64, not a list, an empty one, one of nothing."""
    with pytest.raises(MeshError):
        Page.of(0, text, "", NO_FIELDS)
