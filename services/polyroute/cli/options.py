"""Options that many commands have, and the configuration that they lead to."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from polyroute.cli.config import Config

ConfigFile = Annotated[Path | None, typer.Option("--config", "-c", help="YAML file [default: polyroute.yaml]")]
DataDir = Annotated[Path | None, typer.Option("--data-dir", help="where databases, spools and sockets are kept")]
AsJson = Annotated[bool, typer.Option("--json", help="as JSON, for programs")]
Database = Annotated[
    str | None,
    typer.Option(
        "--database", envvar="POLYROUTE_DATABASE", help="postgresql://user:password@host:5432/name [default: files]"
    ),
]
Redis = Annotated[
    str | None,
    typer.Option("--redis", envvar="POLYROUTE_REDIS", help="redis://host:6379, where several processes count limits"),
]
LogLevel = Annotated[str | None, typer.Option("--log-level", help="debug, info, warning or error")]


def settings(config_file: Path | None, data_dir: Path | None, database: str | None = None) -> "Config":
    """The configuration that a command works with; `database` is for those that work on the databases themselves.

    Raises:
        ConfigError: With every problem, one a line.
    """
    from polyroute.cli.config import find, load

    return load(find(config_file), overrides(data_dir, database=database))


def overrides(
    data_dir: Path | None = None,
    log_level: str | None = None,
    listen: str | None = None,
    base: Mapping[str, Any] = MappingProxyType({}),
    *,
    database: str | None = None,
    redis: str | None = None,
) -> dict[str, Any]:
    """What the command line says, in the configuration's form."""
    said = dict(base)
    if data_dir is not None:
        said["data_dir"] = str(data_dir)
    if log_level is not None:
        said["log"] = {"level": log_level}
    if listen is not None:
        said["edge"] = {"http": {"listen": listen}}
    if database is not None:
        said["database"] = database
    if redis is not None:
        said["auth"] = {"redis": redis}
    return said
