"""The life of the embedded model, with children that live and die on command."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from polyroute.providers.local import model as module
from polyroute.providers.local.child import ChildError, Endpoints
from polyroute.providers.local.config import LocalModelConfig, cache_folder, runtime_folder
from polyroute.providers.local.download import FetchError
from polyroute.providers.local.model import LocalModel
from polyroute.providers.local.offer import known_models
from polyroute.providers.local.server import Settings
from polyroute.providers.local.status import Phase, Status
from polyroute.providers.local.weights import Progress, Weights


class FakeChild:
    """A child that serves until it is killed or stopped."""

    def __init__(self, endpoints: Endpoints) -> None:
        self.endpoints = endpoints
        self.stopped = False
        self._death: asyncio.Future[ChildError] = asyncio.get_running_loop().create_future()

    def kill(self, code: int = -signal.SIGKILL) -> None:
        self._death.set_result(ChildError("killed", code))

    async def died(self) -> ChildError:
        return await self._death

    async def stop(self) -> None:
        self.stopped = True


class Nursery:
    """Starts children, or fails with what `errors` holds, first to last."""

    def __init__(self) -> None:
        self.children: list[FakeChild] = []
        self.settings: list[Settings] = []
        self.errors: list[Exception] = []

    async def spawn(self, settings: Settings, *, seconds: float) -> FakeChild:
        self.settings.append(settings)
        if self.errors:
            raise self.errors.pop(0)
        number = len(self.children) + 1
        child = FakeChild(Endpoints(f"http://chat-{number}", f"http://embed-{number}", settings["api_key"], number))
        self.children.append(child)
        return child


class Clock:
    """Time that stands still unless moved."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.001)
    monkeypatch.setattr(module, "FIRST_DELAY", 0.001)


@pytest.fixture
def config(tmp_path: Path) -> LocalModelConfig:
    return LocalModelConfig(cache=tmp_path / "cache", runtime=tmp_path / "run")


async def weights_there(weights: Weights) -> Path:
    return Path("/cache") / weights.file


def make(config: LocalModelConfig, nursery: Nursery, clock: Clock | None = None) -> LocalModel:
    return LocalModel(
        config, weights=weights_there, spawn=nursery.spawn, installed=lambda: True, clock=clock or Clock()
    )


@asynccontextmanager
async def started(model: LocalModel) -> AsyncIterator[list[str]]:
    """Runs the model and collects its states."""
    states: list[str] = []
    model.subscribe(lambda status: states.append(str(status)))
    await model.start()
    try:
        yield states
    finally:
        await model.stop()


async def test_ready_model_has_addresses_and_a_key_of_its_own(config: LocalModelConfig) -> None:
    """Loading, ready, stopped; the key is new for every child."""
    nursery = Nursery()
    model = make(config, nursery)
    async with started(model) as states:
        await model.wait_for(Phase.READY)
        ready = (model.base_url, model.embedding_url, model.api_key)

    assert ready == ("http://chat-1", "http://embed-1", nursery.settings[0]["api_key"])
    assert len(nursery.settings[0]["api_key"]) >= 32
    assert states == ["loading", "ready", "stopped"]
    assert nursery.children[0].stopped
    assert model.base_url is None


async def test_absent_extra_is_a_state_with_a_hint(config: LocalModelConfig) -> None:
    """Nothing is started and nothing fails."""
    model = LocalModel(config, installed=lambda: False)
    async with started(model):
        state = model.state

    assert state.startswith("absent: ")
    assert 'pip install "polyroute[local]"' in state


async def test_killed_child_is_replaced(config: LocalModelConfig) -> None:
    """A crash is told, and then there is another child with another key."""
    nursery = Nursery()
    model = make(config, nursery)
    async with started(model) as states:
        await model.wait_for(Phase.READY)
        nursery.children[0].kill()
        await model.wait_for(Phase.FAILED)
        await model.wait_for(Phase.READY)
        pid = model.status.endpoints.pid if model.status.endpoints else 0

    assert pid == 2
    assert states == ["loading", "ready", "failed: killed", "loading", "ready", "stopped"]
    assert nursery.settings[0]["api_key"] != nursery.settings[1]["api_key"]


async def test_child_that_cannot_run_here_is_not_tried_again(config: LocalModelConfig) -> None:
    """An illegal instruction stays one; the state says so and the model can still be stopped."""
    nursery = Nursery()
    nursery.errors = [ChildError("killed by SIGILL", -signal.SIGILL)]
    model = make(config, nursery)
    async with started(model):
        await model.wait_for(Phase.FAILED)
        for _ in range(20):
            await asyncio.sleep(0.001)
        state = model.state

    assert state == "failed: killed by SIGILL"
    assert len(nursery.settings) == 1


async def test_failed_fetch_is_tried_again(config: LocalModelConfig) -> None:
    """The network may come back."""
    nursery, tries = Nursery(), 0

    async def weights(wanted: Weights) -> Path:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise FetchError("could not fetch: no network")
        return Path("/cache") / wanted.file

    model = LocalModel(config, weights=weights, spawn=nursery.spawn, installed=lambda: True)
    async with started(model) as states:
        await model.wait_for(Phase.READY)

    assert "failed: could not fetch: no network" in states


async def test_error_that_no_one_thought_of_is_not_fatal(config: LocalModelConfig) -> None:
    """Its text stays in the log."""
    nursery = Nursery()
    nursery.errors = [KeyError("secret")]
    model = make(config, nursery)
    async with started(model) as states:
        await model.wait_for(Phase.READY)

    assert "failed: internal error; see the log" in states


