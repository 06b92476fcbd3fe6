"""A backup that is made while calls go on: what comes back has each call's charge exactly once."""

import asyncio
import itertools
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

import pytest

from bench.vendor import Vendor
from polyroute.api.auth.v1 import admin_pb2, auth_pb2, limits_pb2
from polyroute.api.auth.v1.admin_pb2_grpc import AdminServiceStub
from polyroute.api.metrics.v1.metrics_pb2 import ListCallsRequest
from polyroute.cli import backups
from tests.mesh.gateway import SECONDS, Gateway, deployment, question, running

CALLERS: Final = 4  # at once
SLOW: Final = 0.4  # seconds that the copy of each file takes at least: several deliveries of records and charges
MODELS: Final = {"m": {"deployments": [deployment("v")]}}
PAGE: Final = 1000


async def admin(gateway: Gateway, name: str, request: Any) -> Any:
    """A request of the administrator's."""
    secret = (gateway.process.config.data_dir / "auth.db.admin").read_text().strip()
    stub = AdminServiceStub(gateway.node.channel("auth"))
    return await getattr(stub, name)(request, timeout=SECONDS, metadata=(("polyroute-admin", secret),))


async def bounded(gateway: Gateway) -> str:
    """The secret of a key with a hard budget."""
    made = await gateway.auth().CreateKey(auth_pb2.CreateKeyRequest(name="bounded"), timeout=SECONDS)
    budget = limits_pb2.Budget(scope=made.key.id, period=limits_pb2.PERIOD_TOTAL, amount_nanos=10**12, hard=True)
    await admin(gateway, "SetBudget", admin_pb2.SetBudgetRequest(budget=budget))
    return str(made.secret)


async def calling(gateway: Gateway, secret: str) -> None:
    """Asks without a pause."""
    for _ in itertools.count():
        answer = await gateway.post(body=question(), headers={"authorization": f"Bearer {secret}"})
        assert 200 == answer.status, answer.body


async def recorded(gateway: Gateway) -> set[str]:
    """The ids of all recorded calls."""
    request, found = ListCallsRequest(page_size=PAGE), set[str]()
    while True:
        page = await gateway.metrics().ListCalls(request, timeout=SECONDS)
        found |= {record.request_id for record in page.records}
        request.page_token = page.next_page_token
        if not page.next_page_token:
            return found


async def charged(gateway: Gateway) -> Counter[str]:
    """How many charges each call has."""
    request, found = admin_pb2.ListEntriesRequest(filter='kind = "settle"', page_size=PAGE), Counter[str]()
    while True:
        page = await admin(gateway, "ListEntries", request)
        found.update(entry.request_id for entry in page.entries)
        request.page_token = page.next_page_token
        if not page.next_page_token:
            return found


async def settled(gateway: Gateway) -> tuple[set[str], Counter[str]]:
    """Records and charges, once no more of them arrive."""
    before, since = 0, time.monotonic()
    async with asyncio.timeout(4 * SECONDS):
        while time.monotonic() - since < 2.0:
            calls, charges = await recorded(gateway), await charged(gateway)
            if len(calls) + charges.total() != before:
                before, since = len(calls) + charges.total(), time.monotonic()
            await asyncio.sleep(0.1)
    return calls, charges


async def test_every_recorded_call_is_charged_once_after_a_restore(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a budget and without one; beyond them are at most charges of calls that ended while spools were read."""
    copy = backups._copied

    def slowly(path: Path, target: Path) -> Path:
        time.sleep(SLOW)
        return copy(path, target)

    monkeypatch.setattr(backups, "_copied", slowly)
    (tmp_path / "old").mkdir()
    async with Vendor() as vendor:
        async with running(tmp_path / "old", {"v": vendor.url}, MODELS) as gateway:
            callers = [
                asyncio.create_task(calling(gateway, secret))
                for secret in [gateway.key, await bounded(gateway)] * (CALLERS // 2)
            ]
            await asyncio.sleep(2 * SLOW)
            await asyncio.to_thread(backups.backup, gateway.process.config, tmp_path / "all.tar.gz")
            for caller in callers:
                caller.cancel()
            ended = await asyncio.gather(*callers, return_exceptions=True)
            everything, _ = await settled(gateway)
        (tmp_path / "new" / "data").mkdir(parents=True)
        restored = gateway.process.config.model_copy(update={"data_dir": tmp_path / "new" / "data"})
        backups.restore(restored, tmp_path / "all.tar.gz")
        async with running(tmp_path / "new", {"v": vendor.url}, MODELS) as again:
            calls, charges = await settled(again)
            audit = await admin(again, "AuditLedger", admin_pb2.AuditLedgerRequest())

    assert {asyncio.CancelledError} == {type(one) for one in ended}, ended
    assert {1} == set(charges.values())
    assert set() == calls - charges.keys()
    assert len(charges.keys() - calls) < len(calls) / 20
    assert 0 < len(calls) <= len(everything)
    assert [] == list(audit.findings)
