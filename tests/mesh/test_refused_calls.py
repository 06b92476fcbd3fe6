"""Calls that are refused after the router was asked say nothing of its deployments."""

import asyncio
from pathlib import Path

from bench.vendor import Vendor
from polyroute.api.auth.v1 import admin_pb2, auth_pb2, limits_pb2
from polyroute.api.auth.v1.admin_pb2_grpc import AdminServiceStub
from tests.mesh.gateway import question, running

T = 5.0
HEALTH = {"health": True}
OVERDUE = 5.0  # s: a vendor that was silent for so long is taken to hang


async def test_who_cannot_pay_takes_nothing_from_others(tmp_path: Path) -> None:
    """However often that one asks: nothing was sent, so there is nothing that the vendor owes an answer."""
    async with Vendor() as vendor, running(tmp_path, {"v": vendor.url}, router=HEALTH) as gateway:
        secret = (gateway.process.config.data_dir / "auth.db.admin").read_text().strip()
        admin = AdminServiceStub(gateway.node.channel("auth"))
        poor = await gateway.auth().CreateKey(auth_pb2.CreateKeyRequest(name="poor"), timeout=T)
        budget = limits_pb2.Budget(scope=poor.key.id, period=limits_pb2.PERIOD_TOTAL, amount_nanos=1, hard=True)
        request = admin_pb2.SetBudgetRequest(budget=budget)
        await admin.SetBudget(request, timeout=T, metadata=(("polyroute-admin", secret),))
        warm = []
        for _ in range(3):
            warm += [(await gateway.chat()).status for _ in range(10)]
            await asyncio.sleep(1.2)  # until what is usual is worked out again
        headers = {"authorization": f"Bearer {poor.secret}"}
        refused = [(await gateway.post(body=question(), headers=headers)).status for _ in range(12)]
        await asyncio.sleep(OVERDUE)
        after = []
        for _ in range(5):
            after.append((await gateway.chat()).status)
            await asyncio.sleep(0.1)

    assert {200} == set(warm)
    assert {429} == set(refused)
    assert [200] * 5 == after
    assert 35 == vendor.requests
