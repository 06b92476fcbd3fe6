"""Tenants side by side: whatever is shared between calls, nobody ever reads a byte of another's.

Connections, verdicts, remembered plans, sessions and kept answers are shared or look alike on purpose, and calls are
cut off at any moment: what is left of them must not reach the next one. `POLYROUTE_SCORECARD=1` runs it at full size.
"""

import asyncio
import contextlib
import os
import random
import re
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import aiohttp
import orjson
import pytest
from aiohttp import web

from polyroute.api.auth.v1 import admin_pb2, auth_pb2
from polyroute.api.auth.v1.admin_pb2_grpc import AdminServiceStub
from tests.mesh.gateway import SECONDS, Gateway, question, running

FULL: Final = bool(os.environ.get("POLYROUTE_SCORECARD"))
TENANTS, CANCELS = (50, 10_000) if FULL else (10, 150)
WORKERS: Final = 2  # of each tenant
SAME: Final = 5  # idempotency keys, the same of every tenant
TAG: Final = re.compile(rb"<\d+:\w+>")


class Echo:
    """A vendor that answers with what it was asked, over and over, at a pace of its own."""

    def __init__(self) -> None:
        self._chance = random.Random(28)
        self.url = ""

    @asynccontextmanager
    async def serving(self) -> AsyncGenerator["Echo"]:
        """Runs it."""
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._answer)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        asked = orjson.loads(await request.read())
        said = asked["messages"][-1]["content"]
        head = {"id": said, "object": "chat.completion", "created": 1, "model": asked["model"]}
        if not asked.get("stream"):
            await asyncio.sleep(self._chance.uniform(0, 0.02))
            choice = {"index": 0, "message": {"role": "assistant", "content": said * 20}, "finish_reason": "stop"}
            usage = {"prompt_tokens": 1, "completion_tokens": 20, "total_tokens": 21}
            return web.json_response(
                {**head, "choices": [choice], "usage": usage}, dumps=lambda it: orjson.dumps(it).decode()
            )
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for number in range(5):
            finish = "stop" if number == 4 else None
            choice = {"index": 0, "delta": {"content": said * 4}, "finish_reason": finish}
            chunk = {**head, "object": "chat.completion.chunk", "choices": [choice]}
            await response.write(b"data: " + orjson.dumps(chunk) + b"\n\n")
            await asyncio.sleep(self._chance.uniform(0, 0.01))
        await response.write(b"data: [DONE]\n\n")
        return response


class Tenant:
    """Somebody with a project and a key, who knows what may come back."""

    def __init__(self, number: int, key: str, gateway: Gateway, session: aiohttp.ClientSession) -> None:
        self._number, self._key = number, key
        self._gateway, self._session = gateway, session
        self._chance = random.Random(number)
        self.outcomes = Counter[str]()
        self.foreign: list[bytes] = []

    async def begin(self) -> None:
        """A first call, so that a machine that is busy does not find out about all keys at once."""
        await self._call(0)

    async def work(self, cancels: int) -> None:
        """Calls until so many of them were cut off."""
        asked = 0
        while self.outcomes["cancelled"] < cancels:
            asked += 1
            call = asyncio.create_task(self._call(asked))
            if self._chance.random() < 0.6:
                await asyncio.wait([call], timeout=self._chance.uniform(0, 0.05))
                self.outcomes["cancelled"] += call.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await call

    async def _call(self, number: int) -> None:
        headers = {"authorization": f"Bearer {self._key}", "x-polyroute-session": "same"}
        tag = f"<{self._number}:{number}>"
        if number % 4 == 0:
            same = self._chance.randrange(SAME)
            tag, headers["idempotency-key"] = f"<{self._number}:same{same}>", f"same-{same}"
        body = question(tag, stream=number % 2 == 0)
        found = b""
        try:
            async with self._session.post("/v1/chat/completions", json=body, headers=headers) as response:
                self.outcomes[str(response.status)] += 1
                found = "".join(response.headers.values()).encode()
                async for piece in response.content.iter_any():
                    found += piece
        finally:
            self.foreign += [one for one in TAG.findall(found) if one != tag.encode()]
        if response.status == 200:
            assert 21 <= found.count(tag.encode()), "an answer that is not whole"


async def tenants(gateway: Gateway, session: aiohttp.ClientSession) -> AsyncGenerator[Tenant]:
    """Tenants with a project each."""
    secret = (gateway.process.config.data_dir / "auth.db.admin").read_text().strip()
    admin, metadata = AdminServiceStub(gateway.node.channel("auth")), (("polyroute-admin", secret),)
    for number in range(TENANTS):
        account = await admin.CreateAccount(
            admin_pb2.CreateAccountRequest(name=f"a{number}"), timeout=SECONDS, metadata=metadata
        )
        project = await admin.CreateProject(
            admin_pb2.CreateProjectRequest(account_id=account.account.id, name="p"), timeout=SECONDS, metadata=metadata
        )
        request = auth_pb2.CreateKeyRequest(name="k", project_id=project.project.id)
        yield Tenant(number, (await gateway.auth().CreateKey(request, timeout=SECONDS)).secret, gateway, session)


@pytest.mark.timeout(600)
async def test_nobody_reads_a_byte_of_another(tmp_path: Path) -> None:
    """However many calls are cut off on the way, on shared connections, with the same session and idempotency keys."""
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        Echo().serving() as vendor,
        running(tmp_path, {"v": vendor.url}, edge={"max_calls": TENANTS * WORKERS // 2, "turn_seconds": 60}) as gateway,
        aiohttp.ClientSession(gateway.url, connector=connector, timeout=aiohttp.ClientTimeout(total=60)) as session,
    ):
        everybody = [tenant async for tenant in tenants(gateway, session)]
        for one in everybody:
            await one.begin()
        await asyncio.gather(*(one.work(CANCELS // TENANTS) for one in everybody for _ in range(WORKERS)))
    outcomes = sum((one.outcomes for one in everybody), Counter[str]())
    print(f"\n{TENANTS} tenants: {dict(outcomes)}")  # noqa: T201

    assert [] == [one.foreign for one in everybody if one.foreign]
    assert outcomes["cancelled"] >= CANCELS
    assert outcomes["200"] >= CANCELS // 4
    assert set(outcomes) <= {"200", "cancelled", "409"}  # a call with the same idempotency key is still running
