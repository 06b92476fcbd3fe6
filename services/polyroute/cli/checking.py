"""Whether a configuration can be used."""

import os
from collections.abc import Mapping
from pathlib import Path

from polyroute.cli.config import Config
from polyroute.mesh.roles import ConfigError
from polyroute.providers import roster
from polyroute.providers.account import Account
from polyroute.providers.local.model import LocalModel
from polyroute.providers.local.offer import known_models as embedded
from polyroute.providers.registry import all_vendors
from polyroute.providers.roster import LOCAL, Roster
from polyroute.router.build import build


def accounts_of(config: Config) -> Mapping[str, Account]:
    """The accounts at vendors that a start would have.

    Raises:
        ConfigError: A vendor does not take its settings.
    """
    environment = os.environ if config.provider.discover else {}
    return roster.everyone(config.providers, environment, all_vendors(), local=LocalModel(config.provider.local))


def check(path: Path, config: Config) -> None:
    """Builds what a start would build, without starting anything.

    Raises:
        ConfigError: Something in it cannot be used.
    """
    accounts = accounts_of(config)
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
