"""The role table: what a process can play, and how each role is built from the configuration."""

import asyncio
import os
import signal
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polyroute.cli.config import Config, load
from polyroute.mesh.lifecycle import Role
from polyroute.mesh.node import Node
from polyroute.mesh.roles import ConfigError
from polyroute.mesh.source import Source

if TYPE_CHECKING:
    from polyroute.providers.local.weights import Progress


@dataclass
class Process:
    """One process: its configuration, its roles, where its own files are.

    Args:
        config: The configuration at the start.
        path: Where it came from; None when there is no file.
        overrides: What the command line says on top of it, also after a reload.
        roles: The roles it plays.
        instance: Its name among the processes of this machine; empty when it is the only one.
        announce: Told the first key's secret, once.
        progress: Told how far the embedded model is.
    """

    config: Config
    path: Path | None
    overrides: Mapping[str, Any]
    roles: frozenset[str]
    instance: str = ""
    announce: Callable[[str], None] = print
    progress: "Progress | None" = None
    sources: dict[str, Source] = field(default_factory=dict)

    @property
    def run_dir(self) -> Path:
        """Where the process's sockets and locks are."""
        run = self.config.data_dir / "run"
        return run / self.instance if self.instance else run

    def node(self) -> Node:
        """The process in the mesh."""
        listen = {**self.config.mesh.listen, "edge": self.config.edge.grpc.listen}
        mesh = self.config.mesh.model_copy(update={"listen": listen})
        return Node(mesh, self.roles, self.run_dir, peer_run_dir=self.config.data_dir / "run")

    def table(self, node: Node) -> dict[str, Role]:
        """How each of its roles is started, in any order."""
        builders = {
            "auth": self._auth,
            "metrics": self._metrics,
            "providers": self._providers,
            "router": self._router,
            "edge": self._edge,
        }
        return {name: partial(build, node) for name, build in builders.items() if name in self.roles}

    # A process loads what its own roles need, and not the rest: one that is killed must be back soon.

    def _auth(self, node: Node) -> AbstractAsyncContextManager[None]:
        from polyroute.auth import wiring

        return wiring.role(
            node,
            self.config.auth,
            data_dir=self.config.data_dir,
            announce=self.announce,
            database=self.config.database,
        )

    def _metrics(self, node: Node) -> AbstractAsyncContextManager[None]:
        from polyroute.metrics import wiring

        return wiring.role(node, self.config.metrics, data_dir=self.config.data_dir, database=self.config.database)

    def _providers(self, node: Node) -> AbstractAsyncContextManager[None]:
        from polyroute.providers import wiring

        return wiring.role(
            node,
            self.config.provider,
            load=lambda: self.reread().providers,
            source=self._source("providers"),
            environment=os.environ,
            data_dir=self.config.data_dir,
            progress=self.progress,
        )

    def _router(self, node: Node) -> AbstractAsyncContextManager[None]:
        from polyroute.router import wiring
        from polyroute.router.document import CatalogFile

        return wiring.role(
            node,
            self.config.router,
            load=lambda: self.reread().catalog,
            source=self._source("router"),
            data_dir=self.config.data_dir,
            database=self.config.database,
            redis=self.config.auth.redis.get_secret_value(),
            file=CatalogFile(self.path, lambda path: load(path, self.overrides).catalog) if self.path else None,
        )

    def _edge(self, node: Node) -> AbstractAsyncContextManager[None]:
        from polyroute.edge import wiring

        return wiring.role(
            node,
            self.config.edge,
            spool_dir=self.config.data_dir / "spool" / (self.instance or "edge"),
            shared=bool(self.instance),
        )

    def _source(self, role: str) -> Source:
        return self.sources.setdefault(role, Source(self.path))

    def reread(self) -> Config:
        """The configuration as the file says now."""
        return load(self.path, self.overrides)

    def reload_on_hangup(self) -> None:
        """Has SIGHUP read the file again."""

        def hang_up() -> None:
            for source in self.sources.values():
                source.wanted.set()

        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hang_up)


def chosen(names: list[str], known: tuple[str, ...]) -> frozenset[str]:
    """The roles named on a command line.

    Raises:
        ConfigError: One is unknown.
    """
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigError(f"no role is called {unknown[0]!r} (known: {', '.join(known)})")
    return frozenset(names)
