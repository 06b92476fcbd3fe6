"""What the documents promise is there: commands, options, files, targets, configuration that is valid, examples."""

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import typer.main

from polyroute.cli.config import Config
from polyroute.cli.main import app
from polyroute.cli.reference import reference
from polyroute.mesh.config import read_yaml, validated
from polyroute.providers import roster
from polyroute.providers.local.model import LocalModel
from polyroute.providers.registry import all_vendors
from polyroute.providers.vendor import Vendor
from polyroute.router.build import build

ROOT: Final = Path(__file__).resolve().parents[2]
SERVICES: Final = ROOT / "services" / "polyroute"
DOCUMENTS: Final = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
FILES: Final = [
    ROOT / "docker-compose.yml",
    ROOT / "deploy" / "polyroute.yaml",
    ROOT / "docs" / "polyroute.example.yaml",
]
EXAMPLES: Final = sorted((ROOT / "docs" / "examples").iterdir())
# Named, and not in the repository at every moment.
COMES_LATER: Final = {"protos/released.binpb"}  # written with each release

_FENCE: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SPAN: Final = re.compile(r"`([^`\n]+)`")
_LINK: Final = re.compile(r"\]\(([^)\s]+)\)")
_COMMAND: Final = re.compile(r"(?:^|[\s(/])polyroute ((?:\"[^\"\n]*\"|[^`|\n#<])+)")
_TARGET: Final = re.compile(r"\bmake ([a-z][a-z-]*)")
_PATH: Final = re.compile(r"\.?[\w-]+(?:/[\w.-]+)+/?")


class Everything(dict[str, str]):
    """An environment in which every variable is set."""

    def get(self, key: str, default: Any = None) -> str:
        """A value for any name."""
        return f"value-of-{key}"


def place(path: Path) -> str:
    """A document's name in a failure."""
    return path.relative_to(ROOT).as_posix()


@cache
def blocks(path: Path) -> tuple[tuple[str, str], ...]:
    """A document's code blocks: language and text."""
    return tuple(_FENCE.findall(path.read_text(encoding="utf-8")))


@cache
def spans(path: Path) -> tuple[str, ...]:
    """A document's code inside of text."""
    return tuple(_SPAN.findall(_FENCE.sub("", path.read_text(encoding="utf-8"))))


def shell(path: Path) -> Iterator[str]:
    """What a document tells a reader to type: its shell blocks, its spans; of a YAML file, its comments."""
    if path.suffix != ".md":
        yield from (line.partition("# ")[2] for line in path.read_text(encoding="utf-8").splitlines() if "# " in line)
        return
    yield from spans(path)
    for language, text in blocks(path):
        if language == "sh":
            yield from text.splitlines()


def commands(path: Path) -> set[str]:
    """The `polyroute ...` commands in a document."""
    return {found.strip().rstrip(",.;:)") for text in shell(path) for found in _COMMAND.findall(text)}


def complaint(words: list[str]) -> str:
    """What is wrong with a command line; empty when the program would take it."""
    command: Any = typer.main.get_command(app)
    while words and hasattr(command, "commands"):
        if command.invoke_without_command and words[0].startswith("-"):
            break  # a group that is a command as well
        name, *words = words
        if name not in command.commands:
            return f"there is no command {name!r}"
        command = command.commands[name]
    if not words:
        return ""  # the command is only named
    filled = ["1" if word.isupper() else word for word in words]  # a placeholder such as N
    try:
        command.make_context("polyroute", filled)
    except Exception as error:  # whatever the parser says is the complaint
        return f"{type(error).__name__}: {error}"
    return ""


@pytest.mark.parametrize("path", [*DOCUMENTS, *FILES], ids=place)
def test_commands_exist(path: Path) -> None:
    """Every `polyroute` command in a document is one that the program takes, options included."""
    wrong = {words: said for words in commands(path) if (said := complaint(shlex.split(words)))}

    assert {} == wrong


def test_the_check_of_commands_sees_them() -> None:
    """The test above finds commands, and finds fault."""
    found = commands(ROOT / "README.md")

    assert len(found) >= 10
    assert "usage --by model,key --since 7d" in found
    assert complaint(["keys", "create", "--colour", "red"])
    assert complaint(["fly"])
    assert not complaint(["up", "--workers", "N"])


