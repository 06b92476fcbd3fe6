"""The metrics role behind each kind of channel, with its real database."""

from collections.abc import AsyncGenerator
from pathlib import Path

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from polyroute.api.errors.v1 import errors_pb2 as errors
from polyroute.api.metrics.v1 import metrics_pb2 as pb
from polyroute.api.metrics.v1 import metrics_pb2_grpc
from polyroute.mesh.errors import MeshError, from_rpc
from polyroute.mesh.node import Service
from polyroute.metrics.config import MetricsConfig
from polyroute.metrics.wiring import assembled
from tests.rpc.conftest import Link
from tests.unit.metrics.records import DAY, NOON, attempt, call

TIMEOUT = 5.0


@pytest.fixture
async def metrics(link: Link, tmp_path: Path) -> AsyncGenerator[metrics_pb2_grpc.MetricsServiceStub]:
    """A stub of a running metrics role."""
    config = MetricsConfig(stats_interval=0.05)
    async with assembled(config, data_dir=tmp_path / "data") as service:
        channel = await link("metrics", Service(metrics_pb2_grpc.add_MetricsServiceServicer_to_server, service))
        yield metrics_pb2_grpc.MetricsServiceStub(channel)


async def append(metrics: metrics_pb2_grpc.MetricsServiceStub, *records: pb.CallRecord) -> int:
    return (await metrics.Append(pb.AppendRequest(records=records), timeout=TIMEOUT)).stored


def refusal(error: grpc.aio.AioRpcError) -> tuple[MeshError, str]:
    refused = from_rpc(error)
    return refused, refused.violations[0][0] if refused.violations else ""


async def test_append_and_list(metrics: metrics_pb2_grpc.MetricsServiceStub) -> None:
    """What was appended is listed, newest first and unchanged; repeating it stores nothing."""
    first = await append(metrics, call("a"), call("b", at=NOON + 1))
    second = await append(metrics, call("b", at=NOON + 1), call("c", at=NOON + 2))
    listed = await metrics.ListCalls(pb.ListCallsRequest(), timeout=TIMEOUT)

    assert (2, 1) == (first, second)
    assert [call("c", at=NOON + 2), call("b", at=NOON + 1), call("a")] == list(listed.records)
    assert "" == listed.next_page_token


async def test_list_by_page_project_and_call(metrics: metrics_pb2_grpc.MetricsServiceStub) -> None:
    """Pages follow each other; a project or one call can be asked for."""
    await append(metrics, *(call(str(number), at=NOON + number) for number in range(3)))
    await append(metrics, call("other", at=NOON - 1, caller={"project_id": "p2"}))
    one = await metrics.ListCalls(pb.ListCallsRequest(page_size=3), timeout=TIMEOUT)
    two = await metrics.ListCalls(pb.ListCallsRequest(page_size=3, page_token=one.next_page_token), timeout=TIMEOUT)
    project = await metrics.ListCalls(pb.ListCallsRequest(project_id="p2"), timeout=TIMEOUT)
    single = await metrics.ListCalls(pb.ListCallsRequest(request_id="1"), timeout=TIMEOUT)

    assert [["2", "1", "0"], ["other"], ["other"], ["1"]] == [
        [record.request_id for record in page.records] for page in (one, two, project, single)
    ]
    assert "" == two.next_page_token


@pytest.mark.parametrize("token", ["nonsense", "1.", "1.22.33", "9" * 30 + ".11", "-1.11", "1.1"])
async def test_page_tokens_are_ours(metrics: metrics_pb2_grpc.MetricsServiceStub, token: str) -> None:
    """A token that no page gave is the caller's mistake."""
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await metrics.ListCalls(pb.ListCallsRequest(page_token=token), timeout=TIMEOUT)
    refused, field = refusal(failed.value)

    assert (errors.REASON_INVALID_REQUEST, "page_token") == (refused.reason, field)


