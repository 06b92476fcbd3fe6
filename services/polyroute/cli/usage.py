"""`polyroute usage`: asks for sums and for calls, and writes them down."""

import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Protocol

import orjson
from google.protobuf.timestamp_pb2 import Timestamp
from rich.table import Table

from polyroute.api.chat.v1.chat_pb2 import FinishReason, Operation
from polyroute.api.errors.v1.errors_pb2 import Fault, Reason
from polyroute.api.metrics.v1 import metrics_pb2 as pb
from polyroute.api.metrics.v1.metrics_pb2_grpc import MetricsServiceStub
from polyroute.cli import tabular
from polyroute.cli.client import run
from polyroute.cli.config import Config
from polyroute.cli.moments import span
from polyroute.cli.output import show
from polyroute.mesh.node import Node
from polyroute.mesh.roles import ConfigError

SECONDS: Final = 30.0
PAGE: Final = 1000
NANO: Final = 1_000_000_000
DIMENSIONS: Final = {
    name.removeprefix("USAGE_DIMENSION_").lower(): value for name, value in pb.UsageDimension.items() if value
}
TAG: Final = "tag:"
_FIELDS: Final = {
    "account": "account_id",
    "project": "project_id",
    "key": "key_id",
    "model": "model",
    "deployment": "deployment",
    "provider": "provider",
    "user": "user",
    "workflow": "workflow_id",
    "node": "node_id",
}
_FAULTS: Final = {name.removeprefix("FAULT_").lower(): value for name, value in Fault.items() if value}
_SUMS: Final = (
    "calls",
    "failed_calls",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "images",
    "audio_milliseconds",
    "estimated",
    "cost_nanos",
    "unpriced_calls",
    "charged_nanos",
)
_UNITS: Final = _SUMS[2:10]
CALL_COLUMNS: Final = {
    "request_id": str,
    "start_time": str,
    "account_id": str,
    "project_id": str,
    "key_id": str,
    "operation": str,
    "requested_model": str,
    "model": str,
    "deployment": str,
    "provider": str,
    "stream": bool,
    "outcome": str,
    "reason": str,
    "http_status": int,
    "finish_reason": str,
    **dict.fromkeys(_UNITS[:-1], int),
    "estimated": bool,
    "cost_nanos": int,
    "charged_nanos": int,
    "price_version": str,
    "total_microseconds": int,
    "first_token_microseconds": int,
    "overhead_microseconds": int,
    "attempts": int,
    "faults": str,
    "catalog_version": str,
    "policy": str,
    "policy_version": str,
    "user": str,
    "workflow_id": str,
    "node_id": str,
    "tags": str,
}
"""Columns of an export of calls; an unknown cost is empty, several faults stand between spaces, tags are JSON."""


Write = Callable[[Sequence[pb.CallRecord]], None]


class Source(Protocol):
    """Where figures come from."""

    def sums(self, question: pb.QueryUsageRequest) -> Sequence[pb.UsageRow]:
        """The sums that a question asks for."""

    def calls(self, question: pb.ListCallsRequest, write: Write) -> int:
        """Hands calls on, a page at a time, newest first; how many there were."""


class Operator:
    """Everybody's figures, as the metrics role has them.

    Args:
        config: Of the gateway of this machine.
    """

    def __init__(self, config: Config) -> None:
        self._config = config

    def sums(self, question: pb.QueryUsageRequest) -> Sequence[pb.UsageRow]:
        """The sums that a question asks for."""

        async def work(node: Node) -> list[pb.UsageRow]:
            response = await MetricsServiceStub(node.channel("metrics")).QueryUsage(question, timeout=SECONDS)
            return list(response.rows)

        return run(self._config, work)

    def calls(self, question: pb.ListCallsRequest, write: Write) -> int:
        """Hands calls on, a page at a time, newest first; how many there were."""

        async def work(node: Node) -> int:
            count = 0
            async for records in _pages(node, question):
                write(records)
                count += len(records)
            return count

        return run(self._config, work)


def show_usage(
    source: Source,
    by: str,
    since: str,
    wanted: Mapping[str, str] = MappingProxyType({}),
    *,
    form: str = "table",
    out: Path | None = None,
) -> None:
    """Prints sums of calls, tokens and cost, or writes them to a file.

    Args:
        source: Where they come from.
        by: Dimensions, separated by commas; `tag:team` is one.
        since: How far back, such as `7d`.
        wanted: Dimension -> the value that calls must have.
        form: `table` or a format of `tabular`; JSON is one list when it is printed.
        out: The file; None prints. A table in a file is CSV.

    Raises:
        ConfigError: Something of it cannot be asked.
    """
    names = [name.strip() for name in by.split(",") if name.strip()]
    request = _question(names, since, wanted)
    if form != "table":  # before anything is asked
        tabular.check(form, out)
    rows = source.sums(request)
    if form == "table" and out is None:
        _print(names, rows)
    elif form == "json" and out is None:
        listed = [dict(zip((*names, *_SUMS), _flat(row), strict=True)) for row in rows]
        print(orjson.dumps(listed, option=orjson.OPT_INDENT_2).decode())
    else:
        kinds = {**dict.fromkeys(names, str), **dict.fromkeys(_SUMS, int), "estimated": bool}
        with tabular.writing("csv" if form == "table" else form, kinds, out) as write:
            write([_flat(row) for row in rows])


