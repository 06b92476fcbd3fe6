"""Builds the auth role and takes it down."""

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from prometheus_client import Gauge

from polyroute.api.auth.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    admission_pb2_grpc,
    auth_pb2_grpc,
    billing_pb2,
    billing_pb2_grpc,
    changes_pb2_grpc,
    ledger_pb2_grpc,
    people_pb2_grpc,
    tenants_pb2,
    tenants_pb2_grpc,
    vault_pb2_grpc,
)
from polyroute.api.gateway.v1 import usage_pb2
from polyroute.auth.admin.directory import Directory
from polyroute.auth.admin.ends import TenantService
from polyroute.auth.admin.journal import Journal
from polyroute.auth.admin.keydesk import KeyDesk
from polyroute.auth.admin.lifecycle import Lifecycle
from polyroute.auth.admin.secret import load_or_create as load_or_create_secret
from polyroute.auth.admin.service import AdminService
from polyroute.auth.admin.treasurer import Treasurer
from polyroute.auth.bootstrap import bootstrap
from polyroute.auth.changes import ChangeLogService
from polyroute.auth.config import AuthConfig
from polyroute.auth.keyring import Keyring
from polyroute.auth.keys import Digester
from polyroute.auth.money.alerts import Alerts
from polyroute.auth.money.billing.service import BillingService, by_admission
from polyroute.auth.money.bills import Bills
from polyroute.auth.money.codes import Codes
from polyroute.auth.money.desk import Desk
from polyroute.auth.money.figures import BudgetFigures
from polyroute.auth.money.ledger import Ledger
from polyroute.auth.money.plans import Plans
from polyroute.auth.money.service import LedgerService
from polyroute.auth.money.webhook import Webhook
from polyroute.auth.people.admission import Admitted
from polyroute.auth.people.elsewhere import AdmissionService
from polyroute.auth.people.wiring import Reception, reception
from polyroute.auth.pepper import load_or_create
from polyroute.auth.rates.leases import Leases
from polyroute.auth.rates.limits import Counters, LocalCounters
from polyroute.auth.revocations import KEPT, RevocationFeed
from polyroute.auth.service import AuthService
from polyroute.auth.store import Store
from polyroute.auth.verdicts import Verdicts
from polyroute.mesh.background import Background
from polyroute.mesh.config import DatabaseConfig
from polyroute.mesh.database import Location, locate
from polyroute.mesh.node import Node, Service

if TYPE_CHECKING:
    from polyroute.auth.neighbours import Neighbours

ADMIN: Final = admin_pb2.DESCRIPTOR.services_by_name["AdminService"]
BILLING: Final = billing_pb2.DESCRIPTOR.services_by_name["BillingService"]
TENANTS: Final = tenants_pb2.DESCRIPTOR.services_by_name["TenantService"]
USAGE: Final = usage_pb2.DESCRIPTOR.services_by_name["UsageService"]  # which the edge serves


@dataclass(frozen=True, slots=True)
class Auth:
    """The auth role without a server around it."""

    service: AuthService
    ledger_service: LedgerService
    admin_service: Admitted
    billing_service: Admitted
    tenant_service: Admitted
    admission_service: AdmissionService
    change_log_service: ChangeLogService
    reception: Reception
    desk: Desk
    ledger: Ledger
    leases: Leases
    budgets: BudgetFigures
    first_secret: str | None
    """Secret of the default key when this start created it."""
    admin_secret: str
    """What administrators present; in a file beside the database."""
    neighbours: "Neighbours | None"
    """The other auth roles of the same database; None where files are the database, which have one."""

    @property
    def services(self) -> tuple[Service, ...]:
        """What the role serves."""
        return (
            Service(auth_pb2_grpc.add_AuthServiceServicer_to_server, self.service),
            Service(ledger_pb2_grpc.add_LedgerServiceServicer_to_server, self.ledger_service),
            Service(admin_pb2_grpc.add_AdminServiceServicer_to_server, self.admin_service),
            Service(billing_pb2_grpc.add_BillingServiceServicer_to_server, self.billing_service),
            Service(tenants_pb2_grpc.add_TenantServiceServicer_to_server, self.tenant_service),
            Service(admission_pb2_grpc.add_AdmissionServiceServicer_to_server, self.admission_service),
            Service(changes_pb2_grpc.add_ChangeLogServiceServicer_to_server, self.change_log_service),
            Service(people_pb2_grpc.add_PeopleServiceServicer_to_server, self.reception.people_service),
            Service(vault_pb2_grpc.add_VaultServiceServicer_to_server, self.reception.vault_service),
        )


