"""The accounts of this process: those that are configured, those whose keys are found, the embedded model."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import replace

from polyroute.api.chat.v1 import chat_pb2
from polyroute.api.chat.v1.chat_pb2 import Operation
from polyroute.api.providers.v1.providers_pb2 import KnownModel, Provider
from polyroute.mesh.config import suggestion
from polyroute.mesh.errors import MeshError
from polyroute.mesh.roles import ConfigError
from polyroute.providers.account import Account, MovingAccount, Place, address, needed
from polyroute.providers.bills import drained, told
from polyroute.providers.config import ProviderConfig
from polyroute.providers.credentials import Signing
from polyroute.providers.local.model import LocalModel
from polyroute.providers.offers import known_models
from polyroute.providers.registry import all_vendors
from polyroute.providers.traits import NOTHING
from polyroute.providers.vendor import Vendor

LOCAL = "local"
REGION = "region"


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
                dialects=sorted({spoken.dialect for spoken in account.vendor.speaks}),
                discovered=account.discovered,
                models=self._models.get(account.name, ()),
                open_ended=account.vendor.name != LOCAL,
                unavailable=account.unavailable,
                billing=told(account.vendor.bills),
                price_book=price_book(account),
                access_version=account.access_version,
            )
            for account in self.accounts.values()
        ]


def everyone(
    providers: Mapping[str, ProviderConfig],
    environment: Mapping[str, str],
    vendors: Mapping[str, Vendor],
    *,
    local: LocalModel,
    signing: Signing | None = None,
) -> dict[str, Account]:
    """The accounts that are configured and those that are found; the machine's own model where nobody named a vendor.

    Raises:
        ConfigError: As `configured` and `discovered`.
    """
    accounts = configured(providers, vendors, local=local, environment=environment, signing=signing)
    accounts |= discovered(environment, vendors, accounts, signing=signing)
    if not accounts and LOCAL not in providers:
        accounts[LOCAL] = local_account(vendors[LOCAL], local, name=LOCAL, discovered=True)
    return accounts


def configured(
    providers: Mapping[str, ProviderConfig],
    vendors: Mapping[str, Vendor],
    *,
    local: LocalModel | None,
    environment: Mapping[str, str] = NOTHING,
    signing: Signing | None = None,
) -> dict[str, Account]:
    """The accounts that the configuration names.

    Args:
        providers: The configuration, by the accounts' names.
        vendors: All there are, by name.
        local: The embedded model; None where there is none.
        environment: Where addresses and settings are looked for that the configuration leaves out.
        signing: Makes signers, for vendors whose requests are signed.

    Raises:
        ConfigError: A vendor is unknown; an address, a setting or a key is missing or wrong.
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
        if config.on_disconnect == "drain":
            vendor = replace(vendor, bills=drained(vendor.bills))
        if config.enabled and vendor.name == LOCAL:
            accounts[name] = _embedded(name, vendor, local)
        elif config.enabled:
            accounts[name] = _account(name, vendor, config, environment, signing)
    return accounts


def check(name: str, config: ProviderConfig, environment: Mapping[str, str], *, signing: Signing | None = None) -> None:
    """Refuses an account that could not be.

    Raises:
        ConfigError: As `configured`.
    """
    configured({name: config}, all_vendors(), local=None, environment=environment, signing=signing)


def _embedded(name: str, vendor: Vendor, local: LocalModel | None) -> Account:
    if local is None:
        raise ConfigError(f"providers.{name}: this process has no embedded model")
    return local_account(vendor, local, name=name, discovered=True)


