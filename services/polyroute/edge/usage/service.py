"""UsageService: for the HTTP door of administration, and at the gRPC door for whom that door is there."""

from typing import Any

import grpc

from polyroute.api.errors.v1 import errors_pb2
from polyroute.api.gateway.v1 import usage_pb2 as pb
from polyroute.api.gateway.v1 import usage_pb2_grpc
from polyroute.edge.admin.gateway import CLIENT, metadata
from polyroute.edge.admin.throttle import Throttle
from polyroute.edge.http.admin import Reach, forwarded, presented
from polyroute.edge.service import address
from polyroute.edge.usage.desk import UsageDesk
from polyroute.mesh.errors import MeshError
from polyroute.mesh.guard import LOCAL_PEER

Context = grpc.aio.ServicerContext[Any, Any]


class UsageService(usage_pb2_grpc.UsageServiceServicer):
    """Usage, over the contract.

    Args:
        desk: Answers.
        reach: For whom it is there at the gRPC door.
        throttle: Counts wrong credentials of that door.
    """

    def __init__(self, desk: UsageDesk, reach: Reach, throttle: Throttle) -> None:
        self._desk = desk
        self._reach = reach
        self._throttle = throttle

    async def QueryUsage(self, request: pb.QueryUsageRequest, context: Context) -> pb.QueryUsageResponse:  # noqa: N802
        """Adds calls up; see the contract."""
        answer: pb.QueryUsageResponse = await self._answer("QueryUsage", request, context)
        return answer

    async def ListCalls(self, request: pb.ListCallsRequest, context: Context) -> pb.ListCallsResponse:  # noqa: N802
        """Lists calls; see the contract."""
        answer: pb.ListCallsResponse = await self._answer("ListCalls", request, context)
        return answer

    async def GetCall(self, request: pb.GetCallRequest, context: Context) -> pb.GetCallResponse:  # noqa: N802
        """Shows a call; see the contract."""
        answer: pb.GetCallResponse = await self._answer("GetCall", request, context)
        return answer

    async def ListLiveModels(  # noqa: N802
        self, request: pb.ListLiveModelsRequest, context: Context
    ) -> pb.ListLiveModelsResponse:
        """Lists live figures; see the contract."""
        answer: pb.ListLiveModelsResponse = await self._answer("ListLiveModels", request, context)
        return answer

    async def _answer(self, name: str, request: Any, context: Context) -> Any:
        said = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        credential = presented(said)
        if context.peer() == LOCAL_PEER:  # the HTTP door, which has looked at who may come to it
            return await self._desk.answer(name, request, metadata(credential, said.get(CLIENT, "")))
        if self._reach is Reach.NOBODY or (self._reach is Reach.MACHINE and forwarded(said)):
            raise MeshError(errors_pb2.REASON_NOT_FOUND, "administration is not served here")
        if not credential:
            raise MeshError(errors_pb2.REASON_CREDENTIAL_MISSING, "send a credential as `authorization: bearer ...`")
        client = address(context.peer() or "")
        with self._throttle.trying(client, credential):
            return await self._desk.answer(name, request, metadata(credential, client))
