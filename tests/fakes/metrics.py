"""A metrics role that pushes what a test says."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import grpc

from polyroute.api.metrics.v1 import metrics_pb2 as pb
from polyroute.api.metrics.v1.metrics_pb2_grpc import MetricsServiceServicer

Context = grpc.aio.ServicerContext[Any, Any]


class FakeMetrics(MetricsServiceServicer):
    """Its watchers hear `push`; `records` holds what was appended, which fails with `failure` while that is set."""

    def __init__(self) -> None:
        self.records: dict[str, pb.CallRecord] = {}
        self.failure: grpc.StatusCode | None = None
        self._stats = pb.WatchStatsResponse()
        self._changed = asyncio.Condition()

    async def push(self, rates: dict[str, float]) -> None:
        """Says that these deployments had these success rates over a hundred attempts in the last minute."""
        deployments = [
            pb.DeploymentStats(deployment=name, one_minute=pb.WindowStats(attempts=100, successes=round(rate * 100)))
            for name, rate in rates.items()
        ]
        self._stats = pb.WatchStatsResponse(version=self._stats.version + 1, deployments=deployments)
        async with self._changed:
            self._changed.notify_all()

    async def WatchStats(
        self, request: pb.WatchStatsRequest, context: Context
    ) -> AsyncGenerator[pb.WatchStatsResponse]:
        """Pushes the figures, at once and whenever they change."""
        said: pb.WatchStatsResponse | None = None
        while True:
            if self._stats is not said:
                said = self._stats
                yield said
            await self._news(said)

    async def _news(self, said: pb.WatchStatsResponse | None) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._stats is not said)

    async def Append(self, request: pb.AppendRequest, context: Context) -> pb.AppendResponse:
        """Keeps the records, each once."""
        if self.failure is not None:
            await context.abort(self.failure, "told to")
        fresh = {record.request_id: record for record in request.records if record.request_id not in self.records}
        self.records |= fresh
        return pb.AppendResponse(stored=len(fresh))

    async def QueryUsage(self, request: pb.QueryUsageRequest, context: Context) -> pb.QueryUsageResponse:
        """Adds nothing up."""
        return pb.QueryUsageResponse()

    async def ListCalls(self, request: pb.ListCallsRequest, context: Context) -> pb.ListCallsResponse:
        """Lists what was appended, newest first."""
        return pb.ListCallsResponse(records=reversed(self.records.values()))

    async def GetExposition(self, request: pb.GetExpositionRequest, context: Context) -> pb.GetExpositionResponse:
        """Has no figures."""
        return pb.GetExpositionResponse()
