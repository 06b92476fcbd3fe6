"""The contract's side of metrics: messages into calls of the domain and back."""

import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from datetime import date, timedelta
from typing import Any, Final

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from polyroute.api.errors.v1 import errors_pb2
from polyroute.api.metrics.v1 import metrics_pb2 as pb
from polyroute.api.metrics.v1 import metrics_pb2_grpc
from polyroute.mesh.errors import MeshError
from polyroute.metrics.exposition import Exposition
from polyroute.metrics.feed import StatsFeed
from polyroute.metrics.recorder import Recorder
from polyroute.metrics.rows import microseconds, storable
from polyroute.metrics.store import Dimension, Filter, Place, Store, Sums

DEFAULT_PAGE: Final = 100
LARGEST_PAGE: Final = 1000

_EPOCH: Final = date(1970, 1, 1)
_TOKEN: Final = re.compile(r"(\d{1,18})\.(\d{1,18})")  # a place in the list; both fit into 64 bits

_DIMENSIONS: Final[Mapping[pb.UsageDimension.ValueType, Dimension]] = {
    pb.USAGE_DIMENSION_DAY: Dimension.DAY,
    pb.USAGE_DIMENSION_PROJECT: Dimension.PROJECT,
    pb.USAGE_DIMENSION_KEY: Dimension.KEY,
    pb.USAGE_DIMENSION_MODEL: Dimension.MODEL,
    pb.USAGE_DIMENSION_DEPLOYMENT: Dimension.DEPLOYMENT,
    pb.USAGE_DIMENSION_PROVIDER: Dimension.PROVIDER,
}

Context = grpc.aio.ServicerContext[Any, Any]


class MetricsService(metrics_pb2_grpc.MetricsServiceServicer):
    """Call records and live statistics.

    Args:
        recorder: Takes records in.
        store: Answers questions about them.
        feed: Pushes live statistics.
        exposition: Figures for Prometheus.
    """

    def __init__(self, recorder: Recorder, store: Store, feed: StatsFeed, exposition: Exposition) -> None:
        self._recorder = recorder
        self._store = store
        self._feed = feed
        self._exposition = exposition

    async def Append(self, request: pb.AppendRequest, context: Context) -> pb.AppendResponse:  # noqa: N802
        """Stores records; see the contract."""
        for index, record in enumerate(request.records):
            if not storable(record):
                raise _malformed(f"records[{index}].start_time", "must lie in the years 1970 to 9999")
        return pb.AppendResponse(stored=await self._recorder.append(request.records))

    async def WatchStats(  # noqa: N802
        self, request: pb.WatchStatsRequest, context: Context
    ) -> AsyncGenerator[pb.WatchStatsResponse]:
        """Pushes live statistics; see the contract."""
        async with aclosing(self._feed.watch()) as messages:
            async for message in messages:
                yield message

    async def QueryUsage(self, request: pb.QueryUsageRequest, context: Context) -> pb.QueryUsageResponse:  # noqa: N802
        """Adds calls up; see the contract."""
        wanted = Filter(
            start_us=_moment(request, "start_time"),
            end_us=_moment(request, "end_time"),
            project_id=request.project_id,
            key_id=request.key_id,
            model=request.model,
        )
        dimensions = [_DIMENSIONS[dimension] for dimension in request.group_by]
        rows = await self._store.usage(wanted, dimensions)
        return pb.QueryUsageResponse(rows=[_usage_row(row, dimensions) for row in rows])

    async def ListCalls(self, request: pb.ListCallsRequest, context: Context) -> pb.ListCallsResponse:  # noqa: N802
        """Lists calls, newest first; see the contract."""
        wanted = Filter(
            start_us=_moment(request, "start_time"),
            end_us=_moment(request, "end_time"),
            project_id=request.project_id,
            model=request.model,
            request_id=request.request_id,
        )
        limit = min(request.page_size or DEFAULT_PAGE, LARGEST_PAGE)
        records, place = await self._store.calls(wanted, limit=limit, after=_place(request.page_token))
        return pb.ListCallsResponse(records=records, next_page_token="" if place is None else f"{place[0]}.{place[1]}")

    async def GetExposition(  # noqa: N802
        self, request: pb.GetExpositionRequest, context: Context
    ) -> pb.GetExpositionResponse:
        """Gives the figures for Prometheus; see the contract."""
        return pb.GetExpositionResponse(text=self._exposition.text())


def _moment(request: pb.QueryUsageRequest | pb.ListCallsRequest, name: str) -> int | None:
    if not request.HasField(name):  # type: ignore[arg-type] # one of these messages' own names
        return None
    moment: Timestamp = getattr(request, name)
    return microseconds(moment)


def _place(token: str) -> Place | None:
    if not token:
        return None
    match = _TOKEN.fullmatch(token)
    if match is None:
        raise _malformed("page_token", "is not one that this service gave")
    return int(match[1]), int(match[2])


def _usage_row(row: Sums, dimensions: list[Dimension]) -> pb.UsageRow:
    return pb.UsageRow(
        values=[_value(value, dimension) for value, dimension in zip(row.values, dimensions, strict=True)],
        calls=row.calls,
        failed_calls=row.failed_calls,
        unpriced_calls=row.unpriced_calls,
        cost_nanos=row.cost_nanos,
        usage=row.usage,
    )


def _value(value: str | int, dimension: Dimension) -> str:
    if dimension is Dimension.DAY:
        return (_EPOCH + timedelta(days=int(value))).isoformat()
    return str(value)


def _malformed(field: str, problem: str) -> MeshError:
    return MeshError(
        errors_pb2.REASON_INVALID_REQUEST,
        f"{field}: {problem}",
        metadata={"param": field},
        violations=[(field, problem)],
    )
