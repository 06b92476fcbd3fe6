"""Whoever is suspended or deleted is refused at the door, at once, and told why."""

import asyncio
import time
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from bench.vendor import Vendor
from polyroute.cli import tenants
from polyroute.cli.desk import Desk
from tests.mesh.gateway import Answer, Gateway, running

BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


async def refused(gateway: Gateway, key: str, status: int) -> tuple[Answer, float]:
    """The first answer of a status, and after how many seconds it came."""
    began = time.monotonic()
    async with asyncio.timeout(5):
        while (answer := await gateway.post(body=BODY, headers={"authorization": f"Bearer {key}"})).status != status:
            await asyncio.sleep(0.01)
    return answer, time.monotonic() - began


async def test_a_suspended_project_and_account_are_refused_within_a_second(tmp_path: Path, capsys: Any) -> None:
    """Over HTTP and by command; resumed they are served, deleted they are strangers."""
    async with Vendor() as vendor, running(tmp_path, {"v": vendor.url}) as gateway:
        config = gateway.process.config
        secret = (config.data_dir / "auth.db.admin").read_text().strip()
        desk = Desk(config, gateway.url, secret)
        bearer = {"authorization": f"Bearer {secret}"}

        async with aiohttp.ClientSession(f"{gateway.url}", headers=bearer) as session:

            async def ask(verb: str, path: str, body: Any = None) -> tuple[int, Any]:
                async with session.request(verb, f"/admin/v1/{path}", json=body) as response:
                    return response.status, orjson.loads(await response.read())

            account = (await ask("POST", "accounts", {"name": "a"}))[1]["account"]["id"]
            project = (await ask("POST", "projects", {"account_id": account, "name": "p"}))[1]["project"]["id"]
            key = (await ask("POST", "keys", {"project_id": project, "name": "k"}))[1]["secret"]
            await refused(gateway, key, 200)
            suspended = await ask("POST", f"accounts/{account}:suspend", {})
            by_account = await refused(gateway, key, 403)
            await ask("POST", f"accounts/{account}:resume", {})
            await refused(gateway, key, 200)
            await asyncio.to_thread(tenants.end_project, desk, "Suspend", project)
            by_project = await refused(gateway, key, 403)
            await asyncio.to_thread(tenants.end_project, desk, "Resume", project)
            await refused(gateway, key, 200)
            deleted = await ask("DELETE", f"accounts/{account}")
            gone = await refused(gateway, key, 401)
            listed = (await ask("GET", "projects"))[1].get("projects", [])

    assert (200, "TENANT_STATE_SUSPENDED") == (suspended[0], suspended[1]["account"]["state"])
    assert ["account_suspended", "project_suspended"] == [
        answer.json["error"]["code"] for answer, _ in (by_account, by_project)
    ]
    assert all(seconds < 1 for _, seconds in (by_account, by_project, gone))
    assert (200, "TENANT_STATE_DELETED") == (deleted[0], deleted[1]["account"]["state"])
    assert project not in {one["id"] for one in listed}
    assert "suspended" in capsys.readouterr().out
