"""Budgets of callers whose prompts a vendor finds longer than the gateway thought."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from polyroute.api.auth.v1 import admin_pb2, auth_pb2, limits_pb2
from polyroute.api.auth.v1.admin_pb2_grpc import AdminServiceStub
from tests.mesh.gateway import Gateway, deployment, question, running

T = 5.0
COUNTED = 300  # tokens, for a prompt of about half as many by the gateway's estimate
PRICE = {"input": "1", "output": "0"}
COST = COUNTED * 1000  # nano-USD
TEXT = '{"a":1},' * 80


@asynccontextmanager
async def counting() -> AsyncGenerator[str]:
    """A vendor with a tokenizer of its own; its base URL."""

    async def answer(_: web.Request) -> web.Response:
        await asyncio.sleep(0.2)  # so that all calls are under way at once
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "ok"}}
        usage = {"prompt_tokens": COUNTED, "completion_tokens": 1, "total_tokens": COUNTED + 1}
        return web.json_response(
            {"id": "c", "object": "chat.completion", "created": 1, "model": "up", "choices": [choice], "usage": usage}
        )

    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    await runner.cleanup()


async def budgeted(gateway: Gateway, nanos: int) -> dict[str, Any]:
    """A key that may spend so much: headers that present it, and who says what was spent."""
    secret = (gateway.process.config.data_dir / "auth.db.admin").read_text().strip()
    metadata = (("polyroute-admin", secret),)
    admin = AdminServiceStub(gateway.node.channel("auth"))
    made = await gateway.auth().CreateKey(auth_pb2.CreateKeyRequest(name="k"), timeout=T)
    budget = limits_pb2.Budget(scope=made.key.id, period=limits_pb2.PERIOD_TOTAL, amount_nanos=nanos, hard=True)
    await admin.SetBudget(admin_pb2.SetBudgetRequest(budget=budget), timeout=T, metadata=metadata)

    async def state() -> tuple[int, int]:
        request = admin_pb2.ListBudgetsRequest(filter=f'scope = "{made.key.id}"')
        found = (await admin.ListBudgets(request, timeout=T, metadata=metadata)).budgets[0]
        return found.spent_nanos, found.held_nanos

    return {"headers": {"authorization": f"Bearer {made.secret}"}, "state": state}


async def test_many_at_once_do_not_overspend(tmp_path: Path) -> None:
    """What one call showed is held for the others: of twice as many as can be paid, all that can be paid go."""
    async with counting() as url:
        models = {"m": {"deployments": [deployment("v", price=PRICE)]}}
        async with running(tmp_path, {"v": url}, models) as gateway:
            body = question(TEXT, max_tokens=5)
            first = await budgeted(gateway, 10 * COST)
            warm = (await gateway.post(body=body, headers=first["headers"])).status
            tight = await budgeted(gateway, 20 * COST)
            answers = await asyncio.gather(
                *(gateway.post(body=body, headers=tight["headers"]) for _ in range(40)), return_exceptions=False
            )
            async with asyncio.timeout(T):
                while (state := await tight["state"]())[1]:
                    await asyncio.sleep(0.1)

    statuses = [answer.status for answer in answers]
    assert 200 == warm
    assert {200: 20, 429: 20} == {status: statuses.count(status) for status in (200, 429)}
    assert (20 * COST, 0) == state
