"""Builds the auth role and takes it down."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from polyroute.api.auth.v1 import admin_pb2_grpc, auth_pb2_grpc, ledger_pb2_grpc
from polyroute.auth.admin.directory import Directory
from polyroute.auth.admin.journal import Journal
from polyroute.auth.admin.keydesk import KeyDesk
from polyroute.auth.admin.secret import Gate
from polyroute.auth.admin.secret import load_or_create as load_or_create_secret
from polyroute.auth.admin.service import AdminService
from polyroute.auth.admin.treasurer import Treasurer
from polyroute.auth.bootstrap import bootstrap
from polyroute.auth.config import AuthConfig
from polyroute.auth.keyring import Keyring
from polyroute.auth.keys import Digester
from polyroute.auth.money.ledger import Ledger
from polyroute.auth.money.service import LedgerService
from polyroute.auth.pepper import load_or_create
from polyroute.auth.rates.leases import Leases
from polyroute.auth.rates.limits import LocalCounters
from polyroute.auth.revocations import KEPT, RevocationFeed
from polyroute.auth.service import AuthService
from polyroute.auth.store import Store
from polyroute.auth.verdicts import Verdicts
from polyroute.mesh.background import Background
from polyroute.mesh.node import Node, Service


@dataclass(frozen=True, slots=True)
class Auth:
    """The auth role without a server around it."""

    service: AuthService
    ledger_service: LedgerService
    admin_service: AdminService
    ledger: Ledger
    first_secret: str | None
    """Secret of the default key when this start created it."""
    admin_secret: str
    """What administrators present; in a file beside the database."""

    @property
    def services(self) -> tuple[Service, ...]:
        """What the role serves."""
        return (
            Service(auth_pb2_grpc.add_AuthServiceServicer_to_server, self.service),
            Service(ledger_pb2_grpc.add_LedgerServiceServicer_to_server, self.ledger_service),
            Service(admin_pb2_grpc.add_AdminServiceServicer_to_server, self.admin_service),
        )


@asynccontextmanager
async def assembled(config: AuthConfig, *, data_dir: Path) -> AsyncGenerator[Auth]:
    """The auth role without a server: database open, secrets and first key there; closed at the end."""
    database = config.database or data_dir / "auth.db"
    digester = Digester(_pepper_beside(database))
    admin_secret = load_or_create_secret(database.with_name(f"{database.name}.admin"))
    async with Store.open(database, fingerprint=digester.fingerprint) as store:
        first_secret = await bootstrap(store, digester, config)
        feed = RevocationFeed()
        feed.extend((known.revision, known.key_id) for known in await store.latest_revocations(KEPT))
        verdicts = Verdicts(digester, store.find, feed)
        keyring = Keyring(store, digester, feed, verdicts)
        ledger = Ledger(store.database, feed.recall)
        changes = _Changes(keyring, feed)
        directory = Directory(store.database, changes)
        changes.leases = leases = Leases(LocalCounters(), directory.limit)
        journal = Journal(store.database)
        treasurer = Treasurer(store.database, ledger, directory, journal)
        auth = Auth(
            service=AuthService(
                verdicts, keyring, feed, leases, fresh_for=config.fresh_for, usable_for=config.usable_for
            ),
            ledger_service=LedgerService(ledger),
            admin_service=AdminService(Gate(admin_secret), directory, KeyDesk(keyring, journal), treasurer, journal),
            ledger=ledger,
            first_secret=first_secret,
            admin_secret=admin_secret,
        )
        try:
            yield auth
        finally:
            await ledger.close()
            await keyring.close()
            await verdicts.close()


class _Changes:
    """Spreads the news that something of a key, project or account has changed."""

    def __init__(self, keyring: Keyring, feed: RevocationFeed) -> None:
        self._keyring = keyring
        self._feed = feed
        self.leases: Leases | None = None

    def __call__(self, scope: str) -> None:
        if self.leases is not None:
            self.leases.forget(scope)
        self._keyring.scope_changed(scope)
        self._feed.recall(scope)  # what is held under the old rules comes back


@asynccontextmanager
async def role(
    node: Node, config: AuthConfig, *, data_dir: Path, announce: Callable[[str], None]
) -> AsyncGenerator[None]:
    """Serves auth on `node`.

    One process serves a database. Others may write to it without harm, but what they revoke is learnt here only with
    the next revocation of our own.

    Args:
        node: The process to serve in.
        config: What the operator set.
        data_dir: Folder for the database, unless `config` names another place.
        announce: Called with the secret of the default key when this start made it up: the only time it is known.
    """
    async with assembled(config, data_dir=data_dir) as auth, Background() as tasks:
        if auth.first_secret:
            announce(auth.first_secret)
        tasks.start("sweep-ledger", auth.ledger.run)
        async with node.serve("auth", *auth.services):
            yield


def _pepper_beside(database: Path) -> bytes:
    database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return load_or_create(database.with_name(f"{database.name}.pepper"))