async def test_delays_grow_until_a_child_has_served_for_a_while(
    config: LocalModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Doubling up to a bound, and from the start again after half a minute of service."""
    delays: list[float] = []
    clock, nursery = Clock(), Nursery()
    nursery.errors = [ChildError("no") for _ in range(4)]
    monkeypatch.setattr(module, "FIRST_DELAY", 0.001)
    monkeypatch.setattr(module, "LONGEST_DELAY", 0.004)
    model = make(config, nursery, clock)
    failed = model._failed

    def note(error: Exception, delay: float) -> None:
        delays.append(delay)
        failed(error, delay)

    monkeypatch.setattr(model, "_failed", note)
    async with started(model):
        await model.wait_for(Phase.READY)
        clock.now += module.STABLE_SECONDS
        nursery.children[0].kill()
        await model.wait_for(Phase.FAILED)

    assert delays == [0.001, 0.002, 0.004, 0.004, 0.001]


async def test_two_share_one_child(config: LocalModelConfig) -> None:
    """The second starts nothing and has the first one's addresses."""
    nursery = Nursery()
    first, second = make(config, nursery), make(config, nursery)
    async with started(first):
        await first.wait_for(Phase.READY)
        async with started(second):
            shared = await second.wait_for(Phase.READY)
            owners = (first.owner, second.owner)

    assert shared.endpoints == nursery.children[0].endpoints
    assert owners == (True, False)
    assert len(nursery.children) == 1


async def test_second_takes_over_when_the_first_stops(config: LocalModelConfig) -> None:
    """With a child of its own; the old address is not used meanwhile."""
    nursery = Nursery()
    first, second = make(config, nursery), make(config, nursery)
    async with started(second) as states:
        await second.wait_for(Phase.READY)
        await first.start()
        await first.wait_for(Phase.READY)
        await second.stop()
        await first.wait_for(Phase.LOADING)
        taken = await first.wait_for(Phase.READY)
        owner = first.owner
        await first.stop()

    assert states[-1] == "stopped"
    assert taken.endpoints == nursery.children[1].endpoints
    assert owner


async def test_followers_learn_of_a_replaced_child(config: LocalModelConfig) -> None:
    """They see the owner's failure and then the new address."""
    nursery = Nursery()
    first, second = make(config, nursery), make(config, nursery)
    async with started(first):
        await first.wait_for(Phase.READY)
        async with started(second):
            await second.wait_for(Phase.READY)
            nursery.children[0].kill()
            while second.status.endpoints != nursery.children[-1].endpoints or len(nursery.children) < 2:
                await asyncio.sleep(0.001)
            base_url = second.base_url

    assert base_url == "http://chat-2"


async def test_folder_that_cannot_be_used_is_a_state(config: LocalModelConfig, tmp_path: Path) -> None:
    """A wrong mode is told, not raised."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run").chmod(0o755)
    model = make(config, Nursery())
    async with started(model):
        status = await model.wait_for(Phase.FAILED)

    assert "closed to others" in status.detail


async def test_progress_makes_the_state_fetching(config: LocalModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state says it once, the callback is told every step."""
    steps: list[tuple[str, int, int]] = []

    class FetchingCache:
        def __init__(self, folder: Path, *, fetch: object, progress: Progress) -> None:
            self.progress = progress

        async def ensure(self, weights: Weights) -> Path:
            self.progress(f"downloading {weights.name}", 1, 2)
            return Path("/cache") / weights.file

    monkeypatch.setattr(module, "Cache", FetchingCache)
    model = LocalModel(config, spawn=Nursery().spawn, installed=lambda: True, progress=lambda *step: steps.append(step))
    async with started(model) as states:
        await model.wait_for(Phase.READY)

    assert states == ["loading", "fetching", "loading", "ready", "stopped"]
    assert [step[1:] for step in steps] == [(1, 2), (1, 2)]


async def test_start_twice_is_start_once(config: LocalModelConfig) -> None:
    """And stop without start is nothing."""
    nursery = Nursery()
    model = make(config, nursery)
    await model.stop()
    async with started(model):
        await model.start()
        await model.wait_for(Phase.READY)

    assert len(nursery.children) == 1


def test_folders_follow_the_environment() -> None:
    """Our own variable first, then the desktop's convention, then the default."""
    assert cache_folder({"POLYROUTE_CACHE": "/c", "XDG_CACHE_HOME": "/x"}) == Path("/c")
    assert cache_folder({"XDG_CACHE_HOME": "/x"}) == Path("/x/polyroute/models")
    assert cache_folder({}) == Path.home() / ".cache/polyroute/models"
    assert runtime_folder({"XDG_RUNTIME_DIR": "/run/user/1"}) == Path("/run/user/1/polyroute")


def test_offer_does_not_pretend_tools(config: LocalModelConfig) -> None:
    """Two models, free; a call that needs tools is routed elsewhere."""
    chat, embedding = known_models(config)

    assert (chat.id, embedding.id) == ("smollm2-135m-instruct", "all-minilm-l6-v2")
    assert [3, 4, 9] == list(chat.capabilities)
    assert [] == list(embedding.capabilities)
    assert (chat.context_tokens, embedding.context_tokens) == (4096, 512)
    assert chat.HasField("price")


def test_status_reads_as_a_line() -> None:
    """For logs and the console."""
    assert str(Status(Phase.FAILED, "why")) == "failed: why"
    assert str(Status(Phase.READY)) == "ready"
