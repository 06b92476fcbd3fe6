"""The configuration."""

from typing import Final

import typer

from polyroute.cli.options import ConfigFile, DataDir, settings

app: Final = typer.Typer(help="Check and describe the configuration.", no_args_is_help=True)


@app.command("check")
def config_check(config_file: ConfigFile = None, data_dir: DataDir = None) -> None:
    """Says whether the configuration can be used, and everything that is wrong with it."""
    from polyroute.cli import checking
    from polyroute.cli.config import find
    from polyroute.mesh.roles import ConfigError

    path = find(config_file)
    if path is None:
        raise ConfigError("there is no configuration file; the defaults would be used")
    checking.check(path, settings(path, data_dir))


@app.command("schema")
def config_schema() -> None:
    """Prints the JSON Schema of the configuration file, for editors."""
    import json

    from polyroute.cli.config import Config

    print(json.dumps(Config.model_json_schema(), indent=2))


@app.command("reference")
def config_reference() -> None:
    """Prints every section and key with its default, as Markdown."""
    from polyroute.cli.reference import reference

    print(reference(), end="")
