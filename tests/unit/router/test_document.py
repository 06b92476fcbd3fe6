"""The catalog inside of the configuration file: taken out and put back without touching the rest."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from polyroute.router.document import (
    SECTIONS,
    CatalogFile,
    DocumentError,
    catalog_of,
    replaced,
    sections,
    strangers,
    with_alias,
    with_prices,
)
from tests.fakes.catalogs import read

FILE = """\
# The gateway of the platform team.

edge: # the doors
  http: {listen: "0.0.0.0:8080"}

# what callers may ask for
models:
  large:
    deployments: [p/a]   # one for now
  small: {deployments: [p/b]}

providers:
  p: {keys: ["${P_KEY}"]}

aliases:
  fast: # canary
    large: 90
    small: 10   # the new one
  # the best
  smart: large
router: {max_attempts: 2}
"""
CATALOG = """\
# what callers may ask for
models:
  large:
    deployments: [p/a]   # one for now
  small: {deployments: [p/b]}

aliases:
  fast: # canary
    large: 90
    small: 10   # the new one
  # the best
  smart: large
router: {max_attempts: 2}
"""
NAMES = st.sampled_from(["edge", "log", "providers", *SECTIONS])
BLOCKS = st.sampled_from(
    [" {a: 1}\n", "\n  a: 1\n", "\n  a:\n  - 1\n\n", " {a: 1} # said\n", "\n  # in it\n  a: 1\n\n\n"]
)
TEXTS = st.lists(
    st.tuples(NAMES, BLOCKS, st.sampled_from(["", "# above\n"])), unique_by=lambda one: one[0], max_size=8
).map(lambda parts: "".join(f"{above}{name}:{block}" for name, block, above in parts))


def test_catalog_is_taken_out() -> None:
    """Its sections with their comments, and nothing of the others: no address, no key."""
    assert CATALOG == catalog_of(FILE)
    assert ["edge", "providers"] == strangers(FILE)


@given(TEXTS)
def test_putting_back_changes_nothing(text: str) -> None:
    """What was taken out is put back where it was, byte for byte."""
    assert text == replaced(text, catalog_of(text))


@given(TEXTS, TEXTS)
def test_another_catalog_replaces_the_whole(text: str, other: str) -> None:
    """Afterwards the catalog is the other one, and the rest is as it was."""
    new = catalog_of(other)

    whole = replaced(text, new)

    tree, before, wanted = (yaml.safe_load(one) or {} for one in (whole, text, new))
    assert wanted == {name: value for name, value in tree.items() if name in SECTIONS}
    assert {name: value for name, value in before.items() if name not in SECTIONS} == {
        name: value for name, value in tree.items() if name not in SECTIONS
    }


@pytest.mark.parametrize("text", ["[a]", "{models: {}}", "  models: {}", "models: [", "a: &x 1\nmodels: *y"])
def test_what_cannot_be_cut(text: str) -> None:
    """Anything but blocks or lines of sections is refused, never cut by guess."""
    with pytest.raises(DocumentError):
        sections(text)


def test_an_anchor_that_is_taken_away_is_noticed() -> None:
    """A reference from another section into the catalog does not survive its replacement."""
    with pytest.raises(DocumentError, match="not YAML"):
        replaced("models: &m {}\nlog: *m\n", "models: {}\n")


@pytest.mark.parametrize(
    ("name", "kept"),
    [("fast", ["# the best", "smart: large"]), ("smart", ["small: 10   # the new one"]), ("new", ["smart: large"])],
)
def test_alias_is_changed_in_place(name: str, kept: list[str]) -> None:
    """Only its own targets are others; comments stay."""
    text = with_alias(CATALOG, name, {"large": 1, "small": 2})

    before, after = read(CATALOG), read(text)
    assert {"large": 1, "small": 2} == after.aliases[name].targets
    assert {k: v for k, v in before.aliases.items() if k != name} == {
        k: v for k, v in after.aliases.items() if k != name
    }
    assert before.models == after.models
    assert kept == [line for line in kept if line in text]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("models: {}\n", {"fast": {"a": 9, "b": 1}}),
        ("aliases: {}\n", {"fast": {"a": 9, "b": 1}}),
        ("aliases:\nmodels: {}\n", {"fast": {"a": 9, "b": 1}}),
        ("aliases: {x: y, fast: a}", {"x": "y", "fast": {"a": 9, "b": 1}}),
        ("aliases: {x: y} # all\n", {"x": "y", "fast": {"a": 9, "b": 1}}),
        ("aliases:\n  fast: {targets: {a: 1}, rollout: {to: b}}\n", {"fast": {"a": 9, "b": 1}}),
        (
            "aliases:\n  fast: {targets: a, sticky: key}\n  x: y\n",
            {"fast": {"targets": {"a": 9, "b": 1}, "sticky": "key"}, "x": "y"},
        ),
        ("", {"fast": {"a": 9, "b": 1}}),
    ],
)
def test_alias_in_every_form(text: str, expected: dict[str, Any]) -> None:
    """A section that is missing, empty or on one line; a rollout ends, stickiness stays."""
    assert expected == yaml.safe_load(with_alias(text, "fast", {"a": 9, "b": 1}))["aliases"]


def test_names_are_quoted_where_they_must_be() -> None:
    """A name may hold whatever YAML reads otherwise."""
    text = with_alias("aliases:\n  x: y\n", "a: #b", {"1.5": 1, "null": 2})

    assert {"a: #b": {"1.5": 1, "null": 2}, "x": "y"} == yaml.safe_load(text)["aliases"]


def test_file_is_replaced_whole(tmp_path: Path) -> None:
    """By way of a symbolic link too; as readable as before, and nothing is left beside it."""
    real, link = tmp_path / "real.yaml", tmp_path / "link.yaml"
    real.write_text("models: {}\n")
    real.chmod(0o640)
    link.symlink_to(real)
    file = CatalogFile(link, lambda path: read(path.read_text()))

    file.put(file.beside("aliases: {}\n"))

    assert "aliases: {}\n" == file.text() == real.read_text()
    assert link.is_symlink()
    assert 0o640 == real.stat().st_mode & 0o777
    assert {"real.yaml", "link.yaml"} == {path.name for path in tmp_path.iterdir()}


PRICED = """\
models: {m: {deployments: [p/a]}}
prices: # ours
  models:
    # the contract
    p/a: # by hand
      - {input: 1, output: 2}
    p/b: {input: 3, output: 4} # two
  exchange: {CNY: [{per_usd: 7, since: 2026-01-01}]}
