"""Builds the auth role and takes it down."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from polyroute.api.auth.v1 import auth_pb2_grpc
from polyroute.auth.bootstrap import bootstrap
from polyroute.auth.config import AuthConfig
from polyroute.auth.keyring import Keyring
from polyroute.auth.keys import Digester
from polyroute.auth.pepper import load_or_create
from polyroute.auth.revocations import KEPT, RevocationFeed
from polyroute.auth.service import AuthService
from polyroute.auth.store import Store
from polyroute.auth.verdicts import Verdicts
from polyroute.mesh.node import Node, Service


@dataclass(frozen=True, slots=True)
class Auth:
    """The auth role without a server around it."""

    service: AuthService
    first_secret: str | None
    """Secret of the default key when this start created it."""


@asynccontextmanager
async def assembled(config: AuthConfig, *, data_dir: Path) -> AsyncGenerator[Auth]:
    """The auth role without a server: database open, first key there, revocations loaded; closed at the end."""
    database = config.database or data_dir / "auth.db"
    digester = Digester(_pepper_beside(database))
    async with Store.open(database, fingerprint=digester.fingerprint) as store:
        first_secret = await bootstrap(store, digester, config)
        feed = RevocationFeed()
        feed.extend((known.revision, known.key_id) for known in await store.latest_revocations(KEPT))
        verdicts = Verdicts(digester, store.find, feed)
        keyring = Keyring(store, digester, feed, verdicts)
        service = AuthService(verdicts, keyring, feed, fresh_for=config.fresh_for, usable_for=config.usable_for)
        try:
            yield Auth(service, first_secret)
        finally:
            await keyring.close()
            await verdicts.close()


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
    async with assembled(config, data_dir=data_dir) as auth:
        if auth.first_secret:
            announce(auth.first_secret)
        async with node.serve("auth", Service(auth_pb2_grpc.add_AuthServiceServicer_to_server, auth.service)):
            yield


def _pepper_beside(database: Path) -> bytes:
    database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return load_or_create(database.with_name(f"{database.name}.pepper"))
