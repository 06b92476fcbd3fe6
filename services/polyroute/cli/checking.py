"""Whether a configuration can be used."""

import os
from pathlib import Path

from polyroute.cli.config import Config
from polyroute.mesh.roles import ConfigError
from polyroute.providers import roster
from polyroute.providers.local.model import LocalModel
from polyroute.providers.local.offer import known_models as embedded
from polyroute.providers.registry import all_vendors
from polyroute.providers.roster import LOCAL, Roster
from polyroute.router.build import build


def check(path: Path, config: Config) -> None:
    """Builds what a start would build, without starting anything.

    Raises:
        ConfigError: Something in it cannot be used.
    """
    environment = os.environ if config.provider.discover else {}
    local = LocalModel(config.provider.local)
    accounts = roster.everyone(config.providers, environment, all_vendors(), local=local)
    offered = Roster()
    offered.replace(
        accounts,
        {
            name: embedded(config.provider.local) if account.vendor.name == LOCAL else roster.offered(account)
            for name, account in accounts.items()
        },
    )
    try:
        catalog = build(config.catalog, offered.providers())
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    for warning in catalog.warnings:
        print(f"{path}: warning: {warning}")
    print(f"{path}: good; {len(config.providers)} providers, {len(config.models)} models, catalog {catalog.version}")
