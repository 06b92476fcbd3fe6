"""The catalog inside of the configuration file, as text: taken out, put back, an alias changed.

Everything is cut where the YAML parser says that it begins and ends, so comments, order and whatever else is in the
file stay as they are, and `${NAME}` stays unexpanded: what is kept of a catalog holds no secret of the environment.
"""

import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import yaml

from polyroute.router.config import CatalogConfig

SECTIONS: Final = ("models", "aliases", "policies", "routing", "prices", "router")
_INDENT: Final = "  "


class DocumentError(ValueError):
    """A text that cannot be cut into sections; says why."""


class Part(NamedTuple):
    """A section of the file: its name, and the lines that it takes, from `begin` to before `end`."""

    name: str
    begin: int
    end: int


@dataclass(frozen=True)
class CatalogFile:
    """The configuration file as the router sees it.

    Args:
        path: Where it is.
        parse: Reads a whole configuration file and gives the catalog in it; raises whatever it likes.
    """

    path: Path
    parse: Callable[[Path], CatalogConfig]

    def text(self) -> str:
        """What it says now.

        Raises:
            OSError: It cannot be read.
        """
        return self.path.read_text(encoding="utf-8")

    def beside(self, text: str) -> Path:
        """A new file beside it with another text, as readable as it is itself; to be `put`, or deleted.

        Raises:
            OSError: It cannot be written.
        """
        path = self.path.resolve()  # what a symbolic link leads to is replaced, not the link
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".yaml", dir=path.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), path.stat().st_mode & 0o777)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        return Path(name)

    def put(self, written: Path) -> None:
        """Puts a file from `beside` in the place of this one, at once and whole.

        Raises:
            OSError: That is not possible.
        """
        written.replace(self.path.resolve())


def sections(text: str) -> list[Part]:
    """The sections of a configuration file in their order; comments above a section belong to it.

    Raises:
        DocumentError: It is no YAML mapping of sections, or not written as one line or block for each.
    """
    root = _composed(text)
    if root is None:
        return []
    if not isinstance(root, yaml.MappingNode) or root.flow_style:
        raise DocumentError("not a mapping of sections, each beginning on a line of its own")
    lines = text.splitlines(keepends=True)
    begins = []
    for key, _ in root.value:
        if key.start_mark.column:
            raise DocumentError(f"line {key.start_mark.line + 1}: a section begins in the first column")
        begins.append((key.value, _with_comments(lines, key.start_mark.line)))
    ends = [*(begin for _, begin in begins[1:]), len(lines)]
    return [Part(name, begin, end) for (name, begin), end in zip(begins, ends, strict=True)]


def catalog_of(text: str) -> str:
    """The sections of the catalog alone.

    Raises:
        DocumentError: The text cannot be cut.
    """
    lines = text.splitlines(keepends=True)
    return "".join(_ended("".join(lines[part.begin : part.end])) for part in sections(text) if part.name in SECTIONS)


def strangers(text: str) -> list[str]:
    """The sections of a text that are none of a catalog.

    Raises:
        DocumentError: The text cannot be cut.
    """
    return [part.name for part in sections(text) if part.name not in SECTIONS]


def replaced(text: str, catalog: str) -> str:
    """A configuration file with another catalog: sections that it had are replaced where they stood.

    Args:
        text: The file.
        catalog: Sections of a catalog, and nothing else.

    Raises:
        DocumentError: One of the texts cannot be cut.
    """
    old, new = text.splitlines(keepends=True), catalog.splitlines(keepends=True)
    fresh = {part.name: _ended("".join(new[part.begin : part.end])) for part in sections(catalog)}
    parts = sections(text)
    first = parts[0].begin if parts else len(old)
    pieces = [_ended("".join(old[:first]))]
    for part in parts:
        if part.name in SECTIONS:
            pieces.append(fresh.pop(part.name, ""))
        else:
            pieces.append(_ended("".join(old[part.begin : part.end])))
    pieces += fresh.values()
    whole = "".join(pieces)
    _composed(whole)  # an anchor may have stood in what was taken out
    return whole