@pytest.mark.parametrize("path", DOCUMENTS, ids=place)
def test_links_lead_somewhere(path: Path) -> None:
    """Every relative link names a file or folder of the project, and a heading that is there."""
    wrong = []
    for target in _LINK.findall(path.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        found = (path.parent / name).resolve() if name else path
        if not found.exists() or not found.is_relative_to(ROOT) or (anchor and anchor not in anchors(found)):
            wrong.append(target)

    assert [] == wrong


def anchors(path: Path) -> set[str]:
    """The anchors of a document's headings."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=place)
def test_paths_exist(path: Path) -> None:
    """Every path in a document is there, seen from the project's folder or, for code, from `services/polyroute`."""
    roots = {entry.name: ROOT for entry in ROOT.iterdir()} | {
        entry.name: SERVICES for entry in SERVICES.iterdir() if entry.is_dir()
    }
    words = {word for text in shell(path) for word in text.split() if _PATH.fullmatch(word)}
    named = {word for word in words if word.partition("/")[0] in roots and not word.startswith(".venv/")}
    missing = {word for word in named if not any((root / word).exists() for root in (ROOT, SERVICES))}

    assert set() == missing - COMES_LATER


@pytest.mark.parametrize("path", [*DOCUMENTS, *FILES], ids=place)
def test_make_has_the_targets(path: Path) -> None:
    """Every `make` target in a document is one of the Makefile's."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    named = {target for text in shell(path) for target in _TARGET.findall(text)}

    assert set() == named - targets


def test_make_explains_its_targets() -> None:
    """`make help` has a line for each."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    explained = re.findall(r"^([a-z-]+):.*## \w", makefile, re.MULTILINE)

    assert phony is not None
    assert sorted(phony[1].split()) == sorted(explained)


def configurations() -> Iterator[tuple[str, str]]:
    """Every configuration that the documents show, with its place."""
    for path in DOCUMENTS:
        for number, (language, text) in enumerate(blocks(path)):
            if language == "yaml":
                yield f"{place(path)} block {number}", text
    for path in FILES[1:]:
        yield place(path), path.read_text(encoding="utf-8")


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in configurations()])
def test_configurations_are_valid(text: str, tmp_path: Path) -> None:
    """A start would take every configuration that a reader may copy: its keys, its accounts, its catalog."""
    file = tmp_path / "polyroute.yaml"
    file.write_text(text, encoding="utf-8")

    config = validated(Config, read_yaml(file, Everything(POLYROUTE_BOOTSTRAP_KEY="")) | no_bootstrap(text))
    accounts = roster.configured(config.providers, all_vendors(), local=LocalModel(config.provider.local))
    catalog = build(config.catalog, None)

    assert set(config.providers) == set(accounts)
    assert set(config.models) == {model.name for model in catalog.models}


def no_bootstrap(text: str) -> dict[str, Any]:
    """A key of one's own has a form that a made-up value has not."""
    return {"auth": {}} if "bootstrap_key" in text else {}


def test_the_reference_is_current() -> None:
    """docs/configuration.md is what `make docs` writes."""
    assert reference() == (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", EXAMPLES, ids=place)
def test_the_readme_shows_the_examples(path: Path) -> None:
    """What the README shows is the file that it names, to the letter."""
    shown = {text for _, text in blocks(ROOT / "README.md")}

    assert path.read_text(encoding="utf-8") in shown
    assert place(path) in (ROOT / "README.md").read_text(encoding="utf-8")


def test_a_vendor_is_twenty_lines() -> None:
    """The file that CONTRIBUTING.md shows is a vendor, and as short as it says."""
    source = next(text for language, text in blocks(ROOT / "CONTRIBUTING.md") if language == "python")
    names: dict[str, Any] = {}

    exec(compile(source, "example.py", "exec"), names)

    assert isinstance(names["VENDOR"], Vendor)
    assert names["VENDOR"].name == "example"
    assert len(source.splitlines()) <= 20


def test_decisions_have_their_form() -> None:
    """A record is a context, a decision and its consequences, numbered without a gap, and listed."""
    folder = ROOT / "docs" / "decisions"
    records = sorted(folder.glob("0*.md"))
    index = (folder / "README.md").read_text(encoding="utf-8")

    assert [f"{number:04d}" for number in range(1, len(records) + 1)] == [path.name[:4] for path in records]
    for path in records:
        text = path.read_text(encoding="utf-8")
        assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]
        assert text.startswith(f"# {int(path.name[:4])}. ")
        assert f"({path.name})" in index


def test_the_changelog_has_the_version() -> None:
    """Whoever installs this version finds what is in it."""
    version = re.search(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)

    assert version is not None
    assert f"## {version[1]}\n" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"polyroute:{version[1]}" in (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    assert f"polyroute-{version[1]}-" in (ROOT / "README.md").read_text(encoding="utf-8")
