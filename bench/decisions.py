"""What one decision costs: microseconds of CPU, the best of many rounds. `python -m bench.decisions` prints a table.

Each row is a kind of call; the columns are for 10 and 200 candidate deployments. `warm` is a call whose kind has been
seen since the last live figures came in, as nearly every call is; `first` is the first of its kind after that.
"""

import time
from collections.abc import Callable
from typing import Final

from polyroute.api.chat.v1.chat_pb2 import CAPABILITY_TOOLS, OPERATION_CHAT, RequestFacts
from polyroute.api.metrics.v1.metrics_pb2 import DeploymentStats, Percentiles, WatchStatsResponse, WindowStats
from polyroute.api.providers.v1.providers_pb2 import Provider
from polyroute.api.router.v1 import router_pb2 as pb
from polyroute.router.config import CatalogConfig
from polyroute.router.decide import decide
from polyroute.router.figures import stats_from
from polyroute.router.snapshot import CatalogStore

SIZES: Final = (10, 200)
ROUNDS: Final = 40
CALLS: Final = 200
PROVIDERS: Final = 20
KINDS: Final = {
    "default policy": pb.Preferences(),
    "by price": pb.Preferences(
        sort=[pb.SortKey(by=pb.SORT_BY_OUTPUT_PRICE), pb.SortKey(by=pb.SORT_BY_INPUT_PRICE)],
    ),
    "by latency, then throughput, filtered": pb.Preferences(
        sort=[pb.SortKey(by=pb.SORT_BY_LATENCY), pb.SortKey(by=pb.SORT_BY_THROUGHPUT)],
        latency_milliseconds=pb.DoubleRange(max=2000),
        ignore=["p0"],
    ),
}


def store_of(size: int) -> CatalogStore:
    """A model with so many deployments, all of them with live figures."""
    deployments = [
        {
            "provider": f"p{i % PROVIDERS}",
            "model": f"m{i}",
            "price": {"input": f"{100 + i}e-2", "output": 2},
            "context": 8000 + i % 3 * 1000,
            "capabilities": ["tools", "vision"],
        }
        for i in range(size)
    ]
    store = CatalogStore(CatalogConfig.model_validate({"models": {"m": {"deployments": deployments}}}))
    store.offer([Provider(name=f"p{i}") for i in range(PROVIDERS)])
    store.measure(stats_from(WatchStatsResponse(version=1, deployments=[_figures(i) for i in range(size)])))
    return store


def _figures(i: int) -> DeploymentStats:
    latency = Percentiles(p50=100 + i, p90=300 + 7 * i, p99=900 + i, count=100)
    window = WindowStats(attempts=100, successes=99, first_token_milliseconds=latency, tokens_per_second=latency)
    return DeploymentStats(deployment=f"p{i % PROVIDERS}/m{i}", one_minute=window)


def requests_of(preferences: pb.Preferences) -> list[pb.DecideRequest]:
    """Calls with the same wishes and somewhat different prompts."""
    facts = [
        RequestFacts(operation=OPERATION_CHAT, model="m", needs=[CAPABILITY_TOOLS], input_tokens_estimate=300 + i)
        for i in range(CALLS)
    ]
    wishes = preferences if preferences.ListFields() else None
    return [
        pb.DecideRequest(request_id=f"018f-{i}", facts=one, preferences=wishes, sticky_key=f"user-{i}")
        for i, one in enumerate(facts)
    ]


def warm(store: CatalogStore, requests: list[pb.DecideRequest]) -> float:
    """Microseconds of a call of a kind that was seen before."""

    def run() -> None:
        for request in requests:
            decide(request, store.view, 1.0)

    return _best(run) / len(requests)


def first(store: CatalogStore, requests: list[pb.DecideRequest]) -> float:
    """Microseconds of the first call of a kind."""

    def run() -> None:
        store.view.prepared.clear()
        decide(requests[0], store.view, 1.0)

    return _best(run)


def _best(run: Callable[[], None]) -> float:
    run()
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time_ns()
        run()
        best = min(best, (time.process_time_ns() - began) / 1000)
    return best


def main() -> None:
    """Prints the table."""
    stores = {size: store_of(size) for size in SIZES}
    heads = [f"{what} {size}" for what in ("warm", "first") for size in SIZES]
    print(f"{'microseconds of CPU':40}" + "".join(f"{head:>12}" for head in heads))
    for name, preferences in KINDS.items():
        requests = requests_of(preferences)
        cells = [measure(stores[size], requests) for measure in (warm, first) for size in SIZES]
        print(f"{name:40}" + "".join(f"{cell:12.1f}" for cell in cells))


if __name__ == "__main__":
    main()
