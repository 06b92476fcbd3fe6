"""Two auth roles on one PostgreSQL database: what one of them changes, the other knows, and tells its own edges."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import psycopg
import pytest

from polyroute.api.auth.v1 import admin_pb2, auth_pb2, limits_pb2
from polyroute.api.auth.v1.admin_pb2_grpc import AdminServiceStub
from polyroute.api.auth.v1.auth_pb2_grpc import AuthServiceStub
from polyroute.auth import wiring
from polyroute.auth.admin.secret import METADATA_KEY
from polyroute.auth.config import AuthConfig
from polyroute.edge.authorizer import Authorizer
from polyroute.mesh.config import DatabaseConfig, MeshConfig
from polyroute.mesh.errors import MeshError
from polyroute.mesh.node import Node
from tests.databases import opened

T: Final = 10.0
SOON: Final = 1.0  # s, in which a revoked key must be refused everywhere
CUT: Final = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"


@dataclass
class Office:
    """One auth role, and an edge that listens to it."""

    keys: Any
    admin: Any
    edge: Authorizer
    recalled: list[str]

    async def admits(self, secret: str) -> bool:
        """Whether auth itself says that the key is good."""
        try:
            await self.keys.Authorize(auth_pb2.AuthorizeRequest(credential=secret), timeout=T)
        except grpc.aio.AioRpcError:
            return False
        return True

    async def lets_in(self, secret: str) -> bool:
        """Whether its edge lets a call in."""
        try:
            await self.edge.verdict(secret)
        except MeshError:
            return False
        return True


@dataclass
class Pair:
    """Two of them."""

    here: Office
    there: Office
    database: str
    metadata: tuple[tuple[str, str]]

    async def key(self) -> auth_pb2.CreateKeyResponse:
        """A key that both have seen."""
        made: auth_pb2.CreateKeyResponse = await self.here.keys.CreateKey(
            auth_pb2.CreateKeyRequest(name="k"), timeout=T
        )
        for office in (self.here, self.there):
            assert await office.admits(made.secret)
            assert await office.lets_in(made.secret)
        return made


async def until(true: Callable[[], Any], seconds: float = T) -> float:
    """The time after which something is so."""
    clock = asyncio.get_running_loop().time
    began = clock()
    async with asyncio.timeout(seconds):
        while not await true():
            await asyncio.sleep(0.01)
    return clock() - began


@pytest.fixture
async def pair(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncGenerator[Pair]:
    """Both roles, as they are wired."""
    config: DatabaseConfig = opened("postgresql", request)
    offices = []
    async with AsyncExitStack() as stack:
        for name in ("a", "b"):
            node = Node(MeshConfig(drain_delay=0), frozenset({"auth"}), tmp_path / name)
            stack.push_async_callback(node.close)
            role = wiring.role(node, AuthConfig(), data_dir=tmp_path, announce=lambda _: None, database=config)
            await stack.enter_async_context(role)
            recalled: list[str] = []
            keys = AuthServiceStub(node.channel("auth"))
            edge = Authorizer(keys, T, asyncio.get_running_loop().time, recalled=recalled.extend)
            following = asyncio.create_task(edge.follow())
            stack.callback(following.cancel)
            offices.append(Office(keys, AdminServiceStub(node.channel("auth")), edge, recalled))
        await asyncio.sleep(0.3)  # both have begun, and have told that
        secret = (tmp_path / "auth.db.admin").read_text().strip()
        yield Pair(offices[0], offices[1], config.url.get_secret_value(), ((METADATA_KEY, secret),))


async def test_a_key_that_one_revokes_is_refused_by_the_other(pair: Pair) -> None:
    """By the role itself and by the edges that listen to it, within a second."""
    made = await pair.key()

    await pair.here.keys.RevokeKey(auth_pb2.RevokeKeyRequest(key=made.key.id), timeout=T)

    async def refused() -> bool:
        return not await pair.there.admits(made.secret) and not await pair.there.lets_in(made.secret)

    assert await until(refused) < SOON


async def test_a_revocation_is_heard_without_notifications(pair: Pair) -> None:
    """Where the word is lost: the table is looked at all the same."""
    made = await pair.key()
    with psycopg.connect(pair.database, autocommit=True) as connection:
        key = (made.key.id,)
        connection.execute("UPDATE polyroute_auth.keys SET revoked = 1 WHERE id = %s", key)
        connection.execute("INSERT INTO polyroute_auth.revocations (key_id) VALUES (%s)", key)

    async def refused() -> bool:
        return not await pair.there.lets_in(made.secret) and not await pair.here.lets_in(made.secret)

    assert await until(refused) < SOON


async def test_a_limit_that_one_sets_binds_at_the_other(pair: Pair) -> None:
    """The verdict that its edges get next has it; and what they hold under the old rules is called back."""
    made = await pair.key()
    limit = limits_pb2.Limit(scope=made.key.id, kind=limits_pb2.LIMIT_KIND_REQUESTS, amount=7)

    await pair.here.admin.SetLimit(admin_pb2.SetLimitRequest(limit=limit), timeout=T, metadata=pair.metadata)

    async def bound() -> bool:
        return [one.amount for one in (await pair.there.edge.verdict(made.secret)).limits] == [7]

    assert await until(bound) < SOON
    assert made.key.id in pair.there.recalled


async def test_what_was_not_heard_is_looked_at_anew(pair: Pair) -> None:
    """A connection that was cut comes back, and nothing that was kept before is trusted then."""
    made = await pair.key()
    with psycopg.connect(pair.database, autocommit=True) as connection:
        connection.execute("UPDATE polyroute_auth.keys SET models = '[\"m\"]' WHERE id = %s", (made.key.id,))
        cut = connection.execute(CUT).fetchall()

    async def narrowed() -> bool:
        return list((await pair.there.edge.verdict(made.secret)).models) == ["m"]

    assert 2 == len(cut)
    await until(narrowed)
