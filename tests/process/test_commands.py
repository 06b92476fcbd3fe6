"""What the program says to a person whose gateway is not there, not right, or without any model."""

import asyncio
from pathlib import Path

from tests.process.sites import SECONDS, TICK, command, site, start


async def test_no_gateway(tmp_path: Path) -> None:
    """One line each that says how to start one, and status 1; no traceback."""
    where = site(tmp_path, "http://127.0.0.1:9", tcp=True)

    answers = await asyncio.gather(
        command(where, "health", "--timeout", "1"),
        command(where, "chat", "hello", POLYROUTE_KEY=where.key),
        command(where, "chat", "hello"),
    )

    assert [1, 1, 1] == [status for status, _, _ in answers]
    assert "not serving" in answers[0][1]
    assert "polyroute up" in answers[1][2]
    assert "POLYROUTE_KEY" in answers[2][2]
    assert not [problems for _, _, problems in answers if "Traceback" in problems]


async def test_config_check(tmp_path: Path) -> None:
    """A good file is called good; a bad one is refused with every fault and what was probably meant."""
    where = site(tmp_path, "http://127.0.0.1:9")
    good = where.config.read_text()
    bad = tmp_path / "bad.yaml"
    bad.write_text(good.replace("providers:", "provders:").replace("drain_grace: 5", "drain_grace: -5"))

    (status, out, _), (refused, _, problems) = await asyncio.gather(
        command(where, "config", "check"),
        command(where, "config", "check", "--config", str(bad), config=False),
    )

    assert 0 == status
    assert "good; 1 providers, 1 models" in out
    assert 1 == refused
    assert "provders: unknown key, did you mean 'providers'?" in problems
    assert "mesh.drain_grace" in problems
    assert "Traceback" not in problems


async def test_up_with_settings_that_no_vendor_takes(tmp_path: Path) -> None:
    """Refused as `config check` refuses them, before anything is made."""
    where = site(tmp_path, "http://127.0.0.1:9", providers={"v": {"vendor": "openai_compatible", "keys": ["k"]}})

    (checked, _, said), (started, out, problems) = await asyncio.gather(
        command(where, "config", "check"), command(where, "up")
    )

    assert (1, 1) == (checked, started)
    assert "providers.v" in said
    assert said == problems
    assert "" == out
    assert not [*where.data.glob("*.db*")]


async def test_up_without_any_model(tmp_path: Path) -> None:
    """Neither the extra nor a vendor's key: it starts all the same, and says in one line how to add either."""
    where = site(tmp_path, "http://127.0.0.1:9", providers={}, models={})
    absent = tmp_path / "absent"
    absent.mkdir()
    # a finder that has never heard of the runtime stands for an installation without the extra
    (absent / "sitecustomize.py").write_text(
        "import importlib.util\n"
        "found = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name == 'xllamacpp' else found(name, *rest)\n"
    )
    path = ":".join((str(absent), str(Path(__file__).parents[2] / "services"), str(Path(__file__).parents[2] / "gen")))

    gateway = await start(where, "up", PYTHONPATH=path)
    try:
        async with asyncio.timeout(SECONDS):
            while "polyroute[local]" not in gateway.log.read_text():
                assert gateway.process.returncode is None, gateway.log.read_text()
                await asyncio.sleep(TICK)
        await asyncio.sleep(0.2)
        said = gateway.log.read_text()
        alive = gateway.process.returncode is None
    finally:
        await gateway.stop()

    (line,) = [line for line in said.splitlines() if 'pip install "polyroute[local]"' in line]
    assert "OPENAI_API_KEY" in line
    assert alive
    assert 0 == gateway.process.returncode