@asynccontextmanager
async def assembled(
    config: AuthConfig, *, data_dir: Path, database: DatabaseConfig | None = None
) -> AsyncGenerator[Auth]:
    """The auth role without a server: database open, secrets and first key there; closed at the end."""
    location = locate("auth", data_dir, own=config.database, shared=database)
    digester = Digester(_pepper_beside(location.path))
    admin_secret = load_or_create_secret(location.path.with_name(f"{location.path.name}.admin"))
    async with Store.open(location, fingerprint=digester.fingerprint) as store, AsyncExitStack() as stack:
        first_secret = await bootstrap(store, digester, config)
        feed = RevocationFeed()
        feed.extend((known.revision, known.key_id) for known in await store.latest_revocations(KEPT))
        verdicts = Verdicts(digester, store.find, feed)
        keyring = Keyring(store, digester, feed, verdicts)
        ledger = Ledger(store.database, feed.recall)
        changes = _Changes(keyring, feed)
        directory = Directory(store.database, changes)
        counters = await stack.enter_async_context(_counting(config.redis.get_secret_value()))
        changes.leases = leases = Leases(counters, directory.limit, directory.common_limits)
        journal = Journal(store.database)
        keydesk = KeyDesk(keyring, journal)
        lifecycle = Lifecycle(ledger, journal, keyring, changes)
        treasurer = Treasurer(store.database, ledger, directory, journal)
        webhook = Webhook(private=config.alerts_to_private_addresses)
        alerts = Alerts(store.database, ledger, digester, webhook.send, webhook.check)
        plans = Plans(store.database, ledger, changes)
        bills, codes = Bills(store.database, ledger), Codes(store.database, ledger)
        desk = Desk(store.database, ledger, bills, codes, plans, alerts, journal, changes)
        front = reception(
            store,
            digester,
            ledger,
            verdicts,
            config,
            admin_secret=admin_secret,
            token_file=location.path.with_name(f"{location.path.name}.tokens"),
            data_dir=data_dir,
        )
        neighbours = _neighbours(location, store, feed, verdicts, leases)
        auth = Auth(
            service=AuthService(
                verdicts,
                keyring,
                feed,
                leases,
                desk=keydesk,
                fresh_for=config.fresh_for,
                usable_for=config.usable_for,
                mark_key=digester.mark_key,
            ),
            ledger_service=LedgerService(ledger),
            admin_service=front.behind(AdminService(directory, keydesk, treasurer, journal, front.staff), ADMIN),
            billing_service=front.behind(BillingService(desk, by_admission), BILLING),
            tenant_service=front.behind(TenantService(lifecycle), TENANTS),
            admission_service=AdmissionService(store.database, front.doorman, (USAGE,)),
            change_log_service=ChangeLogService(store.database),
            reception=front,
            desk=desk,
            ledger=ledger,
            leases=leases,
            budgets=BudgetFigures(store.database, time.time),
            first_secret=first_secret,
            admin_secret=admin_secret,
            neighbours=neighbours,
        )
        try:
            yield auth
        finally:
            await lifecycle.close()
            await leases.close()
            await ledger.close()
            await keyring.close()
            await verdicts.close()


@asynccontextmanager
async def _counting(url: str) -> AsyncGenerator[Counters]:
    """What counts limits: Redis where there is one, else this process."""
    if not url:
        yield LocalCounters()
        return
    from polyroute.auth.rates.shared import RedisCounters, connect  # its library costs a start without it too much

    counters = RedisCounters(connect(url))
    try:
        yield counters
    finally:
        await counters.close()


def _neighbours(
    location: Location, store: Store, feed: RevocationFeed, verdicts: Verdicts, leases: Leases
) -> "Neighbours | None":
    """The other auth roles of the same database, which hear from here what this one's own edges hear."""
    url = location.url
    if url is None:
        return None
    from polyroute.auth.neighbours import Neighbours  # its driver costs a start without it too much

    found = Neighbours(url, store, feed, verdicts, leases.forget, name=uuid4().hex)
    feed.spread = found.spread
    return found


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
    node: Node,
    config: AuthConfig,
    *,
    data_dir: Path,
    announce: Callable[[str], None],
    database: DatabaseConfig | None = None,
) -> AsyncGenerator[None]:
    """Serves auth on `node`.

    One process serves a database of files; any number serve one in PostgreSQL and tell each other what they change.

    Args:
        node: The process to serve in.
        config: What the operator set.
        data_dir: Folder for the database, unless `config` names another place.
        announce: Called with the secret of the default key when this start made it up: the only time it is known.
        database: The database of all services; None means SQLite files.
    """
    async with assembled(config, data_dir=data_dir, database=database) as auth, Background() as tasks:
        if auth.first_secret:
            announce(auth.first_secret)
        tasks.start("sweep-ledger", auth.ledger.run)
        tasks.start("sweep-sessions", auth.reception.sessions.run)
        tasks.start("renew-subscriptions", auth.desk.plans.run)
        tasks.start("send-alerts", auth.desk.alerts.run)
        if auth.neighbours is not None:
            tasks.start("tell-neighbours", auth.neighbours.tell)
            tasks.start("hear-neighbours", auth.neighbours.listen)
        degraded = Gauge("polyroute_limits_degraded", "limits are counted by this process alone", registry=None)
        degraded.set_function(lambda: float(auth.leases.degraded))
        tasks.start("read-budgets", auth.budgets.run)
        for figures in (degraded, auth.budgets):
            node.registry.register(figures)
        try:
            async with node.serve("auth", *auth.services):
                yield
        finally:
            for figures in (degraded, auth.budgets):
                node.registry.unregister(figures)


def _pepper_beside(database: Path) -> bytes:
    database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return load_or_create(database.with_name(f"{database.name}.pepper"))
