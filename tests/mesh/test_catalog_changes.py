"""Changes of the catalog are in the log of administrative changes, whoever made them."""

import asyncio
import getpass
from pathlib import Path
from typing import Any

import grpc
import orjson
import pytest

from bench.vendor import Vendor
from polyroute.api.auth.v1 import admin_pb2
from polyroute.api.auth.v1.admin_pb2_grpc import AdminServiceStub
from polyroute.api.auth.v1.people_pb2 import VerifyAuditLogRequest
from polyroute.api.router.v1.router_pb2 import ApplyCatalogRequest
from polyroute.api.router.v1.router_pb2_grpc import RouterServiceStub
from polyroute.cli import catalogs
from tests.mesh.gateway import SECONDS, Gateway, deployment, running

T = 5.0
PRICE = "models.m.deployments.0.price"


async def told(gateway: Gateway, metadata: Any, count: int) -> list[admin_pb2.AuditEvent]:
    """The events of the catalog, oldest first, once there are so many; the log is whole."""
    stub = AdminServiceStub(gateway.node.channel("auth"))
    request = admin_pb2.ListAuditEventsRequest(filter='resource = "catalog"', order_by="create_time")
    async with asyncio.timeout(SECONDS):
        while len(found := (await stub.ListAuditEvents(request, timeout=T, metadata=metadata)).events) < count:
            await asyncio.sleep(0.02)
    checked = await stub.VerifyAuditLog(VerifyAuditLogRequest(), timeout=T, metadata=metadata)
    assert checked.intact
    return list(found)


def catalog(price: str) -> str:
    """One model with a price."""
    priced = deployment("v", price={"input": price, "output": "1"})
    return f"models: {orjson.dumps({'m': {'deployments': [priced]}}).decode()}\n"


async def test_whoever_changes_prices_is_in_the_log(tmp_path: Path) -> None:
    """An administrator, somebody on this machine, and nobody: the file; with the prices before and after."""
    async with Vendor() as vendor, running(tmp_path, {"v": vendor.url}) as gateway:
        secret = (gateway.process.config.data_dir / "auth.db.admin").read_text().strip()
        admin = (("polyroute-admin", secret),)
        router = RouterServiceStub(gateway.node.channel("router"))
        await router.ApplyCatalog(
            ApplyCatalogRequest(text=catalog("2"), author="ann@vm", note="first"), timeout=T, metadata=admin
        )
        for _ in range(2):
            await asyncio.to_thread(catalogs.put, gateway.process.config, catalog("3"), "dearer")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await router.ApplyCatalog(
                ApplyCatalogRequest(text=catalog("9")), timeout=T, metadata=(("polyroute-admin", f"{secret}x"),)
            )
        await told(gateway, admin, 2)
        gateway.rewrite(models={"n": {"deployments": [deployment("v")]}})
        events = await told(gateway, admin, 3)
    states = [(orjson.loads(event.before)["values"], orjson.loads(event.after)["values"]) for event in events]

    assert grpc.StatusCode.UNAUTHENTICATED == refused.value.code()
    assert [("admin", "ApplyCatalog"), ("local", "ApplyCatalog"), ("file", "LoadCatalog")] == [
        (event.actor.partition(":")[0], event.action) for event in events
    ]
    assert f"local:{getpass.getuser()}@" in events[1].actor
    assert ('"2"', '"3"') == (
        states[1][0]["models.m.deployments.0.price.input"],
        states[1][1]["models.m.deployments.0.price.input"],
    )
    assert "models.m.deployments.0.price.output" not in states[1][0]
