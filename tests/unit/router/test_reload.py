"""The catalog follows its source: a file that somebody changes, or that an operator has the router write."""

from pathlib import Path

import pytest

from polyroute.mesh.errors import MeshError
from polyroute.router.config import CatalogConfig
from polyroute.router.document import CatalogFile
from polyroute.router.reload import Reloader, Said, UnwritableError
from polyroute.router.snapshot import CatalogStore
from tests.fakes.archives import FakeArchive
from tests.fakes.catalogs import NOW, read


class Source:
    """A file and the reading of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.write("models: {one: {deployments: [p/a]}}\n")

    def write(self, text: str) -> None:
        """Puts another file in its place, as editors and Kubernetes do."""
        fresh = self.path.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(self.path)

    def load(self) -> CatalogConfig:
        """Reads it."""
        return read(self.path.read_text())


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """A catalog with the model `one`."""
    return Source(tmp_path / "catalog.yaml")


@pytest.fixture
def reloader(source: Source) -> Reloader:
    """Keeps a store at the source."""
    config = source.load()
    file = CatalogFile(source.path, lambda path: read(path.read_text()))
    return Reloader(CatalogStore(config), config, {}, source.load, FakeArchive(), clock=lambda: NOW, file=file)


def models(reloader: Reloader) -> list[str]:
    """What is in force."""
    return [model.name for model in reloader._catalogs.view.catalog.models]


async def test_good_source_comes_into_force(reloader: Reloader, source: Source) -> None:
    """What is written is what is decided from."""
    source.write("{models: {two: {deployments: [p/a]}}}")
    await reloader.reload()

    assert ["two"] == models(reloader)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{models: [", "ParserError"),
        ("{models: {two: {deployments: [p/a], unknown: 1}}}", "ValidationError"),
        ("{aliases: {a: a}}", "stands for itself"),
    ],
)
async def test_bad_source_changes_nothing(reloader: Reloader, source: Source, text: str, told: str) -> None:
    """Broken YAML, wrong keys and lies alike."""
    source.write(text)
    await reloader.reload()

    assert ["one"] == models(reloader)
    assert told in reloader._catalogs.status.error


async def test_missing_source_leaves_the_last_good_catalog(reloader: Reloader, source: Source) -> None:
    """A file that is away for a moment takes nothing with it."""
    source.path.unlink()
    await reloader.reload()

    assert ["one"] == models(reloader)
    assert reloader._catalogs.status.error.startswith("FileNotFoundError")


def versions(reloader: Reloader) -> list[tuple[str, str, str]]:
    """Author, note and text of what was in force."""
    archive = reloader._versions
    assert isinstance(archive, FakeArchive)
    return [(row.author, row.note, row.text) for row in archive.versions]


async def test_every_change_is_a_version(reloader: Reloader, source: Source) -> None:
    """A change of the file is recorded once, whatever looks at it how often; a bad one is none."""
    await reloader.follow()
    source.write("models: {two: {deployments: [p/a]}} # better\n")
    await reloader.reload()
    await reloader.follow()
    await reloader.reload()
    source.write("models: [")
    await reloader.reload()
    await reloader.follow()

    assert [
        ("file", "", "models: {one: {deployments: [p/a]}}\n"),
        ("file", "", "models: {two: {deployments: [p/a]}} # better\n"),
    ] == versions(reloader)
    assert 2 == reloader.number


async def test_apply_writes_and_puts_in_force(reloader: Reloader, source: Source) -> None:
    """The file says it, decisions are made from it, the history has it with who and why."""
    text = "models: {three: {deployments: [p/a]}}\n"

    applied = await reloader.apply(text, Said("ann", "more"), validate_only=False)
    again = await reloader.apply(text, Said("bob", "the same"), validate_only=False)

    assert text == source.path.read_text()
    assert ["three"] == models(reloader)
    assert [("ann", "more", text)] == versions(reloader)
    assert (True, 1, False, 1) == (applied.changed, applied.version.number, again.changed, again.version.number)
    assert [source.path] == list(source.path.parent.iterdir())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("models: [", "not YAML"),
        ("aliases: {a: a}\n", "aliases.a: stands for itself"),
        ("aliases: {a: nobody}\nproviders: {}\n", "providers: is no section of a catalog"),
    ],
)
async def test_bad_catalog_is_not_applied(reloader: Reloader, source: Source, text: str, told: str) -> None:
    """The linter's words, and neither file nor catalog are others."""
    before = source.path.read_text()

    with pytest.raises(MeshError, match=told):
        await reloader.apply(text, Said("ann", ""), validate_only=False)

    assert (before, ["one"], []) == (source.path.read_text(), models(reloader), versions(reloader))
    assert [source.path] == list(source.path.parent.iterdir())


async def test_check_changes_nothing(reloader: Reloader, source: Source) -> None:
    """The answer says what would be in force."""
    before = source.path.read_text()
    text = "models: {three: {deployments: [p/a]}}\npolicies: {unused: {}}\n"

    applied = await reloader.apply(text, Said("ann", ""), validate_only=True)

    assert (before, ["one"], []) == (source.path.read_text(), models(reloader), versions(reloader))
    assert ("policies.unused: nothing names it",) == applied.warnings
    assert applied.changed


async def test_a_file_that_cannot_be_written(reloader: Reloader, source: Source) -> None:
    """A mounted file, or none at all: said, not guessed around."""
    config = source.load()
    bare = Reloader(CatalogStore(config), config, {}, source.load, FakeArchive(), clock=lambda: NOW)
    source.path.unlink()

    with pytest.raises(UnwritableError, match="cannot be written"):
        await reloader.apply("models: {}\n", Said("ann", ""), validate_only=False)
    with pytest.raises(UnwritableError, match="without a configuration file"):
        await bare.apply("models: {}\n", Said("ann", ""), validate_only=False)