"""
ROW: list[dict[str, object]] = [{"input": "5", "output": "6"}]


def test_a_price_is_put_in_the_place_of_the_one_before() -> None:
    """In a row of its own or on one line; comments stay."""
    text = with_prices(PRICED, {"p/a": ROW, "p/b": ROW, "p/new": ROW})
    models = read(text).prices.models

    assert ["p/a", "p/b", "p/new"] == sorted(models)
    assert {5} == {rows[0].input for rows in models.values()}
    assert all(comment in text for comment in ("# ours", "# the contract", "# by hand", "# two"))
    assert 7 == read(text).prices.exchange["CNY"][0].per_usd


@pytest.mark.parametrize(
    "text",
    [
        "",
        "models: {m: {deployments: [p/a]}}",
        "prices:\nmodels: {m: {deployments: [p/a]}}\n",
        "prices: {models: {p/a: {input: 1, output: 2}}}\n",
        "prices:\n  models: {p/a: {input: 1, output: 2}}\nmodels: {m: {deployments: [p/a]}}\n",
    ],
)
def test_a_price_in_a_section_that_is_not_there_or_on_one_line(text: str) -> None:
    """The section is written anew, everything else stays."""
    written = with_prices(text, {"p/new": ROW})
    config = read(written)

    assert 5 == config.prices.models["p/new"][0].input
    assert ("p/a" in config.prices.models) == ("input: 1" in text)
    assert ("m" in config.models) == ("models: {m:" in text)
    assert 6 == read(with_prices(written, {"p/new": [{"input": "6", "output": "9"}]})).prices.models["p/new"][0].input