@pytest.mark.parametrize("kind", ["unix", "tcp"], indirect=True)  # rules are checked for other processes
async def test_append_refuses_what_cannot_be_stored(metrics: metrics_pb2_grpc.MetricsServiceStub) -> None:
    """A record without a name, or from no year that can be stored, is named; nothing of its batch is stored."""
    impossible = call("b")
    impossible.start_time.seconds = -62_000_000_000
    fields = []
    for record in (call(""), impossible):
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await append(metrics, call("a"), record)
        refused, field = refusal(failed.value)
        assert errors.REASON_INVALID_REQUEST == refused.reason
        fields.append(field)

    assert ["records[1].request_id", "records[1].start_time"] == fields
    assert not (await metrics.ListCalls(pb.ListCallsRequest(), timeout=TIMEOUT)).records


async def test_usage(metrics: metrics_pb2_grpc.MetricsServiceStub) -> None:
    """Calls are added up by day and model within the time asked for; days are written as dates."""
    await append(
        metrics,
        call("a", model="m1"),
        call("b", model="m1", at=NOON + 1, outcome=pb.OUTCOME_FAILED, cost_nanos=None),
        call("c", model="m2", at=NOON + DAY),
        call("d", model="m2", at=NOON + 9 * DAY),
    )
    answer = await metrics.QueryUsage(
        pb.QueryUsageRequest(
            start_time=Timestamp(seconds=NOON),
            end_time=Timestamp(seconds=NOON + 9 * DAY),
            group_by=[pb.USAGE_DIMENSION_DAY, pb.USAGE_DIMENSION_MODEL],
        ),
        timeout=TIMEOUT,
    )
    days = [Timestamp(seconds=NOON + later).ToDatetime().date().isoformat() for later in (0, DAY)]
    one = pb.UsageRow(
        values=[days[0], "m1"], calls=2, failed_calls=1, unpriced_calls=1, cost_nanos=1500, charged_nanos=1500
    )
    one.usage.input_tokens, one.usage.cache_read_tokens, one.usage.cache_write_tokens = 20, 8, 4
    one.usage.output_tokens, one.usage.reasoning_tokens = 50, 12
    two = pb.UsageRow(values=[days[1], "m2"], calls=1, cost_nanos=1500, charged_nanos=1500, usage=call().usage)

    assert [one, two] == list(answer.rows)


async def test_usage_by_what_callers_say(metrics: metrics_pb2_grpc.MetricsServiceStub) -> None:
    """Hours, kinds of work, workflows and tags by name, of the calls that a filter leaves."""
    await append(
        metrics,
        call("a", workflow_id="etl", node_id="n1", tags={"team": "a", "feature": "x"}),
        call("b", workflow_id="etl", node_id="n1", tags={"team": "a"}, at=NOON + 60),
        call("c", workflow_id="etl", node_id="n2", tags={"feature": "x"}, at=NOON + 3600),
        call("d", workflow_id="other"),
    )
    answer = await metrics.QueryUsage(
        pb.QueryUsageRequest(
            group_by=[
                pb.USAGE_DIMENSION_HOUR,
                pb.USAGE_DIMENSION_TAG,
                pb.USAGE_DIMENSION_NODE,
                pb.USAGE_DIMENSION_OPERATION,
                pb.USAGE_DIMENSION_TAG,
            ],
            tag_names=["team", "feature"],
            workflow_id="etl",
            start_time=Timestamp(seconds=NOON),
        ),
        timeout=TIMEOUT,
    )
    twelve, one = (Timestamp(seconds=NOON + later).ToDatetime().strftime("%Y-%m-%dT%H:00Z") for later in (0, 3600))

    assert [
        ([twelve, "a", "n1", "chat", ""], 1),
        ([twelve, "a", "n1", "chat", "x"], 1),
        ([one, "", "n2", "chat", "x"], 1),
    ] == [(list(row.values), row.calls) for row in answer.rows]
    assert (NOON, False) == (answer.start_time.seconds, answer.HasField("end_time"))


