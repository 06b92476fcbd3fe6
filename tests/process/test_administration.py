"""A gateway that everybody may administer, and the commands of somebody who is elsewhere."""

import asyncio
from pathlib import Path

import aiohttp
import yaml

from bench.vendor import Vendor
from tests.process.sites import SECONDS, TICK, Site, ask, command, ready, site, started


async def test_administration_from_elsewhere(tmp_path: Path) -> None:
    """The setting opens it to others, behind a proxy too; commands need an address and a secret."""
    where = site(tmp_path, "http://127.0.0.1:9")
    tree = yaml.safe_load(where.config.read_text())
    tree["edge"]["http"] |= {"listen": f"0.0.0.0:{where.port}", "admin": True}
    where.config.write_text(yaml.safe_dump(tree))
    empty = tmp_path / "elsewhere"
    elsewhere = ("--address", where.url, "--data-dir", str(empty))

    async with started(where, ["up"]), aiohttp.ClientSession() as session:
        await ready(where)
        secret = (where.data / "auth.db.admin").read_text().strip()
        headers = {"authorization": f"Bearer {secret}", "x-forwarded-for": "203.0.113.7"}
        async with session.get(f"{where.url}/admin/v1/accounts", headers=headers) as response:
            listed = await response.json()
        made, refused, here = await asyncio.gather(
            command(where, "keys", "create", "--name", "far", *elsewhere, config=False, POLYROUTE_ADMIN=secret),
            command(where, "keys", "list", *elsewhere, config=False, POLYROUTE_ADMIN="pa-wrong"),
            command(where, "accounts", "list"),
        )

    assert ["default"] == [account["name"] for account in listed["accounts"]]
    assert (0, True) == (made[0], made[1].startswith("pr-"))
    assert (1, "", "polyroute: the admin secret is not valid\n") == refused
    assert (0, True) == (here[0], "default" in here[1])


async def test_usage_follows_the_ledger(tmp_path: Path) -> None:
    """What one command corrects, another one reports, under what the call was for."""
    async with Vendor() as vendor:
        where = site(tmp_path, vendor.origin)
        async with started(where, ["up"]), aiohttp.ClientSession() as session:
            await ready(where)
            made = await ask(session, where)
            assert made.whole
            async with asyncio.timeout(SECONDS):
                while (await _corrected(where, made.request_id))[0]:  # until its charge has been posted
                    await asyncio.sleep(TICK)
                while "0.000000777" not in (found := await command(where, "usage", "--by", "model"))[1]:
                    await asyncio.sleep(TICK)

    assert 0 == found[0]
    assert "bench-model" in found[1]


async def _corrected(where: Site, call: str) -> tuple[int, str, str]:
    return await command(where, "ledger", "correct", call, "--amount", "0.000000777USD")
