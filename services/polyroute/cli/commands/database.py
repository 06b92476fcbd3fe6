"""What must last: its tables, its way to PostgreSQL, its backups."""

from pathlib import Path
from typing import Annotated, Final

import typer

from polyroute.cli.options import ConfigFile, Database, DataDir, settings

app: Final = typer.Typer(help="Look at the tables' versions, change them, move to PostgreSQL.", no_args_is_help=True)
copies: Final = typer.Typer()
PANEL: Final = "Keep it"

Force = Annotated[bool, typer.Option("--force", help="replace what is there")]


@app.command("status")
def migrate_status(config_file: ConfigFile = None, data_dir: DataDir = None, database: Database = None) -> None:
    """Shows which revision each service's tables are of, and which this version of the program has."""
    from polyroute.cli import tables

    tables.status(settings(config_file, data_dir, database))


@app.command("up")
def migrate_up(config_file: ConfigFile = None, data_dir: DataDir = None, database: Database = None) -> None:
    """Brings every service's tables up to this version of the program; a start does the same."""
    from polyroute.cli import tables
    from polyroute.mesh import logs

    config = settings(config_file, data_dir, database)
    logs.configure(config.log, service="migrate")
    tables.upgrade(config)


@app.command("down")
def migrate_down(
    service: Annotated[str, typer.Argument(help="auth, idempotency, metrics or router")],
    revision: Annotated[str, typer.Argument(help="such as 0002, or `base` for no tables at all")],
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
    database: Database = None,
) -> None:
    """Takes one service's tables back to an older revision, for an older version of the program."""
    from polyroute.cli import tables
    from polyroute.mesh import logs

    config = settings(config_file, data_dir, database)
    logs.configure(config.log, service="migrate")
    tables.downgrade(config, service, revision)


@app.command("sqlite-to-postgres")
def migrate_to_postgres(
    source: Annotated[Path | None, typer.Option("--from", help="data directory with the SQLite files")] = None,
    target: Annotated[
        str, typer.Option("--to", envvar="POLYROUTE_DATABASE", help="postgresql://user:password@host:5432/name")
    ] = "",
    config_file: ConfigFile = None,
) -> None:
    """Copies everything from SQLite files into an empty PostgreSQL database, and checks that it arrived."""
    import asyncio

    from polyroute.cli import moving
    from polyroute.mesh import logs
    from polyroute.mesh.config import DatabaseConfig, validated
    from polyroute.mesh.roles import ConfigError

    config = settings(config_file, source)
    logs.configure(config.log, service="migrate")
    given = validated(DatabaseConfig, {"url": target}, source="--to") if target else config.database
    if not given.url.get_secret_value():
        raise ConfigError("--to: name the PostgreSQL database")
    asyncio.run(moving.move(config, given))


@copies.command(rich_help_panel=PANEL)
def backup(
    file: Annotated[Path, typer.Argument(help="where to, such as polyroute.tar.gz")],
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
    database: Database = None,
    force: Force = False,
) -> None:
    """Copies databases, pepper and admin secret into one file, while the gateway runs."""
    from polyroute.cli import backups

    print("\n".join(backups.backup(settings(config_file, data_dir, database), file, force=force)))


@copies.command(rich_help_panel=PANEL)
def restore(
    file: Annotated[Path, typer.Argument(help="what `polyroute backup` wrote")],
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
    database: Database = None,
    force: Force = False,
) -> None:
    """Puts a backup back; the gateway must not run."""
    from polyroute.cli import backups

    print("\n".join(backups.restore(settings(config_file, data_dir, database), file, force=force)))
