"""A gateway that everybody may administer, and the commands of somebody who is elsewhere."""

import asyncio
from pathlib import Path

import aiohttp
import yaml

from tests.process.sites import command, ready, site, started


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
