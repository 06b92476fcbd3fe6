"""The catalog follows its file; a bad file changes nothing."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from bench.vendor import Vendor
from tests.mesh.gateway import SECONDS, Gateway, deployment, running


async def until(found: Callable[[], Awaitable[bool]]) -> None:
    """Returns once `found` says yes."""
    async with asyncio.timeout(SECONDS):
        while not await found():
            await asyncio.sleep(0.01)


async def names(gateway: Gateway) -> list[str]:
    """The models that are listed."""
    return [model["id"] for model in (await gateway.get("/v1/models")).json["data"]]


async def test_a_changed_file_is_in_force(tmp_path: Path) -> None:
    """A model that was added answers, one that was removed does not, a call under way is finished as it began."""
    async with Vendor() as vendor, running(tmp_path, {"v": vendor.url}) as gateway:
        before = await gateway.chat()
        slow = asyncio.create_task(gateway.chat("[[chunks=10 gap=40]]", stream=True))
        await until(lambda: _bool(vendor.active == 1))
        gateway.rewrite(models={"n": {"deployments": [deployment("v")]}})
        await until(lambda: _is(gateway, ["n"]))

        added, removed, kept = await gateway.chat(model="n"), await gateway.chat(), await slow

    assert (200, 404, 200) == (added.status, removed.status, kept.status)
    assert b"[DONE]" == kept.events[-1]
    assert before.headers["x-polyroute-catalog"] == kept.headers["x-polyroute-catalog"]
    assert before.headers["x-polyroute-catalog"] != added.headers["x-polyroute-catalog"]


async def test_a_bad_file_changes_nothing(tmp_path: Path) -> None:
    """Broken YAML, an unknown provider, an unknown key: the last good catalog stays; a good file is taken again."""
    async with Vendor() as vendor, running(tmp_path, {"v": vendor.url}) as gateway:
        good = gateway.config.read_text()
        version = (await gateway.chat()).headers["x-polyroute-catalog"]
        kept = []
        for bad in ("models: [", good.replace("provider: v", "provider: nobody"), good + "\nmodells: {}\n", ""):
            gateway.config.write_text(bad)
            gateway.process.sources["router"].wanted.set()
            gateway.process.sources["providers"].wanted.set()
            await asyncio.sleep(0.15)
            kept.append((await gateway.chat()).headers.get("x-polyroute-catalog"))
        gateway.config.write_text(good.replace("m:", "again:"))
        await until(lambda: _is(gateway, ["again"]))

    assert [version] * 3 == kept[:3]


async def test_a_signal_reads_the_file_at_once(tmp_path: Path) -> None:
    """SIGHUP does not wait for the next look at the file."""
    patient = {"reload_interval": 3600}
    async with Vendor() as vendor, running(tmp_path, {"v": vendor.url}, router=patient) as gateway:
        gateway.rewrite(models={"n": {"deployments": [deployment("v")]}})
        await asyncio.sleep(0.2)
        waiting = await names(gateway)
        for source in gateway.process.sources.values():  # what the handler of SIGHUP does
            source.wanted.set()
        await until(lambda: _is(gateway, ["n"]))

    assert ["m"] == waiting


async def test_a_provider_moves(tmp_path: Path) -> None:
    """An account's new address and key are used by the next call."""
    async with Vendor() as old, Vendor() as new, running(tmp_path, {"v": old.url}) as gateway:
        await gateway.chat()
        account = {"vendor": "openai_compatible", "base_url": new.url, "keys": ["sk-new"]}
        gateway.rewrite(providers={"v": account})

        async def moved() -> bool:
            return (await gateway.chat()).status == 200 and new.requests > 0

        await until(moved)
        await gateway.chat()

    assert "Bearer sk-new" == new.seen[-1].headers["authorization"]


async def _is(gateway: Gateway, wanted: list[str]) -> bool:
    return await names(gateway) == wanted


async def _bool(value: bool) -> bool:
    return value
