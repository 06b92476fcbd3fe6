"""The contract's side of metrics: messages into calls of the domain and back."""

import re
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from polyroute.api.chat.v1.chat_pb2 import Operation
from polyroute.api.errors.v1 import errors_pb2
from polyroute.api.metrics.v1 import metrics_pb2 as pb
from polyroute.api.metrics.v1 import metrics_pb2_grpc
from polyroute.mesh.errors import MeshError
from polyroute.metrics.exposition import Exposition
from polyroute.metrics.feed import StatsFeed
from polyroute.metrics.listing import Place
from polyroute.metrics.recorder import Recorder
from polyroute.metrics.rows import microseconds, storable
from polyroute.metrics.store import Store
from polyroute.metrics.sums import Sums
from polyroute.metrics.usage import By, Dimension, Filter

DEFAULT_PAGE: Final = 100
LARGEST_PAGE: Final = 1000

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TOKEN: Final = re.compile(r"(\d{1,18})\.((?:[0-9a-f]{2}){1,65})")  # a place in the list: microseconds, and an id

_DIMENSIONS: Final[Mapping[pb.UsageDimension.ValueType, Dimension]] = {
    pb.USAGE_DIMENSION_DAY: Dimension.DAY,
    pb.USAGE_DIMENSION_PROJECT: Dimension.PROJECT,
    pb.USAGE_DIMENSION_KEY: Dimension.KEY,
    pb.USAGE_DIMENSION_MODEL: Dimension.MODEL,
    pb.USAGE_DIMENSION_DEPLOYMENT: Dimension.DEPLOYMENT,
    pb.USAGE_DIMENSION_PROVIDER: Dimension.PROVIDER,
    pb.USAGE_DIMENSION_ACCOUNT: Dimension.ACCOUNT,
    pb.USAGE_DIMENSION_USER: Dimension.USER,
    pb.USAGE_DIMENSION_WORKFLOW: Dimension.WORKFLOW,
    pb.USAGE_DIMENSION_NODE: Dimension.NODE,
    pb.USAGE_DIMENSION_TAG: Dimension.TAG,
    pb.USAGE_DIMENSION_OPERATION: Dimension.OPERATION,
    pb.USAGE_DIMENSION_HOUR: Dimension.HOUR,
}
# Field of a request -> column of a facet.
_TEXTS: Final = {
    "account_id": "account",
    "project_id": "project",
    "key_id": "key",
    "model": "model",
    "deployment": "deployment",
    "provider": "provider",
    "user": "end_user",
    "workflow_id": "workflow",
    "node_id": "node",
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
                raise _malformed(
                    f"records[{index}].start_time", "must lie in the years 1970 to 9999, and no amount beyond 2^50"
                )
        return pb.AppendResponse(stored=await self._recorder.append(request.records, _sent(request)))

    async def WatchStats(  # noqa: N802
        self, request: pb.WatchStatsRequest, context: Context
    ) -> AsyncGenerator[pb.WatchStatsResponse]:
        """Pushes live statistics; see the contract."""
        async with aclosing(self._feed.watch()) as messages:
            async for message in messages:
                yield message

    async def QueryUsage(self, request: pb.QueryUsageRequest, context: Context) -> pb.QueryUsageResponse:  # noqa: N802
        """Adds calls up; see the contract."""
        by = list(_dimensions(request))
        answer = await self._store.usage(_filter(request), by)
        response = pb.QueryUsageResponse(rows=[_usage_row(row, by) for row in answer.rows])
        if answer.start_us is not None:
            response.start_time.FromMicroseconds(answer.start_us)
        if answer.end_us is not None:
            response.end_time.FromMicroseconds(answer.end_us)
        return response

    async def ListCalls(self, request: pb.ListCallsRequest, context: Context) -> pb.ListCallsResponse:  # noqa: N802
        """Lists calls, newest first; see the contract."""
        limit = min(request.page_size or DEFAULT_PAGE, LARGEST_PAGE)
        wanted = _filter(request, request.fault, request.request_id)
        records, place = await self._store.calls(wanted, limit=limit, after=_place(request.page_token))
        token = "" if place is None else f"{place[0]}.{place[1].hex()}"
        return pb.ListCallsResponse(records=records, next_page_token=token)

    async def GetExposition(  # noqa: N802
        self, request: pb.GetExpositionRequest, context: Context
    ) -> pb.GetExpositionResponse:
        """Gives the figures for Prometheus; see the contract."""
        return pb.GetExpositionResponse(text=self._exposition.text())


def _filter(request: pb.QueryUsageRequest | pb.ListCallsRequest, fault: int = 0, request_id: str = "") -> Filter:
    return Filter(
        start_us=_moment(request, "start_time"),
        end_us=_moment(request, "end_time"),
        texts={column: getattr(request, field) for field, column in _TEXTS.items()},
        tags=dict(request.tags),
        operation=request.operation,
        fault=fault,
        request_id=request_id,
    )


def _sent(request: pb.AppendRequest) -> float | None:
    return request.sent_time.ToMicroseconds() / 1e6 if request.HasField("sent_time") else None


def _dimensions(request: pb.QueryUsageRequest) -> Iterator[By]:
    names = list(request.tag_names)
    tags = sum(dimension == pb.USAGE_DIMENSION_TAG for dimension in request.group_by)
    if tags != len(names):
        raise _malformed("tag_names", f"must name {tags} tags, one for each dimension that is a tag")
    following = iter(names)
    for dimension in request.group_by:
        found = _DIMENSIONS[dimension]
        yield By(found, next(following)) if found is Dimension.TAG else By(found)


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
    return int(match[1]), bytes.fromhex(match[2])


def _usage_row(row: Sums, by: Sequence[By]) -> pb.UsageRow:
    return pb.UsageRow(
        values=[_value(value, one.dimension) for value, one in zip(row.values, by, strict=True)],
        calls=row.calls,
        failed_calls=row.failed_calls,
        unpriced_calls=row.unpriced_calls,
        cost_nanos=row.cost_nanos,
        charged_nanos=row.charged_nanos,
        usage=row.usage,
    )


def _value(value: str | int, dimension: Dimension) -> str:
    if dimension is Dimension.DAY:
        return (_EPOCH + timedelta(days=int(value))).date().isoformat()
    if dimension is Dimension.HOUR:
        return (_EPOCH + timedelta(hours=int(value))).strftime("%Y-%m-%dT%H:%MZ")
    if dimension is Dimension.OPERATION:
        return _operation(int(value))
    return str(value)


def _operation(number: int) -> str:
    if number not in Operation.values():
        return str(number)  # of a newer sender
    return Operation.Name(number).removeprefix("OPERATION_").lower()  # type: ignore[arg-type] # one of its numbers


def _malformed(field: str, problem: str) -> MeshError:
    return MeshError(
        errors_pb2.REASON_INVALID_REQUEST,
        f"{field}: {problem}",
        metadata={"param": field},
        violations=[(field, problem)],
    )
