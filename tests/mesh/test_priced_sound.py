"""Sound that is charged by its length, under a budget that must not be overrun."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from polyroute.api.auth.v1 import admin_pb2, auth_pb2, limits_pb2
from polyroute.api.auth.v1.admin_pb2_grpc import AdminServiceStub
from polyroute.api.auth.v1.auth_pb2_grpc import AuthServiceStub
from tests.mesh.gateway import SECONDS, Answer, Gateway, deployment, running, whole

pytestmark = pytest.mark.usefixtures("_elsewhere")

SLOW = 100  # bytes a second: a header may say so
HALF_AN_HOUR = 1800 * SLOW
SOUND = (
    b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0"
    + SLOW.to_bytes(4, "little") * 2
    + b"\1\0\x08\0data\xff\xff\xff\xff"
    + b"\0" * HALF_AN_HOUR
)
PRICE = {"input": "0", "output": "0", "other": {"audio_milliseconds": "0.1"}}  # 0.006 USD a minute


async def _heard(request: web.Request) -> web.Response:
    """Written down once every caller has asked, and charged by its length."""
    await request.read()
    await asyncio.sleep(0.5)
    return web.json_response({"text": "so it goes", "usage": {"type": "duration", "seconds": 1800}})


@asynccontextmanager
async def listener() -> AsyncGenerator[str]:
    """A vendor that writes sound down, by its base URL."""
    app = web.Application(client_max_size=2**24)
    app.router.add_post("/v1/audio/transcriptions", _heard)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


async def transcribed(gateway: Gateway, secret: str) -> Answer:
    """Half an hour of sound, to be written down."""
    data = aiohttp.FormData()
    data.add_field("model", "m")
    data.add_field("file", SOUND, filename="talk.wav", content_type="audio/wav")
    headers = {"authorization": f"Bearer {secret}"}
    url = f"{gateway.url}/v1/audio/transcriptions"
    async with gateway.session.post(url, data=data, headers=headers) as response:
        return await whole(response)


async def test_a_hard_budget_holds_for_long_sound(tmp_path: Path) -> None:
    """Calls at once hold what they will cost, 0.18 USD each, so that one dollar pays five of them and no more."""
    models = {"m": {"operations": ["transcription"], "deployments": [deployment("v", price=PRICE)]}}
    async with listener() as url, running(tmp_path, {"v": url}, models) as gateway:
        admin = (("polyroute-admin", (gateway.process.config.data_dir / "auth.db.admin").read_text().strip()),)
        made = await AuthServiceStub(gateway.node.channel("auth")).CreateKey(
            auth_pb2.CreateKeyRequest(name="heard"), timeout=SECONDS
        )
        budget = limits_pb2.Budget(scope=made.key.id, period=limits_pb2.PERIOD_TOTAL, amount_nanos=10**9, hard=True)
        stub = AdminServiceStub(gateway.node.channel("auth"))
        await stub.SetBudget(admin_pb2.SetBudgetRequest(budget=budget), timeout=SECONDS, metadata=admin)

        answers = await asyncio.gather(*(transcribed(gateway, made.secret) for _ in range(15)))

    served = [answer for answer in answers if answer.status == 200]
    assert 5 == len(served), sorted(answer.status for answer in answers)
