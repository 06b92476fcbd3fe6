"""The parent's end of the child process; the children here are one line of shell."""

import asyncio
import json
from pathlib import Path

import pytest

from polyroute.providers.local.child import Child, ChildError
from polyroute.providers.local.server import CHAT_TEMPLATE, SYSTEM_PROMPT, Ready, Settings

SETTINGS = Settings(
    chat_path="/chat",
    chat_name="chat",
    embedding_path="/embedding",
    embedding_name="embedding",
    api_key="secret",
    context_tokens=4096,
    answer_tokens=1024,
    threads=1,
    idle_seconds=600,
)
READY = json.dumps(Ready(base_url="http://a", embedding_url="http://b", port=1, pid=7))
SERVES = f"read settings; echo '{READY}'; "


def shell(script: str) -> list[str]:
    return ["/bin/sh", "-c", script]


def lives(pid: Path) -> bool:
    """Whether the process whose number stands in the file is there."""
    return Path(f"/proc/{pid.read_text(encoding='utf-8').strip()}").exists()


async def test_ready_child_has_endpoints_with_the_key(tmp_path: Path) -> None:
    """Addresses come from the child, the key from us, and the key is not in what may be printed."""
    child = await Child.start(SETTINGS, seconds=5, command=shell(SERVES + "cat"))
    await child.stop()

    assert (child.endpoints.base_url, child.endpoints.embedding_url) == ("http://a", "http://b")
    assert child.endpoints.api_key == "secret"
    assert "secret" not in repr(child.endpoints)


async def test_settings_are_one_line_of_json_on_stdin(tmp_path: Path) -> None:
    """The key is in no argument and no environment variable, which others could see."""
    seen = tmp_path / "seen"
    child = await Child.start(SETTINGS, seconds=5, command=shell(f"head -n1 > {seen}; echo '{READY}'; cat"))
    await child.stop()

    assert dict(SETTINGS) == json.loads(seen.read_bytes())


async def test_child_sees_no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway's environment holds vendors' keys; the child's holds paths."""
    monkeypatch.setenv("VENDOR_API_KEY", "secret")
    seen = tmp_path / "seen"

    child = await Child.start(SETTINGS, seconds=5, command=shell(f"env > {seen}; {SERVES} cat"))
    await child.stop()

    environment = seen.read_text(encoding="utf-8")
    assert "VENDOR_API_KEY" not in environment
    assert "PYTHONPATH=" in environment


async def test_stop_is_the_end_of_stdin(tmp_path: Path) -> None:
    """A child that reads to the end leaves by itself."""
    left = tmp_path / "left"
    child = await Child.start(SETTINGS, seconds=5, command=shell(f"{SERVES} cat; touch {left}"))

    await child.stop()
    await child.stop()

    assert left.exists()


async def test_child_that_dies_while_loading_says_why() -> None:
    """What it wrote last is the reason: nothing of a caller can be in it yet."""
    with pytest.raises(ChildError, match=r"ended with code 3: no such file$"):
        await Child.start(SETTINGS, seconds=5, command=shell("echo first >&2; echo 'no such file' >&2; exit 3"))


async def test_illegal_instruction_is_reported_as_hopeless() -> None:
    """An old CPU is named as the reason, and is not tried again."""
    with pytest.raises(ChildError, match=r"killed by SIGILL, this CPU lacks instructions") as caught:
        await Child.start(SETTINGS, seconds=5, command=shell("kill -ILL $$"))

    assert caught.value.hopeless


async def test_death_while_serving_is_told_without_its_last_words() -> None:
    """A serving child's stderr may hold what callers wrote."""
    child = await Child.start(SETTINGS, seconds=5, command=shell(SERVES + "echo prompt >&2; kill -SEGV $$"))

    error = await child.died()
    await child.stop()

    assert str(error) == "the model's process was killed by SIGSEGV"
    assert not error.hopeless


async def test_child_that_is_never_ready_is_ended(tmp_path: Path) -> None:
    """The wait is bounded and nothing is left behind."""
    pid = tmp_path / "pid"

    with pytest.raises(ChildError, match=r"not ready within 0\.05 seconds"):
        await Child.start(SETTINGS, seconds=0.05, command=shell(f"echo $$ > {pid}; cat > /dev/null"))

    assert not lives(pid)


async def test_much_stderr_does_not_stall_the_child() -> None:
    """A pipe holds 64 KiB; the child may write more before it is ready."""
    script = "head -c 300000 /dev/zero >&2; " + SERVES + "cat"

    child = await Child.start(SETTINGS, seconds=5, command=shell(script))
    await child.stop()


async def test_cancelled_start_leaves_no_child(tmp_path: Path) -> None:
    """A gateway may stop while the model loads."""
    pid = tmp_path / "pid"
    start = Child.start(SETTINGS, seconds=5, command=shell(f"echo $$ > {pid}; cat > /dev/null"))
    task = asyncio.create_task(start)
    while not (pid.exists() and pid.read_text(encoding="utf-8")):
        await asyncio.sleep(0.001)

    task.cancel()
    await asyncio.wait((task,))

    assert task.cancelled()
    assert not lives(pid)


async def test_command_that_is_not_there_is_a_child_error() -> None:
    """Like any other failure to start."""
    with pytest.raises(ChildError, match="cannot be started"):
        await Child.start(SETTINGS, seconds=5, command=["/nowhere/python"])


def test_template_gives_the_system_prompt_once() -> None:
    """The prompt stands in a quoted string of the template, so it must not hold a quote."""
    assert CHAT_TEMPLATE.count(SYSTEM_PROMPT) == 1
    assert "'" not in SYSTEM_PROMPT
