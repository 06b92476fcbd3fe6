"""The operator's commands against a real gateway: why, where to, what if, and back again."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson
import yaml

from bench.gateways import log_tail
from bench.script import Script
from bench.vendor import Vendor
from tests.process.sites import SECONDS, TICK, Site, command, ready, site, started

POLICIES: Final = {"cheap": {"sort": "price"}, "quick": {"sort": "latency"}}
MODELS: Final = {
    "old": {"deployments": [{"provider": "east", "model": "a", "price": {"input": 1, "output": 1}}]},
    "new": {"deployments": [{"provider": "west", "model": "b", "price": {"input": 2, "output": 2}}]},
    "both": {
        "deployments": [
            {"provider": "east", "model": "a", "name": "dear", "price": {"input": 9, "output": 9}},
            {"provider": "west", "model": "b", "name": "fair", "price": {"input": 1, "output": 1}},
        ]
    },
}


def written(tree: dict[str, Any]) -> str:
    """A configuration file; the same content twice is written twice, as people do."""
    return yaml.safe_dump(orjson.loads(orjson.dumps(tree)), sort_keys=False)


@asynccontextmanager
async def gateway(tmp_path: Path, *options: str, **sections: Any) -> AsyncGenerator[tuple[Site, Vendor, Vendor]]:
    """A gateway between its command line and two vendors."""
    async with Vendor() as east, Vendor() as west:
        where = site(tmp_path, east.origin)
        tree = yaml.safe_load(where.config.read_text())
        like = next(iter(tree["providers"].values()))
        providers = {name: {**like, "base_url": one.url} for name, one in (("east", east), ("west", west))}
        tree.update(providers=providers, models=MODELS, aliases={"fast": "old"}, policies=POLICIES, **sections)
        where.config.write_text(written(tree))
        async with started(where, ["up", *options]):
            await ready(where)
            yield where, east, west


async def said(where: Site, *arguments: str) -> str:
    """What a command prints; it must succeed."""
    status, out, problems = await command(where, *arguments)
    assert status == 0, problems
    return out


async def call(session: aiohttp.ClientSession, where: Site, model: str, **more: Any) -> str:
    """One request; gives its id."""
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}], **more}
    async with session.post(
        f"{where.url}/v1/chat/completions", data=orjson.dumps(body), headers=where.headers
    ) as response:
        await response.read()
        return response.headers["x-request-id"]


async def until(where: Site, wanted: str, *arguments: str) -> str:
    """What a command prints once something is in it."""
    deadline = time.monotonic() + SECONDS
    while True:
        status, out, problems = await command(where, *arguments)
        if status == 0 and wanted in out:
            return out
        assert time.monotonic() < deadline, out + problems
        await asyncio.sleep(TICK)


async def test_why_where_and_what_if(tmp_path: Path) -> None:
    """A call is explained with its attempts; a dry run calls nobody; another policy is weighed against what was."""
    schedule = {
        "office": {
            "zone": "Asia/Shanghai",
            "windows": [{"days": "mon-fri", "start": "09:00", "end": "18:00", "policy": "quick"}],
            "otherwise": "cheap",
        }
    }
    dear = tmp_path / "dear.yaml"
    dear.write_text("sort: {by: price, order: desc}\n")
    async with gateway(tmp_path, routing={"schedules": schedule, "policy": "office"}) as (where, east, west):
        async with aiohttp.ClientSession() as session:
            west.inject(Script(status=503))
            failed_over = await call(session, where, "both", provider={"sort": "price"})
            for _ in range(30):
                await call(session, where, "both", provider={"order": ["fair"]})
        calls = east.requests + west.requests
        told, dry, tree, preview, history = await asyncio.gather(
            until(where, "completed", "explain", failed_over),
            said(where, "route", "--model", "both", "--provider", '{"sort": "price"}', "--tokens", "500", "--explain"),
            said(where, "explain", failed_over, "--json"),
            said(where, "policies", "preview", "monday 09:00", "--zone", "Asia/Shanghai"),
            said(where, "catalog", "history"),
        )
        weighed = orjson.loads(await said(where, "simulate", "--policy", str(dear), "--since", "1h", "--json"))
        after = east.requests + west.requests
        unknown = await command(where, "explain", "nobody")

    assert "policy     " in told
    assert "max_price" not in told
    assert [line for line in told.splitlines() if line.split()[:2] == ["1", "fair"]]
    assert [line for line in told.splitlines() if line.split()[:3] == ["2", "dear", "completed"]]
    assert ["fair", "dear"] == orjson.loads(tree)["plan"]
    assert [line.split()[1] for line in dry.splitlines()[1:3]] == ["fair", "dear"]
    assert "policy     quick" in preview
    assert "until      Monday" in preview
    assert "18:00" in preview
    assert "file" in history
    assert 31 == weighed["dear"]["calls"]
    assert calls == after
    assert 1 == unknown[0]
    assert "no decision of call 'nobody' is kept" in unknown[2]


async def test_catalogs_are_applied_and_rolled_back(tmp_path: Path) -> None:
    """Every worker has the new catalog when the command returns; a bad one changes nothing; one command goes back."""
    fresh, bad = tmp_path / "fresh.yaml", tmp_path / "bad.yaml"
    fresh.write_text(written({"models": {**MODELS, "more": MODELS["new"]}, "aliases": {"fast": "more"}}))
    bad.write_text("aliases: {fast: nobody}\n")
    async with gateway(tmp_path, "--workers", "2") as (where, _, _):
        await until(where, "file", "catalog", "history")
        before = where.config.read_text()
        checked = await said(where, "catalog", "check", str(fresh))
        change = await said(where, "catalog", "diff", str(fresh))
        applied = await said(where, "catalog", "apply", str(fresh), "--note", "one more")
        listed = await said(where, "models")
        refused = await command(where, "catalog", "apply", str(bad))
        canary = await said(where, "catalog", "alias", "fast", "old=90", "new=10")
        split = await said(where, "route", "--model", "fast", "--explain")
        back = await said(where, "catalog", "rollback")
        again = await said(where, "route", "--model", "fast", "--explain")
        first = await said(where, "catalog", "rollback", "1")
        history = await said(where, "catalog", "history")
        after = where.config.read_text()

    assert "good;" in checked
    assert "+  more:" in change
    assert "number 2: in force" in applied
    assert "more" in listed
    assert 1 == refused[0]
    assert "aliases.fast: unknown model 'nobody'" in refused[2]
    assert "number 3: in force" in canary
    assert "of 100)" in split
    assert "number 4: in force" in back
    assert "fast -> more" in again
    assert "number 5: in force" in first
    assert ["5", "4", "3", "2", "1"] == [line.split()[0] for line in history.splitlines()[1:]]
    assert "rollback to 2" in history
    assert "alias fast: old=90 new=10" in history
    assert "one more" in history
    assert yaml.safe_load(before) == yaml.safe_load(after)


async def test_a_canary_rolls_back_by_itself(tmp_path: Path) -> None:
    """The new model fails: the alias is the old one again, and log, status and history say why."""
    rollout = {"to": "new", "steps": [50, 100], "every": "1h", "min_calls": 5, "guards": {"error_rate": 0.2}}
    led = {"fast": {"targets": "old", "rollout": rollout}}
    async with gateway(tmp_path, router={"rollout_interval": 0.3, "max_attempts": 1}) as (where, _, west):
        west.script = Script(status=500)
        catalog = tmp_path / "led.yaml"
        router = {"rollout_interval": 0.3, "max_attempts": 1}
        catalog.write_text(written({"models": MODELS, "aliases": led, "policies": POLICIES, "router": router}))
        await said(where, "catalog", "apply", str(catalog))
        await until(where, "50 %", "catalog", "status")
        async with aiohttp.ClientSession() as session:
            for _ in range(40):
                await call(session, where, "fast")
        status = await until(where, "rolled back", "catalog", "status")
        history = await said(where, "catalog", "history")
        route = await said(where, "route", "--model", "fast", "--json")

    assert "error_rate is" in status
    assert "rolled back from new: error_rate is" in history
    assert "old" == orjson.loads(route)["decision"]["resolved_model"]
    assert "rollout rolled back" in log_tail(tmp_path)
