"""Every call leaves one record: who, where, how much, how long, and to the nano-dollar at what price."""

import asyncio
import time

import pytest

from bench.script import Script, marker
from polyroute.api.chat.v1 import chat_pb2
from polyroute.api.errors.v1 import errors_pb2
from polyroute.api.metrics.v1 import metrics_pb2
from polyroute.api.metrics.v1.metrics_pb2 import CallRecord, GetExpositionRequest, ListCallsRequest, QueryUsageRequest
from tests.mesh.conftest import Stage
from tests.mesh.gateway import SECONDS
from tests.mesh.raw import json

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_whole_call(stage: Stage, stream: bool) -> None:
    """Tokens, price, times and names of a call that went well."""
    began = time.time()

    answer = await stage.gateway.chat(f"word {marker(chunks=7, first=40)}" + " x" * 100, stream=stream)
    record = await stage.gateway.recorded(answer)

    assert (metrics_pb2.OUTCOME_COMPLETED, 200, 0) == (record.outcome, record.http_status, record.reason)
    assert ("m", "m", "a/up", "a") == (record.requested_model, record.model, record.deployment, record.provider)
    assert (chat_pb2.OPERATION_CHAT, stream) == (record.operation, record.stream)
    assert chat_pb2.FINISH_REASON_STOP == record.finish_reason
    assert (7, False) == (record.usage.output_tokens, record.usage.estimated)
    assert record.usage.input_tokens > 50
    assert record.usage.input_tokens * 1500 + 7 * 6000 == record.cost_nanos
    assert answer.headers["x-polyroute-catalog"] == record.catalog_version
    assert record.caller.key_prefix == stage.gateway.key[: len(record.caller.key_prefix)]
    assert abs(record.start_time.seconds + record.start_time.nanos / 1e9 - began) < 1
    times(record, at_least=0.04)


def times(record: CallRecord, *, at_least: float) -> None:
    """Overhead <= first token <= total, and the vendor's own delay is not called ours."""
    assert 0 < record.overhead_microseconds <= record.first_token_microseconds <= record.total_microseconds
    assert record.first_token_microseconds >= at_least * 0.99e6  # timers of the loop count whole milliseconds
    assert record.overhead_microseconds < record.first_token_microseconds - at_least * 0.9e6
    attempt = record.attempts[-1]
    assert at_least * 0.99e6 <= attempt.total_microseconds <= record.total_microseconds


async def test_every_bucket_has_its_price(stage: Stage) -> None:
    """Tokens read from a cache cost less, reasoning costs what the answer costs, and no token is counted twice."""
    usage = (
        b'{"prompt_tokens":1000,"completion_tokens":300,"total_tokens":1300,'
        b'"prompt_tokens_details":{"cached_tokens":900},"completion_tokens_details":{"reasoning_tokens":120}}'
    )
    stage.raw.queue(json(b'{"choices":[{"message":{"content":"x"},"finish_reason":"stop"}],"usage":' + usage + b"}"))

    record = await stage.gateway.recorded(await stage.gateway.chat(model="raw"))

    found = record.usage
    assert (100, 900, 180, 120) == (
        found.input_tokens,
        found.cache_read_tokens,
        found.output_tokens,
        found.reasoning_tokens,
    )
    assert 100 * 1500 + 900 * 150 + 300 * 6000 == record.cost_nanos


async def test_a_vendor_that_does_not_count(stage: Stage) -> None:
    """Without the vendor's figures ours stand in, marked as estimated."""
    stage.a.inject(Script(chunks=20, usage=False))

    record = await stage.gateway.recorded(await stage.gateway.chat("word " * 40, stream=True))

    assert record.usage.estimated
    assert 50 <= record.usage.input_tokens <= 60
    assert record.usage.output_tokens > 20


async def test_an_unknown_price_is_not_zero(stage: Stage) -> None:
    """A deployment without a price has calls of unknown cost, and they are counted as such."""
    answer = await stage.gateway.chat(model="unpriced")
    record = await stage.gateway.recorded(answer)

    usage = await stage.gateway.metrics().QueryUsage(QueryUsageRequest(model="unpriced"), timeout=SECONDS)

    assert not record.HasField("cost_nanos")
    assert (1, 1, 0) == (usage.rows[0].calls, usage.rows[0].unpriced_calls, usage.rows[0].cost_nanos)


async def test_a_refused_call(stage: Stage) -> None:
    """A call that no deployment was found for is on record, free of charge; one without a key is not."""
    refused = await stage.gateway.chat(model="no-such")
    unknown = await stage.gateway.chat(headers={"authorization": "Bearer pr-" + "B" * 43})

    record = await stage.gateway.recorded(refused)
    listed = await stage.gateway.metrics().ListCalls(
        ListCallsRequest(request_id=unknown.headers["x-request-id"]), timeout=SECONDS
    )

    assert (metrics_pb2.OUTCOME_REFUSED, 404) == (record.outcome, record.http_status)
    assert (errors_pb2.REASON_MODEL_NOT_FOUND, 0, 0) == (record.reason, record.cost_nanos, len(record.attempts))
    assert not listed.records


async def test_usage_adds_up(stage: Stage) -> None:
    """The sums are those of the calls, exactly, and every call is there once."""
    sizes = [1 + number % 9 for number in range(40)]
    answers = await asyncio.gather(
        *(
            stage.gateway.chat(marker(chunks=size), model="three", stream=bool(size % 2), temperature=0.5)
            for size in sizes
        )
    )
    records = [await stage.gateway.recorded(answer) for answer in answers]

    query = QueryUsageRequest(model="three", group_by=[metrics_pb2.USAGE_DIMENSION_DEPLOYMENT])
    usage = await stage.gateway.metrics().QueryUsage(query, timeout=SECONDS)

    (row,) = usage.rows
    assert ["three:a"] == list(row.values)
    assert (len(sizes), 0) == (row.calls, row.failed_calls)
    assert sum(sizes) == row.usage.output_tokens
    assert sum(record.cost_nanos for record in records) == row.cost_nanos
    assert sum(sizes) * 6000 + row.usage.input_tokens * 1500 == row.cost_nanos


async def test_the_callers_own_words_are_in_no_record(stage: Stage) -> None:
    """Neither the prompt nor the answer is written down."""
    secret = "canary-6f1d"
    answer = await stage.gateway.chat(secret)
    await stage.gateway.recorded(answer)

    data = stage.gateway.process.config.data_dir
    held = [path for path in data.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]

    assert [] == held
    assert not [path for path in data.rglob("*") if path.is_file() and stage.gateway.key.encode() in path.read_bytes()]


async def test_names_that_callers_make_up_are_no_labels(stage: Stage) -> None:
    """What a provider is asked for by a name of the caller's is counted, and not under that name."""
    answer = await stage.gateway.chat(model="a/made-up-by-me")
    await stage.gateway.recorded(answer)
    text = (await stage.gateway.metrics().GetExposition(GetExpositionRequest(), timeout=SECONDS)).text.decode()

    assert 200 == answer.status, answer.body
    assert "made-up-by-me" not in text
    assert 'model="other",provider="a"' in text
    assert 'deployment="other",provider="a"' in text
