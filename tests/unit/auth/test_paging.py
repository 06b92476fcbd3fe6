"""Pages and filters of lists."""

import pytest

from polyroute.auth.admin.paging import Page, filtered, token
from polyroute.mesh.errors import MeshError

FIELDS = ("name", "scope")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", {}),
        ('name = "a b"', {"name": "a b"}),
        ("name=x", {"name": "x"}),
        (r'name = "say \"hi\" AND go" AND scope = key_1 ', {"name": 'say "hi" AND go', "scope": "key_1"}),
    ],
)
def test_filter(text: str, wanted: dict[str, str]) -> None:
    """Comparisons joined by AND."""
    assert wanted == filtered(text, FIELDS)


@pytest.mark.parametrize(
    "text",
    ["name", "name = ", "name != x", 'name = "x', "name = x OR scope = y", "other = x", "name = x scope = y", "%"],
)
def test_what_is_no_filter_is_refused(text: str) -> None:
    """And nothing is listed for it."""
    with pytest.raises(MeshError):
        filtered(text, FIELDS)


def test_token_says_where_the_page_before_ended() -> None:
    """Whatever the place is made of."""
    assert ("key_1", 2, "m") == Page.of(0, token("key_1", 2, "m"), "", ()).after
    assert (100, 1000) == (Page.of(0, "", "", ()).size, Page.of(5000, "", "", ()).size)


@pytest.mark.parametrize("text", ["x", "e30=", "W10=", "W251bGxd", "\xff"])
def test_foreign_token_is_refused(text: str) -> None:
    """Not base64, not a list, an empty one, one of nothing."""
    with pytest.raises(MeshError):
        Page.of(0, text, "", ())