def export_calls(
    source: Source, since: str, wanted: Mapping[str, str] = MappingProxyType({}), *, form: str, out: Path | None
) -> int:
    """Writes single calls down, newest first, a page at a time: memory does not grow with them; how many there were.

    Raises:
        ConfigError: Something of it cannot be asked, or written.
    """
    request = pb.ListCallsRequest(page_size=PAGE)
    _filter(request, since, wanted)
    with tabular.writing(form, CALL_COLUMNS, out) as write:
        return source.calls(request, lambda records: write([_call(record) for record in records]))


async def _pages(node: Node, request: pb.ListCallsRequest) -> AsyncGenerator[Sequence[pb.CallRecord]]:
    stub = MetricsServiceStub(node.channel("metrics"))
    while True:
        page = await stub.ListCalls(request, timeout=SECONDS)
        yield page.records
        request.page_token = page.next_page_token
        if not page.next_page_token:
            return


def _question(names: Iterable[str], since: str, wanted: Mapping[str, str]) -> pb.QueryUsageRequest:
    request = pb.QueryUsageRequest()
    for name in names:
        if name.startswith(TAG) and len(name) > len(TAG):
            request.group_by.append(pb.USAGE_DIMENSION_TAG)
            request.tag_names.append(name.removeprefix(TAG))
        elif name in DIMENSIONS and name != "tag":
            request.group_by.append(DIMENSIONS[name])
        else:
            known = ", ".join("tag:NAME" if known == "tag" else known for known in DIMENSIONS)
            raise ConfigError(f"--by: unknown {name!r} (known: {known})")
    _filter(request, since, wanted)
    return request


def _filter(request: pb.QueryUsageRequest | pb.ListCallsRequest, since: str, wanted: Mapping[str, str]) -> None:
    request.start_time.FromSeconds(int(time.time()) - span(since, "--since"))
    for name, value in wanted.items():
        if name.startswith(TAG):
            request.tags[name.removeprefix(TAG)] = value
        elif name == "fault" and isinstance(request, pb.ListCallsRequest):
            if value not in _FAULTS:
                raise ConfigError(f"--fault: unknown {value!r} (known: {', '.join(_FAULTS)})")
            request.fault = _FAULTS[value]
        else:
            setattr(request, _FIELDS[name], value)


def _print(names: list[str], rows: Iterable[pb.UsageRow]) -> None:
    table = Table(*names, box=None)
    for column in ("calls", "failed", "input", "cached", "output", "reasoning", "USD"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            *row.values,
            f"{row.calls:,}",
            f"{row.failed_calls:,}",
            f"{row.usage.input_tokens + row.usage.cache_write_tokens:,}",
            f"{row.usage.cache_read_tokens:,}",
            f"{row.usage.output_tokens:,}",
            f"{row.usage.reasoning_tokens:,}",
            _dollars(row.charged_nanos) + (f" + {row.unpriced_calls} unpriced" if row.unpriced_calls else ""),
        )
    show(table)


def _dollars(nanos: int) -> str:
    """Exactly; what a float would make of it is not."""
    whole, part = divmod(abs(nanos), NANO)
    return f"{'-' if nanos < 0 else ''}{whole}.{part:09}"


def _flat(row: pb.UsageRow) -> list[Any]:
    units = (getattr(row.usage, name) for name in _UNITS)
    return [*row.values, row.calls, row.failed_calls, *units, row.cost_nanos, row.unpriced_calls, row.charged_nanos]


def _call(record: pb.CallRecord) -> list[Any]:
    """A call in the order of `CALL_COLUMNS`."""
    told: dict[str, Any] = {
        "start_time": _moment(record.start_time),
        "account_id": record.caller.account_id,
        "project_id": record.caller.project_id,
        "key_id": record.caller.key_id,
        "operation": _word(Operation, record.operation),
        "outcome": _word(pb.Outcome, record.outcome),
        "reason": _word(Reason, record.reason) if record.reason else "",
        "finish_reason": _word(FinishReason, record.finish_reason) if record.finish_reason else "",
        "cost_nanos": record.cost_nanos if record.HasField("cost_nanos") else None,
        "charged_nanos": record.charged_nanos if record.HasField("charged_nanos") else None,
        "attempts": len(record.attempts),
        "faults": " ".join(_word(Fault, attempt.fault) for attempt in record.attempts if attempt.fault),
        "tags": orjson.dumps(dict(record.tags), option=orjson.OPT_SORT_KEYS).decode() if record.tags else "",
        **{name: getattr(record.usage, name) for name in _UNITS},
    }
    return [told[name] if name in told else getattr(record, name) for name in CALL_COLUMNS]


def _moment(time: Timestamp) -> str:
    """ISO 8601 in UTC with microseconds."""
    return datetime.fromtimestamp(time.seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{time.nanos // 1000:06}Z"


def _word(enum: Any, number: int) -> str:
    """`OUTCOME_COMPLETED` is `completed`; a number that this version does not know stays one."""
    names = enum.keys()
    prefix = names[0].removesuffix("UNSPECIFIED")
    return enum.Name(number).removeprefix(prefix).lower() if number in enum.values() else str(number)