@pytest.mark.parametrize(("tags", "names"), [(1, 0), (0, 1), (1, 2)])
async def test_each_tag_has_a_name(metrics: metrics_pb2_grpc.MetricsServiceStub, tags: int, names: int) -> None:
    """A tag without a name, or a name without a tag, is the caller's mistake."""
    request = pb.QueryUsageRequest(group_by=[pb.USAGE_DIMENSION_TAG] * tags, tag_names=["team"] * names)
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await metrics.QueryUsage(request, timeout=TIMEOUT)
    refused, field = refusal(failed.value)

    assert (errors.REASON_INVALID_REQUEST, "tag_names") == (refused.reason, field)


async def test_list_by_what_callers_say(metrics: metrics_pb2_grpc.MetricsServiceStub) -> None:
    """Calls of an end user, a workflow, a tag, a key or fault; why each went where it went stays."""
    failed = [attempt("south", fault=errors.FAULT_RATE), attempt("north")]
    kept = call("a", user="ann", workflow_id="etl", tags={"team": "a"}, attempts=failed, policy="p", policy_version="1")
    await append(metrics, kept, call("b", deployment="east", caller={"key_id": "k2"}))
    found = [
        [record.request_id for record in (await metrics.ListCalls(request, timeout=TIMEOUT)).records]
        for request in (
            pb.ListCallsRequest(user="ann"),
            pb.ListCallsRequest(workflow_id="etl", tags={"team": "a"}),
            pb.ListCallsRequest(fault=errors.FAULT_RATE),
            pb.ListCallsRequest(deployment="east"),
            pb.ListCallsRequest(key_id="k2"),
            pb.ListCallsRequest(key_id="k2", user="ann"),
        )
    ]
    listed = (await metrics.ListCalls(pb.ListCallsRequest(user="ann"), timeout=TIMEOUT)).records

    assert [["a"], ["a"], ["a"], ["b"], ["b"], []] == found
    assert [kept] == list(listed)


async def test_usage_of_nothing(metrics: metrics_pb2_grpc.MetricsServiceStub) -> None:
    """Without dimensions there is always one row; with some there is none where there was no call."""
    everything = await metrics.QueryUsage(pb.QueryUsageRequest(), timeout=TIMEOUT)
    by_key = await metrics.QueryUsage(
        pb.QueryUsageRequest(group_by=[pb.USAGE_DIMENSION_KEY], end_time=Timestamp(seconds=2**60)), timeout=TIMEOUT
    )

    assert [0] == [row.calls for row in everything.rows]
    assert not by_key.rows


async def test_watch(metrics: metrics_pb2_grpc.MetricsServiceStub) -> None:
    """A watcher hears at once, and again when an attempt was recorded."""
    now = Timestamp()
    now.GetCurrentTime()
    watch = metrics.WatchStats(pb.WatchStatsRequest(), timeout=TIMEOUT)
    messages = aiter(watch)
    first = await anext(messages)
    await append(metrics, call(at=now.seconds - 5, attempts=[attempt("south", at=now.seconds - 5)]))
    second = await anext(messages)
    watch.cancel()

    assert not first.deployments
    assert second.version > first.version
    assert [("south", 1)] == [(stats.deployment, stats.one_minute.successes) for stats in second.deployments]


async def test_exposition(metrics: metrics_pb2_grpc.MetricsServiceStub) -> None:
    """What was appended can be scraped at once; a record that came twice counts once."""
    await append(metrics, call("a"))
    await append(metrics, call("a"))
    text = (await metrics.GetExposition(pb.GetExpositionRequest(), timeout=TIMEOUT)).text.decode()

    labels = 'operation="chat",model="small-1",provider="vendor",stream="true",outcome="completed",status="2xx"'

    assert f"polyroute_requests_total{{{labels}}} 1" in text.splitlines()
