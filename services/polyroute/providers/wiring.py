"""Builds the providers role and takes it down."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from polyroute.api.providers.v1 import providers_pb2_grpc
from polyroute.api.providers.v1.providers_pb2 import KnownModel
from polyroute.mesh.background import Background
from polyroute.mesh.node import Node, Service
from polyroute.mesh.roles import ConfigError
from polyroute.mesh.source import Source
from polyroute.providers import roster as rosters
from polyroute.providers.account import Account
from polyroute.providers.carrier import Carriers
from polyroute.providers.config import ProviderConfig, ProvidersConfig
from polyroute.providers.credentials import Signing
from polyroute.providers.grpc_transport import GrpcTransport
from polyroute.providers.local.config import LocalModelConfig
from polyroute.providers.local.model import LocalModel
from polyroute.providers.local.offer import known_models
from polyroute.providers.local.weights import Progress
from polyroute.providers.registry import all_vendors
from polyroute.providers.roster import LOCAL, Roster
from polyroute.providers.sealed import KEPT, KeyFile, SealedKeys
from polyroute.providers.service import ProvidersService
from polyroute.providers.signing.ask import over
from polyroute.providers.signing.signers import Signers
from polyroute.providers.transport import Transport

Load = Callable[[], Mapping[str, ProviderConfig]]

_log = structlog.get_logger("providers")


@asynccontextmanager
async def role(
    node: Node,
    config: ProvidersConfig,
    *,
    load: Load,
    source: Source,
    environment: Mapping[str, str],
    progress: Progress | None = None,
    data_dir: Path | None = None,
) -> AsyncGenerator[None]:
    """Serves ProvidersService.

    Args:
        node: The process.
        config: Settings of the role.
        load: Reads the accounts; called here once and again when the source changes.
        source: Where they come from.
        environment: Where keys of vendors may be found.
        progress: Told how far the embedded model's weights are fetched.
        data_dir: Folder of the keys that open the vault, unless `config` names another; without either there is none.
    """
    transport, rpc = Transport(connections=config.connections), GrpcTransport()
    model = LocalModel(config.local, progress=progress)
    roster = Roster()
    forget = model.subscribe(lambda _: roster.notify())
    signers = Signers(environment, Path.home(), over(transport))
    found = environment if config.discover else {}
    vault = _vault(node, config.vault or data_dir)
    if vault is not None:
        load = vault.joined(load, lambda name, given: rosters.check(name, given, found, signing=signers))
    fleet = _Fleet(roster, model, config.local, load, found, signers)
    try:
        await fleet.reload(strict=True)
        register = providers_pb2_grpc.add_ProvidersServiceServicer_to_server
        service = Service(register, ProvidersService(roster, transport, Carriers(transport, rpc)))
        async with node.serve("providers", service), Background() as tasks:
            tasks.start("reload-providers", lambda: source.follow(fleet.reload))
            if vault is not None:
                tasks.start("vendor-keys", lambda: vault.follow(fleet.reload))
            yield
    finally:
        forget()
        await model.stop()
        await rpc.close()
        await transport.close()


def _vault(node: Node, folder: Path | None) -> SealedKeys | None:
    return SealedKeys(KeyFile(folder), node.channel("auth"), folder / KEPT) if folder is not None else None


class _Fleet:
    """Keeps the roster at its source."""

    def __init__(
        self,
        roster: Roster,
        model: LocalModel,
        local: LocalModelConfig,
        load: Load,
        environment: Mapping[str, str],
        signing: Signing,
    ) -> None:
        self._signing = signing
        self._roster = roster
        self._local = local
        self._model = model
        self._load = load
        self._environment = environment

    async def reload(self, *, strict: bool = False) -> None:
        """Reads the accounts; a bad source leaves the ones in force, unless it is the first."""
        try:
            accounts = self._accounts(await asyncio.to_thread(self._load))
        except ConfigError as error:
            if strict:
                raise
            _log.warning("providers refused", reason=str(error))
            return
        models = {name: await asyncio.to_thread(rosters.offered, account) for name, account in accounts.items()}
        await self._embedded(accounts, models)
        self._roster.replace(accounts, models)
        _log.info("providers", names=list(accounts))

    def _accounts(self, providers: Mapping[str, ProviderConfig]) -> dict[str, Account]:
        return rosters.everyone(providers, self._environment, all_vendors(), local=self._model, signing=self._signing)

    async def _embedded(self, accounts: Mapping[str, Account], models: dict[str, list[KnownModel]]) -> None:
        """Starts the embedded model when an account is its, and stops it when none is any more."""
        names = [name for name, account in accounts.items() if account.vendor.name == LOCAL]
        for name in names:
            models[name] = known_models(self._local)
        if names:
            await self._model.start()
        else:
            await self._model.stop()
