"""Call records for tests: one plausible call, and whatever of it a test wants different."""

from typing import Any

from polyroute.api.auth.v1.auth_pb2 import Caller
from polyroute.api.chat.v1 import chat_pb2 as chat
from polyroute.api.metrics.v1 import metrics_pb2 as pb

NOON = 1_790_000_000 - 1_790_000_000 % 86_400 + 43_200  # s; 12:00 UTC of some day
DAY = 86_400


def attempt(deployment: str = "north", *, at: float = NOON, **fields: Any) -> pb.AttemptRecord:
    """A try that began at `at` and took two seconds, half a second to the first of 31 tokens."""
    values: dict[str, Any] = {
        "deployment": deployment,
        "provider": "vendor",
        "upstream_status": 200,
        "first_token_microseconds": 500_000,
        "total_microseconds": 2_000_000,
        "output_tokens": 31,
    } | fields
    record = pb.AttemptRecord(**values)
    record.start_time.FromNanoseconds(round(at * 1e9))
    return record


def call(request_id: str = "call-1", *, at: float = NOON, **fields: Any) -> pb.CallRecord:
    """A streamed call that began at `at` and completed at the first try."""
    values: dict[str, Any] = {
        "request_id": request_id,
        "caller": Caller(account_id="acc", project_id="prj", key_id="key", key_prefix="pr-abc", key_name="laptop"),
        "operation": chat.OPERATION_CHAT,
        "requested_model": "fast",
        "model": "small-1",
        "deployment": "north",
        "provider": "vendor",
        "stream": True,
        "outcome": pb.OUTCOME_COMPLETED,
        "http_status": 200,
        "usage": chat.Usage(
            input_tokens=10, cache_read_tokens=4, cache_write_tokens=2, output_tokens=25, reasoning_tokens=6
        ),
        "cost_nanos": 1500,
        "price_version": "p1",
        "total_microseconds": 2_001_000,
        "first_token_microseconds": 501_000,
        "overhead_microseconds": 700,
        "attempts": [attempt(at=at)],
        "catalog_version": "c1",
        "user": "u-1",
        "tags": {"team": "search"},
        "finish_reason": chat.FINISH_REASON_STOP,
    } | fields
    values.setdefault("charged_nanos", values["cost_nanos"])
    record = pb.CallRecord(**{name: value for name, value in values.items() if value is not None})
    record.start_time.FromNanoseconds(round(at * 1e9))
    return record
