"""How the deployments of the catalog do just now, without how much anybody calls them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

from polyroute.api.gateway.v1 import usage_pb2 as pb
from polyroute.api.metrics.v1 import metrics_pb2
from polyroute.api.router.v1 import router_pb2

KEPT: Final = 1.0  # s: figures change once a second, and everybody who is signed in may ask as often as they like
SECONDS: Final = 10.0
_PAGE: Final = 1000
_WINDOWS: Final = ("one_minute", "five_minutes", "thirty_minutes")
_FIGURES: Final = ("first_token_milliseconds", "total_milliseconds", "tokens_per_second")


class LiveModels:
    """The live figures of every deployment, asked for once a second at most.

    Args:
        metrics: MetricsService, which has the figures.
        router: RouterService, which has the catalog.
        clock: Seconds.
    """

    def __init__(self, metrics: Any, router: Any, clock: Callable[[], float]) -> None:
        self._metrics = metrics
        self._router = router
        self._clock = clock
        self._asking = asyncio.Lock()
        self._until = float("-inf")
        self._kept: Sequence[pb.LiveDeployment] = ()

    async def all(self) -> Sequence[pb.LiveDeployment]:
        """Every deployment, as it has been lately.

        Raises:
            grpc.aio.AioRpcError: Metrics or the router does not answer.
        """
        async with self._asking:
            if self._clock() >= self._until:
                figures = {one.deployment: one for one in (await self._stats()).deployments}
                self._kept = [_live(one, figures.get(one.deployment)) async for one in self._catalog()]
                self._until = self._clock() + KEPT
            return self._kept

    async def _stats(self) -> metrics_pb2.WatchStatsResponse:
        """What a watch says first: all that there is."""
        watch = self._metrics.WatchStats(metrics_pb2.WatchStatsRequest(), timeout=SECONDS)
        try:
            async for message in watch:
                return message  # type: ignore[no-any-return] # the stub's own message
        finally:
            watch.cancel()
        return metrics_pb2.WatchStatsResponse()

    async def _catalog(self) -> AsyncIterator[router_pb2.ListedPrice]:
        request = router_pb2.ListPricesRequest(page_size=_PAGE)
        while True:
            listed = await self._router.ListPrices(request, timeout=SECONDS)
            for one in listed.prices:
                yield one
            request.page_token = listed.next_page_token
            if not request.page_token:
                return


def _live(listed: router_pb2.ListedPrice, stats: metrics_pb2.DeploymentStats | None) -> pb.LiveDeployment:
    made = pb.LiveDeployment(model=listed.model, deployment=listed.deployment, provider=listed.provider)
    for name in _WINDOWS if stats is not None else ():
        window: metrics_pb2.WindowStats = getattr(stats, name)
        if window.attempts:
            getattr(made, name).CopyFrom(_figures(window))
    return made


def _figures(window: metrics_pb2.WindowStats) -> pb.LiveFigures:
    made = pb.LiveFigures(success_rate=window.successes / window.attempts)
    for name in _FIGURES:
        if window.HasField(name):
            found = getattr(window, name)
            getattr(made, name).CopyFrom(router_pb2.FigurePercentiles(p50=found.p50, p90=found.p90, p99=found.p99))
    return made
