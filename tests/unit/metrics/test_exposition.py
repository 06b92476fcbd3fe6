"""The figures of all calls for Prometheus, read back with Prometheus' own parser."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from polyroute.api.errors.v1 import errors_pb2 as errors
from polyroute.api.metrics.v1 import metrics_pb2 as pb
from polyroute.metrics.exposition import DURATIONS, Exposition
from tests.unit.metrics.records import attempt, call

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(*records: pb.CallRecord, max_series: int = 1000) -> Samples:
    exposition = Exposition(max_series=max_series)
    for record in records:
        exposition.observe(record)
    families = text_string_to_metric_families(exposition.text().decode())
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def value(found: Samples, name: str, **labels: str) -> float:
    """The sum of the samples that have at least these labels."""
    return sum(number for (its, have), number in found.items() if its == name and labels.items() <= dict(have).items())


def test_requests() -> None:
    """Calls are counted by what they were and how they ended."""
    found = samples(call(), call(), call(outcome=pb.OUTCOME_FAILED), call(stream=False, outcome=pb.OUTCOME_REFUSED))
    route = {"operation": "chat", "model": "small-1", "provider": "vendor"}
    name = "polyroute_requests_total"

    assert 2 == value(found, name, **route, stream="true", outcome="completed")
    assert 1 == value(found, name, **route, stream="true", outcome="failed")
    assert 1 == value(found, name, **route, stream="false", outcome="refused")


def test_statuses() -> None:
    """By class and not by number; a call over gRPC has none."""
    found = samples(*(call(http_status=status) for status in (200, 204, 429, 503, 0, 7)))
    classes = ("2xx", "4xx", "5xx", "none")

    assert [2, 1, 1, 2] == [value(found, "polyroute_requests_total", status=one) for one in classes]


def test_fallbacks() -> None:
    """Another deployment after one that failed; neither another try of the same one nor one begun beside it."""
    failed = attempt("north", fault=errors.FAULT_SERVER)
    found = samples(
        call(attempts=[failed, attempt("north")]),
        call(attempts=[failed, attempt("south")]),
        call(attempts=[failed, attempt("south", hedged=True)]),
        call(model="large", attempts=[failed, attempt("south", fault=errors.FAULT_SERVER), attempt("west")]),
    )

    assert [1, 2] == [value(found, "polyroute_fallbacks_total", model=model) for model in ("small-1", "large")]


def test_time_between_tokens() -> None:
    """The mean of each streamed answer: 31 tokens, and 1.5 s after the first of them. Others have none."""
    found = samples(call(), call(stream=False), call(usage={"output_tokens": 1}), call(first_token_microseconds=0))
    name = "polyroute_inter_token_latency_seconds"

    assert 1 == value(found, f"{name}_count")
    assert 0.05 == value(found, f"{name}_sum")
    assert [0, 1] == [value(found, f"{name}_bucket", le=edge) for edge in ("0.03", "0.05")]


def test_histograms() -> None:
    """Durations are in seconds; buckets add up from below; a call without content has no first token."""
    found = samples(
        call(total_microseconds=100_000), call(total_microseconds=700_000_000), call(first_token_microseconds=0)
    )
    name = "polyroute_request_duration_seconds"
    edges = [*map(str, DURATIONS), "+Inf"]

    assert [0, 1, 1, 1, 1, 2, *[2] * 8, 3] == [value(found, f"{name}_bucket", le=edge) for edge in edges]
    assert 3 == value(found, f"{name}_count")
    assert 702.101 == value(found, f"{name}_sum")
    assert 2 == value(found, "polyroute_time_to_first_token_seconds_count")
    assert 1.002 == value(found, "polyroute_time_to_first_token_seconds_sum")
    assert 2 == value(found, "polyroute_overhead_seconds_bucket", le="0.001", stream="true")
    assert 0.0014 == value(found, "polyroute_overhead_seconds_sum")


def test_tokens_and_money() -> None:
    """Tokens by bucket; money in dollars to the last nano-dollar; an unknown price is counted as such."""
    found = samples(call(cost_nanos=1), call(cost_nanos=2_000_000_000), call(cost_nanos=None))
    kinds = ("input", "cache_read", "cache_write", "output", "reasoning")

    assert [30, 12, 6, 75, 18] == [value(found, "polyroute_tokens_total", type=kind) for kind in kinds]
    assert 2.000000001 == value(found, "polyroute_cost_usd_total")
    assert 1 == value(found, "polyroute_unpriced_requests_total")


def test_attempts() -> None:
    """Each try counts under its own deployment and fault."""
    found = samples(
        call(
            attempts=[
                attempt("north", fault=errors.FAULT_RATE),
                attempt("south", cancelled=True, fault=errors.FAULT_STALL),
                attempt("west"),
            ]
        )
    )
    labels = [("north", "rate"), ("south", "cancelled"), ("west", "none")]

    assert 3 == value(found, "polyroute_upstream_attempts_total")
    for deployment, fault in labels:
        assert 1 == value(
            found, "polyroute_upstream_attempts_total", deployment=deployment, fault=fault, provider="vendor"
        )


def test_only_models_of_the_catalog_are_named() -> None:
    """What a caller wrote never becomes a label, nor does anything that says who called."""
    found = samples(call(model="", provider="", requested_model="anything at all"))
    names = {name for _, labels in found for name, _ in labels}

    assert 1 == value(found, "polyroute_requests_total", model="other", provider="none")
    assert {
        "operation",
        "model",
        "provider",
        "stream",
        "outcome",
        "status",
        "type",
        "le",
        "deployment",
        "fault",
    } == names


def test_names_that_callers_make_up_are_one() -> None:
    """Where a provider takes any name, the provider is told and the name is not; so there is room for real models."""
    made_up = [
        call(model=f"hub/{n}", provider="hub", passed_on=True, attempts=[attempt(f"hub/{n}", passed_on=True)])
        for n in range(50)
    ]
    found = samples(*made_up, call(), max_series=10)

    assert 50 == value(found, "polyroute_requests_total", model="other", provider="hub")
    assert 50 == value(found, "polyroute_upstream_attempts_total", deployment="other", provider="vendor")
    assert 1 == value(found, "polyroute_requests_total", model="small-1")


def test_series_are_bounded() -> None:
    """Beyond the cap everything is counted together, and nothing is lost."""
    found = samples(
        *(call(model=f"m{number}", attempts=[attempt(f"d{number}")]) for number in range(50)), max_series=10
    )
    models = {dict(labels)["model"] for name, labels in found if name == "polyroute_requests_total"}
    deployments = {dict(labels)["deployment"] for name, labels in found if name == "polyroute_upstream_attempts_total"}

    assert {*(f"m{number}" for number in range(9)), "other"} == models
    assert {*(f"d{number}" for number in range(9)), "other"} == deployments
    assert 50 == value(found, "polyroute_requests_total")
    assert 50 == value(found, "polyroute_upstream_attempts_total")


@pytest.mark.parametrize("name", ['with "quotes"', "back\\slash", "two\nlines", "模型", "a,b={c}"])
def test_any_name(name: str) -> None:
    """Names are quoted so that they come back as they are."""
    assert 1 == value(samples(call(model=name)), "polyroute_requests_total", model=name)


def test_values_that_make_no_sense() -> None:
    """Negative figures and values of a newer contract neither fail nor make a counter fall."""
    record = call(total_microseconds=-5, overhead_microseconds=-1, cost_nanos=-7, usage={"input_tokens": -3})
    record.outcome = 99  # type: ignore[assignment] # what a newer sender may say
    record.operation = 99  # type: ignore[assignment]
    found = samples(record)

    assert 1 == value(found, "polyroute_requests_total", outcome="other", operation="other")
    assert all(number >= 0 for number in found.values())


def test_empty() -> None:
    """Before the first call the text is well-formed too."""
    assert 0 == value(samples(), "polyroute_overhead_seconds_count")
