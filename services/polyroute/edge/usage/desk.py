"""Answers people about usage. Auth says first whose calls they may see; metrics is asked for those and no others."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Literal, TypeVar

import grpc
import structlog

from polyroute.api.auth.v1.admission_pb2 import AdmitRequest
from polyroute.api.auth.v1.admission_pb2_grpc import AdmissionServiceStub
from polyroute.api.errors.v1 import errors_pb2
from polyroute.api.gateway.v1 import usage_pb2 as pb
from polyroute.api.metrics.v1 import metrics_pb2
from polyroute.api.metrics.v1.metrics_pb2_grpc import MetricsServiceStub
from polyroute.api.router.v1.router_pb2 import ExplainRequest, ExplainResponse
from polyroute.api.router.v1.router_pb2_grpc import RouterServiceStub
from polyroute.edge.usage import questions
from polyroute.edge.usage.live import LiveModels
from polyroute.mesh.errors import MeshError, from_rpc

SERVICE: Final = pb.DESCRIPTOR.services_by_name["UsageService"]
SECONDS: Final = 30.0
ADMIT_SECONDS: Final = 5.0
EXPLAIN_SECONDS: Final = 5.0
# What came with a call's question to the router, and is of other calls.
_OTHERS: Final[Sequence[Literal["reports", "answering"]]] = ("reports", "answering")

Metadata = tuple[tuple[str, str], ...]
T = TypeVar("T")
_log = structlog.get_logger("usage")


class UsageDesk:
    """What people may know of usage.

    Args:
        channel: Gives the channel to a role.
        clock: Seconds.
    """

    def __init__(self, channel: Callable[[str], grpc.aio.Channel], clock: Callable[[], float]) -> None:
        self._admission = AdmissionServiceStub(channel("auth"))
        self._metrics = MetricsServiceStub(channel("metrics"))
        self._router = RouterServiceStub(channel("router"))
        self._live = LiveModels(self._metrics, self._router, clock)

    async def answer(self, name: str, request: Any, who: Metadata) -> Any:
        """The answer to a request of UsageService.

        Args:
            name: The method.
            request: What it is asked, its rules checked.
            who: What the caller presents, and where they are; see `polyroute.edge.admin.gateway.metadata`.

        Raises:
            MeshError: What auth or metrics refuses; REASON_INVALID_REQUEST; REASON_NOT_FOUND.
        """
        methods: dict[str, Callable[[Any, Metadata], Awaitable[Any]]] = {
            "QueryUsage": self._query_usage,
            "ListCalls": self._list_calls,
            "GetCall": self._get_call,
            "ListLiveModels": self._list_live_models,
        }
        try:
            return await methods[name](request, who)
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error) from None

    async def _query_usage(self, request: pb.QueryUsageRequest, who: Metadata) -> pb.QueryUsageResponse:
        question = await self._bounded("QueryUsage", questions.sums(request), who)
        found = await self._metrics.QueryUsage(question, timeout=SECONDS)
        rows, token = questions.page(
            found.rows, lambda row: row.values, len(question.group_by), request.page_size, request.page_token
        )
        answer = pb.QueryUsageResponse(rows=rows, next_page_token=token)
        if found.HasField("start_time"):
            answer.start_time.CopyFrom(found.start_time)
        if found.HasField("end_time"):
            answer.end_time.CopyFrom(found.end_time)
        return answer

    async def _list_calls(self, request: pb.ListCallsRequest, who: Metadata) -> pb.ListCallsResponse:
        question = await self._bounded("ListCalls", questions.calls(request), who)
        found = await self._metrics.ListCalls(question, timeout=SECONDS)
        return pb.ListCallsResponse(calls=found.records, next_page_token=found.next_page_token)

    async def _get_call(self, request: pb.GetCallRequest, who: Metadata) -> pb.GetCallResponse:
        wanted = metrics_pb2.ListCallsRequest(
            request_id=request.request_id, account_id=request.account_id, project_id=request.project_id
        )
        question = await self._bounded("GetCall", wanted, who)
        found = await self._metrics.ListCalls(question, timeout=SECONDS)
        if not found.records:
            resource = {"resource": request.request_id}
            raise MeshError(errors_pb2.REASON_NOT_FOUND, "there is no such call", metadata=resource)
        answer = pb.GetCallResponse(call=found.records[0])
        why = await self._why(request.request_id)
        if why is not None:
            answer.decision.CopyFrom(why.record)
            if answer.decision.HasField("request"):
                for name in _OTHERS:
                    answer.decision.request.ClearField(name)
            answer.plan.extend(attempt.deployment for attempt in why.plan.attempts)
        return answer

    async def _list_live_models(self, request: pb.ListLiveModelsRequest, who: Metadata) -> pb.ListLiveModelsResponse:
        wanted = questions.live(request.filter)
        await self._admit("ListLiveModels", AdmitRequest(), who)
        found = [
            one for one in await self._live.all() if all(getattr(one, name) == value for name, value in wanted.items())
        ]
        shown, token = questions.page(
            found, lambda one: (one.model, one.deployment), 2, request.page_size, request.page_token
        )
        return pb.ListLiveModelsResponse(deployments=shown, next_page_token=token)

    async def _bounded(self, method: str, question: T, who: Metadata) -> T:
        """A question about what auth allows, whatever it was about before."""
        bounded: Any = question
        asked = AdmitRequest(account_id=bounded.account_id, project_id=bounded.project_id)
        allowed = await self._admit(method, asked, who)
        bounded.account_id, bounded.project_id = allowed.account_id, allowed.project_id
        return question

    async def _admit(self, method: str, asked: AdmitRequest, who: Metadata) -> Any:
        asked.method = SERVICE.methods_by_name[method].full_name
        return await self._admission.Admit(asked, timeout=ADMIT_SECONDS, metadata=who)

    async def _why(self, request_id: str) -> ExplainResponse | None:
        """Why a call went where it went; None where nobody knows."""
        wanted = ExplainRequest(request_id=request_id)
        try:
            return await self._router.Explain(wanted, timeout=EXPLAIN_SECONDS)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                _log.warning("a decision is missing", code=error.code().name)
            return None
