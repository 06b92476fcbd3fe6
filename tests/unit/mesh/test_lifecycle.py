"""The life of a process."""

import asyncio
import itertools
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from polyroute.mesh import lifecycle
from polyroute.mesh.lifecycle import Role, running, signalled
from polyroute.mesh.roles import ROLES


class Roles:
    """Roles that note when they start and stop."""

    def __init__(self, broken: str = "") -> None:
        self.log: list[str] = []
        self._broken = broken

    def role(self, name: str) -> Role:
        @asynccontextmanager
        async def run() -> AsyncGenerator[None]:
            if name == self._broken:
                raise OSError(name)
            self.log.append(f"+{name}")
            try:
                yield
            finally:
                await asyncio.sleep(0)
                self.log.append(f"-{name}")

        return run

    def table(self, *names: str) -> dict[str, Role]:
        return {name: self.role(name) for name in names}


STARTED = [f"+{name}" for name in ("auth", "metrics", "providers", "router", "edge")]
STOPPED = [f"-{name}" for name in ("edge", "router", "providers", "metrics", "auth")]


@pytest.mark.parametrize("names", list(itertools.permutations(ROLES))[::17])
async def test_roles_start_in_order_and_stop_in_reverse(names: tuple[str, ...]) -> None:
    """In whatever order they were asked for; the doors open last and close first."""
    roles = Roles()
    async with running(roles.table(*names)):
        roles.log.append("running")

    assert [*STARTED, "running", *STOPPED] == roles.log


async def test_some_roles() -> None:
    """A process may play few of them."""
    roles = Roles()
    async with running(roles.table("router", "auth")):
        pass

    assert ["+auth", "+router", "-router", "-auth"] == roles.log


async def test_role_that_cannot_start_stops_the_others() -> None:
    """Nothing is left behind."""
    roles = Roles(broken="router")
    with pytest.raises(OSError, match="router"):
        async with running(roles.table(*ROLES)):
            pass

    assert ["+auth", "+metrics", "+providers", "-providers", "-metrics", "-auth"] == roles.log


async def test_failure_of_the_body_stops_the_roles() -> None:
    """In order, too."""
    roles = Roles()
    with pytest.raises(ValueError, match="no"):
        async with running(roles.table(*ROLES)):
            raise ValueError("no")

    assert STOPPED == roles.log[5:]


class TestSignals:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    async def test_first_one_is_an_orderly_stop(self, number: signal.Signals) -> None:
        """And is named for the log."""
        waiting = asyncio.create_task(signalled())
        await asyncio.sleep(0)
        os.kill(os.getpid(), number)

        async with asyncio.timeout(2):
            assert number.name == await waiting

    async def test_second_one_hurries(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Some seconds are left, then the process ends, whatever still runs."""
        ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        monkeypatch.setattr(lifecycle, "HURRY", 0.05)
        monkeypatch.setattr("polyroute.mesh.lifecycle.os._exit", ended.set_result)
        waiting = asyncio.create_task(signalled())
        await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGTERM)
        await waiting
        before = ended.done()
        os.kill(os.getpid(), signal.SIGINT)

        async with asyncio.timeout(2):
            assert (False, 1) == (before, await ended)
