"""Figures of RPCs in Prometheus' words."""

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from polyroute.mesh.telemetry import BUCKETS, RpcMetrics


def samples(registry: CollectorRegistry) -> dict[tuple[str, str, str], float]:
    """Value by name, method and code or bucket, as a scraper reads them."""
    text = generate_latest(registry).decode()
    return {
        (sample.name, sample.labels["method"], sample.labels.get("code") or sample.labels.get("le", "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_rpcs_are_counted_by_method_and_code() -> None:
    """Each once."""
    registry = CollectorRegistry()
    metrics = RpcMetrics(registry)
    for code in ("OK", "OK", "UNAVAILABLE"):
        metrics.observe("/a/B", code, 0.001)
    metrics.observe("/a/C", "OK", 0.001)
    found = samples(registry)

    assert [2, 1, 1] == [
        found["polyroute_rpc_handled_total", method, code]
        for method, code in (("/a/B", "OK"), ("/a/B", "UNAVAILABLE"), ("/a/C", "OK"))
    ]


def test_durations_fall_into_buckets() -> None:
    """A bound belongs to its own bucket; buckets are cumulative; the last one has all."""
    registry = CollectorRegistry()
    metrics = RpcMetrics(registry)
    for seconds in (0.0, BUCKETS[0], BUCKETS[0] * 1.01, 10_000.0):
        metrics.observe("/a/B", "OK", seconds)
    found = samples(registry)
    counts = [found["polyroute_rpc_duration_seconds_bucket", "/a/B", str(bound)] for bound in (*BUCKETS, "+Inf")]

    assert [2, *[3] * (len(BUCKETS) - 1), 4] == counts
    assert (4, True) == (
        found["polyroute_rpc_duration_seconds_count", "/a/B", ""],
        found["polyroute_rpc_duration_seconds_sum", "/a/B", ""] > 10_000,
    )


def test_nothing_yet() -> None:
    """A process that has just begun can be scraped."""
    registry = CollectorRegistry()
    RpcMetrics(registry)

    assert {} == samples(registry)