def with_alias(catalog: str, name: str, targets: Mapping[str, int]) -> str:
    """A catalog in which an alias stands for other models; a rollout of it ends, whose calls stay together is kept.

    Args:
        catalog: Sections of a catalog.
        name: The alias; a new one is added.
        targets: Models and weights.

    Raises:
        DocumentError: The text cannot be cut.
    """
    root = _composed(catalog)
    section = _member(root, "aliases")
    if section is None:
        return f"{_ended(catalog)}aliases:\n{_INDENT}{_flow(name)}: {_flow(dict(targets))}\n"
    found = _member(section, name)
    if found is not None:
        value = _flow(_alias(found, targets))
        return catalog[: found.start_mark.index] + value + catalog[_end(found) :]
    entry = f"{_flow(name)}: {_flow(dict(targets))}"
    if not isinstance(section, yaml.MappingNode) or section.flow_style:
        whole = {**(yaml.safe_load(catalog)["aliases"] or {}), name: dict(targets)}
        return catalog[: section.start_mark.index] + _spaced(catalog, section) + _flow(whole) + catalog[_end(section) :]
    at, column = section.value[0][0].start_mark.index, section.value[0][0].start_mark.column
    return f"{catalog[:at]}{entry}\n{' ' * column}{catalog[at:]}"


def with_prices(catalog: str, rows: Mapping[str, list[dict[str, object]]]) -> str:
    """A catalog in whose section `prices` some names have other rows; the comments of all others are kept.

    Args:
        catalog: Sections of a catalog.
        rows: By `provider/model`, as written.

    Raises:
        DocumentError: The text cannot be cut.
    """
    section = _member(_composed(catalog), "prices")
    if not isinstance(section, yaml.MappingNode) or section.flow_style:
        return _with_price_section(catalog, rows)
    for name, written in rows.items():
        models = _member(_member(_composed(catalog), "prices"), "models")
        if not isinstance(models, yaml.MappingNode) or models.flow_style:
            return _with_price_section(catalog, rows)
        found = _member(models, name)
        if found is not None:
            begin = found.start_mark.index
            # a list may stand in the column of its key, where what is on one line may not
            space = " " * (models.start_mark.column + 1 - found.start_mark.column)
            catalog = catalog[:begin] + space + _flow(written) + catalog[_end(found) :]
        else:
            at, column = models.value[0][0].start_mark.index, models.value[0][0].start_mark.column
            catalog = f"{catalog[:at]}{_flow(name)}: {_flow(written)}\n{' ' * column}{catalog[at:]}"
    return catalog


def _with_price_section(catalog: str, rows: Mapping[str, list[dict[str, object]]]) -> str:
    """The same with a section that is written anew."""
    before = (yaml.safe_load(catalog) or {}).get("prices") or {}
    section = {**before, "models": {**(before.get("models") or {}), **rows}}
    text = yaml.safe_dump({"prices": section}, sort_keys=False, allow_unicode=True, width=10**6)
    lines = catalog.splitlines(keepends=True)
    for part in sections(catalog):
        if part.name == "prices":
            return "".join([*lines[: part.begin], text, *lines[part.end :]])
    return _ended(catalog) + text


def _alias(node: yaml.Node, targets: Mapping[str, int]) -> dict[str, object]:
    sticky = _member(node, "sticky")
    if _member(node, "targets") is None or sticky is None:
        return dict(targets)
    return {"targets": dict(targets), "sticky": sticky.value}


def _member(node: yaml.Node | None, name: str) -> yaml.Node | None:
    """The value of a mapping's key; None when there is none, or the node is no mapping."""
    if not isinstance(node, yaml.MappingNode):
        return None
    return next((value for key, value in node.value if key.value == name), None)


def _end(node: yaml.Node) -> int:
    """Where a node's text ends: of a block, where the last thing in it does, before comments and blank lines."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(last[1] if isinstance(last, tuple) else last)
    return int(node.end_mark.index)


def _spaced(text: str, node: yaml.Node) -> str:
    """A space where an empty value begins right after its colon."""
    return "" if text[node.start_mark.index - 1 : node.start_mark.index].isspace() else " "


def _flow(value: object) -> str:
    """A value on one line."""
    text: str = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**6)
    return text.removesuffix("\n").removesuffix("\n...")


def _composed(text: str) -> yaml.Node | None:
    try:
        node: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise DocumentError(f"not YAML: {error}") from None
    return node


def _with_comments(lines: list[str], line: int) -> int:
    """The first line of the comments that stand right above a line."""
    while line > 0 and lines[line - 1].startswith("#"):
        line -= 1
    return line


def _ended(text: str) -> str:
    return text if not text or text.endswith("\n") else f"{text}\n"
