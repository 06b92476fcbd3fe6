"""The accounts of this process: those that are configured, those whose keys are found, the embedded model."""

import asyncio
from collections.abc import Mapping

from polyroute.api.chat.v1 import chat_pb2
from polyroute.api.chat.v1.chat_pb2 import Operation
from polyroute.api.providers.v1.providers_pb2 import KnownModel, Provider
from polyroute.mesh.config import ConfigError, suggestion
from polyroute.providers.account import Account, MovingAccount, Place
from polyroute.providers.config import ProviderConfig
from polyroute.providers.local.model import LocalModel
from polyroute.providers.offers import known_models
from polyroute.providers.vendor import Vendor

LOCAL = "local"


class Roster:
    """The accounts, and whoever watches them.

    Attributes:
        accounts: By name, in the order they were configured or found.
        changed: Set, and replaced by a new one, when something about them changes.
    """

    def __init__(self) -> None:
        self.accounts: Mapping[str, Account] = {}
        self.changed = asyncio.Event()
        self._models: dict[str, list[KnownModel]] = {}

    def replace(self, accounts: Mapping[str, Account], models: Mapping[str, list[KnownModel]]) -> None:
        """Puts new accounts in force; running attempts keep the ones they began with."""
        self.accounts = dict(accounts)
        self._models = dict(models)
        self.notify()

    def notify(self) -> None:
        """Tells the watchers that something changed."""
        self.changed.set()
        self.changed = asyncio.Event()

    def providers(self) -> list[Provider]:
        """The accounts in the contract's form."""
        return [
            Provider(
                name=account.name,
                dialects=sorted(set(account.vendor.dialects.values())),
                discovered=account.discovered,
                models=self._models.get(account.name, ()),
                open_ended=account.vendor.name != LOCAL,
                unavailable=account.unavailable,
            )
            for account in self.accounts.values()
        ]


def everyone(
    providers: Mapping[str, ProviderConfig],
    environment: Mapping[str, str],
    vendors: Mapping[str, Vendor],
    *,
    local: LocalModel,
) -> dict[str, Account]:
    """The accounts that are configured and those that are found; the machine's own model where nobody named a vendor.

    Raises:
        ConfigError: As `configured` and `discovered`.
    """
    accounts = configured(providers, vendors, local=local)
    accounts |= discovered(environment, vendors, accounts)
    if not accounts and LOCAL not in providers:
        accounts[LOCAL] = local_account(vendors[LOCAL], local, name=LOCAL, discovered=True)
    return accounts


def configured(
    providers: Mapping[str, ProviderConfig], vendors: Mapping[str, Vendor], *, local: LocalModel | None
) -> dict[str, Account]:
    """The accounts that the configuration names.

    Raises:
        ConfigError: A vendor is unknown, an address or a key is missing.
    """
    accounts: dict[str, Account] = {}
    for name, config in providers.items():
        vendor = vendors.get(config.vendor or name)
        if vendor is None:
            known = [*vendors, "openai_compatible"]
            raise ConfigError(
                f"providers.{name}.vendor: no vendor is called {config.vendor or name!r}"
                f"{suggestion(config.vendor or name, known)}"
            )
        if config.enabled:
            accounts[name] = _account(name, vendor, config, local)
    return accounts


def _account(name: str, vendor: Vendor, config: ProviderConfig, local: LocalModel | None) -> Account:
    if vendor.name == LOCAL:
        if local is None:
            raise ConfigError(f"providers.{name}: this process has no embedded model")
        return local_account(vendor, local, name=name, discovered=True)
    if not (config.base_url or vendor.base_url):
        raise ConfigError(f"providers.{name}.base_url: {vendor.name} has no address of its own: name one")
    keys = tuple(key.get_secret_value().strip() for key in config.keys)
    if not any(keys) and not vendor.keyless:
        raise ConfigError(f"providers.{name}.keys: {vendor.name} needs a key")
    try:
        return Account(name, vendor, base_url=config.base_url, keys=keys, headers=config.headers)
    except ValueError:  # its text may hold the key
        raise ConfigError(
            f"providers.{name}: the address, a key or a header cannot be sent: no port, or no plain text on one line"
        ) from None


def discovered(
    environment: Mapping[str, str], vendors: Mapping[str, Vendor], taken: Mapping[str, Account]
) -> dict[str, Account]:
    """Accounts of vendors whose keys are in the environment and that the configuration does not name.

    Raises:
        ConfigError: A key cannot be one.
    """
    used = {account.vendor.name for account in taken.values()}
    found: dict[str, Account] = {}
    for vendor in vendors.values():
        name = next((name for name in vendor.key_env if environment.get(name, "").strip()), "")
        if not name or vendor.name in used or vendor.name in taken:
            continue
        try:
            found[vendor.name] = Account(vendor.name, vendor, keys=(environment[name].strip(),), discovered=True)
        except ValueError:  # its text may hold the key
            raise ConfigError(f"${name} is not a key: it must be plain text on one line") from None
    return found


def local_account(vendor: Vendor, model: LocalModel, *, name: str, discovered: bool) -> Account:
    """The embedded model as an account."""

    def locate(operation: Operation.ValueType) -> Place | str:
        endpoints = model.status.endpoints
        if endpoints is None:
            return model.state
        embedding = operation == chat_pb2.OPERATION_EMBEDDING
        base = endpoints.embedding_url if embedding else endpoints.base_url
        return Place(f"{base}/v1", endpoints.api_key)

    return MovingAccount(name, vendor, locate, discovered=discovered)


def offered(account: Account) -> list[KnownModel]:
    """The models a found account is known to serve."""
    return known_models(account.vendor.price_book) if account.discovered else []
