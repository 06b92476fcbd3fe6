"""The catalog follows its source."""

from pathlib import Path

import pytest

from polyroute.router.config import CatalogConfig
from polyroute.router.reload import Reloader
from polyroute.router.snapshot import CatalogStore
from tests.fakes.catalogs import read


class Source:
    """A file and the reading of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.write("{models: {one: {deployments: [p/a]}}}")

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
    return Reloader(CatalogStore(source.load()), source.load)


def models(reloader: Reloader) -> list[str]:
    """What is in force."""
    return [model.name for model in reloader._store.view.catalog.models]


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
    assert told in reloader._store.status.error


async def test_missing_source_leaves_the_last_good_catalog(reloader: Reloader, source: Source) -> None:
    """A file that is away for a moment takes nothing with it."""
    source.path.unlink()
    await reloader.reload()

    assert ["one"] == models(reloader)
    assert reloader._store.status.error.startswith("FileNotFoundError")