def _account(
    name: str, vendor: Vendor, config: ProviderConfig, environment: Mapping[str, str], signing: Signing | None
) -> Account:
    base_url = config.base_url or _found(vendor.url_env, environment)
    if not (base_url or vendor.base_url):
        raise ConfigError(f"providers.{name}.base_url: {vendor.name} has no address of its own: name one")
    keys = tuple(key.get_secret_value().strip() for key in config.keys)
    if not any(keys) and not (vendor.keyless or vendor.credential.needless):
        raise ConfigError(f"providers.{name}.keys: {vendor.name} needs a key")
    settings = _settings(vendor, _given(name, vendor, config), environment)
    lacking = next((setting for setting in needed(vendor, base_url) if not settings.get(setting)), "")
    if lacking:
        raise ConfigError(f"providers.{name}.{_where(lacking)}: {vendor.name} needs one")
    try:
        return Account(
            name, vendor, base_url=base_url, keys=keys, headers=config.headers, settings=settings, signing=signing
        )
    except MeshError as error:
        raise ConfigError(f"providers.{name}.keys: {error.message}") from None
    except ValueError:  # its text may hold the key
        raise ConfigError(
            f"providers.{name}: the address, a key or a header cannot be sent: no port, or no plain text on one line"
        ) from None


def _given(name: str, vendor: Vendor, config: ProviderConfig) -> Mapping[str, str]:
    """The settings that the configuration has, each of which the vendor must know."""
    given = config.settings | ({REGION: config.region} if config.region else {})
    known = [*vendor.settings, *([REGION] if vendor.regions else [])]
    for setting in given:
        if setting not in known:
            hint = suggestion(setting, known)
            raise ConfigError(f"providers.{name}.{_where(setting)}: {vendor.name} has no such setting{hint}")
    if config.region and REGION not in vendor.settings and config.region not in vendor.regions:
        hint = suggestion(config.region, list(vendor.regions))
        raise ConfigError(f"providers.{name}.region: {vendor.name} is not in {config.region!r}{hint}")
    return given


def _where(setting: str) -> str:
    return setting if setting == REGION else f"settings.{setting}"


def _settings(vendor: Vendor, given: Mapping[str, str], environment: Mapping[str, str]) -> Mapping[str, str]:
    """What the address and the paths of an account hold: as given, else from the environment, else the vendor's."""
    defaults = {name: _found(one.env, environment) or one.default for name, one in vendor.settings.items()}
    return {name: value for name, value in {**defaults, **given}.items() if value}


def _found(names: Iterable[str], environment: Mapping[str, str]) -> str:
    """What the first of some environment variables holds that holds anything."""
    return next((value for name in names if (value := environment.get(name, "").strip())), "")


def discovered(
    environment: Mapping[str, str],
    vendors: Mapping[str, Vendor],
    taken: Mapping[str, Account],
    *,
    signing: Signing | None = None,
) -> dict[str, Account]:
    """Accounts of vendors whose keys are in the environment and that the configuration does not name.

    A vendor whose address or settings are not there as well is left out.

    Raises:
        ConfigError: A key cannot be one.
    """
    used = {account.vendor.name for account in taken.values()}
    found: dict[str, Account] = {}
    for vendor in vendors.values():
        if not vendor.discover or vendor.name in used or vendor.name in taken:
            continue
        key, base_url = _found(vendor.key_env, environment), _found(vendor.url_env, environment)
        settings = _settings(vendor, {}, environment)
        homeless = not (base_url or vendor.base_url)
        if not key or homeless or any(not settings.get(setting) for setting in needed(vendor, base_url)):
            continue
        try:
            found[vendor.name] = Account(
                vendor.name,
                vendor,
                base_url=base_url,
                keys=(key,),
                settings=settings,
                signing=signing,
                discovered=True,
            )
        except (ValueError, MeshError):  # its text may hold the key
            name = next(name for name in vendor.key_env if environment.get(name, "").strip())
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


def price_book(account: Account) -> str:
    """The account's name in the price lists, those of its region; empty when they do not have it."""
    vendor = account.vendor
    if vendor.own_models:
        return ""  # its models go by names of the account's own: one that a list has may be another model
    for region, book in vendor.price_books.items():
        if account.base_url == address(vendor, vendor.regions[region], NOTHING):
            return book
    return vendor.price_book


def offered(account: Account) -> list[KnownModel]:
    """The models a found account is known to serve."""
    vendor = account.vendor
    if not account.discovered or vendor.own_models:
        return []
    return known_models(vendor.price_book, vendor.dialects.keys())
