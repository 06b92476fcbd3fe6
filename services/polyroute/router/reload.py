"""Puts what the source of the catalog says in force, whole; keeps what is in force when the source is bad."""

import asyncio
from collections.abc import Callable

from polyroute.router.config import CatalogConfig
from polyroute.router.snapshot import CatalogStore


class Reloader:
    """Keeps a store at its source.

    Args:
        store: Whose catalog.
        load: Reads the configuration; raises whatever it likes when that is not possible.
    """

    def __init__(self, store: CatalogStore, load: Callable[[], CatalogConfig]) -> None:
        self._store = store
        self._load = load

    async def reload(self) -> None:
        """Reads the source once; the last good catalog stays when it is bad."""
        try:
            config = await asyncio.to_thread(self._load)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the source, the catalog in force stays
            self._store.refuse(f"{type(error).__name__}: {error}")
            return
        self._store.configure(config)
