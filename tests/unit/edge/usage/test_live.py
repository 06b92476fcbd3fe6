"""Live figures, as people are shown them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from polyroute.api.metrics.v1.metrics_pb2 import DeploymentStats, Percentiles, WatchStatsResponse, WindowStats
from polyroute.api.router.v1.router_pb2 import ListedPrice, ListPricesRequest, ListPricesResponse
from polyroute.edge.usage.live import KEPT, LiveModels


class Watch:
    """A watch that says one thing, and then nothing."""

    def __init__(self, message: WatchStatsResponse) -> None:
        self._message = message
        self.cancelled = False

    async def __aiter__(self) -> AsyncIterator[WatchStatsResponse]:
        yield self._message
        await asyncio.Event().wait()

    def cancel(self) -> bool:
        """Nobody listens any more."""
        self.cancelled = True
        return True


class Roles:
    """Metrics, with figures of `a` and of what is in no catalog; and the router, with `a` and `b` in two pages."""

    def __init__(self) -> None:
        spread = Percentiles(p50=1, p90=2, p99=3, count=4)
        window = WindowStats(attempts=4, successes=3, total_milliseconds=spread)
        stats = [DeploymentStats(deployment=name, thirty_minutes=window) for name in ("a", "secret")]
        self._message = WatchStatsResponse(version=1, deployments=stats)
        self.watches: list[Watch] = []

    def WatchStats(self, request: Any, timeout: float) -> Watch:
        """A watch."""
        self.watches.append(Watch(self._message))
        return self.watches[-1]

    async def ListPrices(self, request: ListPricesRequest, **_: Any) -> ListPricesResponse:
        """A page of the catalog."""
        name = request.page_token or "a"
        listed = ListedPrice(model="m", deployment=name, provider=f"p-{name}")
        return ListPricesResponse(prices=[listed], next_page_token="b" if name == "a" else "")


@pytest.fixture
def now() -> list[float]:
    """The time, to be moved."""
    return [0.0]


@pytest.fixture
def roles() -> Roles:
    """See `Roles`."""
    return Roles()


@pytest.fixture
def models(roles: Roles, now: list[float]) -> LiveModels:
    """What is asked."""
    return LiveModels(roles, roles, lambda: now[0])


async def test_figures(models: LiveModels) -> None:
    """Of what is in the catalog, tried or not; no counts."""
    tried, untried = await models.all()

    assert ("m", "a", "p-a", 0.75) == (tried.model, tried.deployment, tried.provider, tried.thirty_minutes.success_rate)
    assert (1, 2, 3) == tuple(getattr(tried.thirty_minutes.total_milliseconds, name) for name in ("p50", "p90", "p99"))
    assert not tried.HasField("one_minute")
    assert not tried.thirty_minutes.HasField("tokens_per_second")
    assert ("b", False) == (untried.deployment, untried.HasField("thirty_minutes"))


async def test_asked_for_once_a_second(models: LiveModels, roles: Roles, now: list[float]) -> None:
    """However many ask; and no watch stays open."""
    await asyncio.gather(*(models.all() for _ in range(5)))
    before = len(roles.watches)
    now[0] += KEPT
    await models.all()

    assert (1, 2) == (before, len(roles.watches))
    assert all(watch.cancelled for watch in roles.watches)
