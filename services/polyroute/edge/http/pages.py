"""The doors that are not hot: models, health, metrics, the description of the API."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import grpc
import orjson
import structlog
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import Response

from polyroute.api.auth.v1.ledger_pb2 import GetTightestBudgetRequest
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.metrics.v1.metrics_pb2 import GetExpositionRequest, QueryUsageRequest
from polyroute.api.router.v1.router_pb2 import Model
from polyroute.edge.errors import headers_of, shape_of
from polyroute.edge.flow import Flow
from polyroute.edge.http.door import credential
from polyroute.edge.http.exchange import ANY_ORIGIN
from polyroute.edge.http.listings import (
    anthropic_model,
    anthropic_page,
    billed,
    gemini_model,
    openai_model,
    subscription,
)
from polyroute.edge.http.manners import ANTHROPIC, GEMINI, OPENAI, Manners
from polyroute.edge.http.openapi import DOCUMENT
from polyroute.mesh import scope as scopes
from polyroute.mesh.errors import MeshError, from_rpc
from polyroute.mesh.node import Node

NEEDED = ("auth", "providers", "router")  # without these no call can be answered; without metrics records wait
EXPOSITION_SECONDS = 5.0
QUERY_SECONDS = 10.0

_log = structlog.get_logger("pages")


class Pages:
    """Handlers for Starlette's routes.

    Args:
        node: The process, for health and figures.
        flow: For the list of models.
        metrics: MetricsService.
        ledger: LedgerService.
    """

    def __init__(self, node: Node, flow: Flow, metrics: Any, ledger: Any) -> None:
        self._ledger = ledger
        self._node = node
        self._flow = flow
        self._metrics = metrics
        self.draining = False

    async def root(self, request: Request) -> Response:
        """GET / says what this is."""
        return _json({"name": "polyroute", "openapi": "/openapi.json"})

    async def live(self, request: Request) -> Response:
        """GET /health/live: the process runs."""
        return _json({"status": "live"})

    async def ready(self, request: Request) -> Response:
        """GET /health/ready: calls can be answered."""
        answers = await asyncio.gather(*(self._node.healthy(role) for role in NEEDED))
        roles = dict(zip(NEEDED, answers, strict=True))
        ready = all(answers) and not self.draining
        body = {"status": "ready" if ready else "draining" if self.draining else "not ready", "roles": roles}
        return _json(body, 200 if ready else 503)

    async def metrics(self, request: Request) -> Response:
        """GET /metrics: this process's RPCs and, from the metrics role, all calls."""
        text = generate_latest(self._node.registry)
        try:
            exposition = await self._metrics.GetExposition(GetExpositionRequest(), timeout=EXPOSITION_SECONDS)
        except grpc.aio.AioRpcError as error:
            _log.warning("figures of the calls are missing", code=error.code().name)
        else:
            text += exposition.text
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    async def openapi(self, request: Request) -> Response:
        """GET /openapi.json."""
        return _json(DOCUMENT)

    async def models(self, request: Request) -> Response:
        """GET /v1/models, and GET /v1/models/{id} for one; in the form of the API whose client asks."""
        if "x-goog-api-key" in request.headers:
            return await self.gemini_models(request)
        wanted = request.path_params.get("id") or None  # a slash alone names none
        anthropic = "anthropic-version" in request.headers or "x-api-key" in request.headers
        manners = ANTHROPIC if anthropic else OPENAI
        try:
            models = await self._models(request, wanted)
        except MeshError as error:
            return refusal(error, manners)
        if wanted is not None:
            return _json(anthropic_model(models[0]) if anthropic else openai_model(models[0]), manners=manners)
        if anthropic:
            return _json(anthropic_page(models), manners=manners)
        return _json({"object": "list", "data": [openai_model(model) for model in models]})

    async def gemini_models(self, request: Request) -> Response:
        """GET /v1beta/models, and GET /v1beta/models/{id} for one."""
        wanted = request.path_params.get("id") or None  # a slash alone names none
        try:
            models = await self._models(request, wanted)
        except MeshError as error:
            return refusal(error, GEMINI)
        if wanted is not None:
            return _json(gemini_model(models[0]))
        return _json({"models": [gemini_model(model) for model in models]})

    async def _models(self, request: Request, wanted: str | None) -> Sequence[Model]:
        listed = await self._flow.models(_presented(request), _source(request))
        if wanted is None:
            return listed.models
        found = [model for model in listed.models if model.name == wanted]
        if not found:
            raise MeshError(pb.REASON_MODEL_NOT_FOUND, f"no model is called {wanted}", metadata={"model": wanted})
        return found

    async def subscription(self, request: Request) -> Response:
        """GET /dashboard/billing/subscription: the hard budget that bounds the key that asks most."""
        try:
            caller = await self._flow.caller(_presented(request), _source(request))
            asked = GetTightestBudgetRequest(caller=caller)
            found = await self._ledger.GetTightestBudget(asked, timeout=QUERY_SECONDS)
        except grpc.aio.AioRpcError as error:
            return refusal(from_rpc(error))
        except MeshError as error:
            return refusal(error)
        return _json(subscription(found.budget if found.HasField("budget") else None))

    async def usage(self, request: Request) -> Response:
        """GET /dashboard/billing/usage?start_date=2026-01-01&end_date=2026-01-31: of the key that asks."""
        try:
            caller = await self._flow.caller(_presented(request), _source(request))
            query = QueryUsageRequest(key_id=caller.key_id)
            for name, time in (("start_date", query.start_time), ("end_date", query.end_time)):
                if given := request.query_params.get(name):
                    time.FromDatetime(_day(name, given))
            rows = await self._metrics.QueryUsage(query, timeout=QUERY_SECONDS)
        except grpc.aio.AioRpcError as error:
            return refusal(from_rpc(error))
        except MeshError as error:
            return refusal(error)
        return _json(billed(rows.rows))


def _presented(request: Request) -> str:
    """The key, which Gemini's clients may send in the query."""
    return credential(request.headers) or request.query_params.get("key", "")


def _source(request: Request) -> str:
    return request.client.host if request.client else ""


def _day(name: str, text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:
        raise MeshError(
            pb.REASON_INVALID_REQUEST, f"{name} is no date such as 2026-01-31", metadata={"param": name}
        ) from None


def refusal(error: MeshError, manners: Manners = OPENAI) -> Response:
    """An error as an answer."""
    shape = shape_of(error)
    request_id = scopes.new_request_id()
    headers = {name.decode(): value.decode() for name, value in (*headers_of(error, shape), ANY_ORIGIN)}
    headers[manners.id_header.decode()] = request_id
    return Response(manners.error(error, shape, request_id), manners.status(shape), headers, "application/json")


def _json(content: object, status: int = 200, manners: Manners = OPENAI) -> Response:
    headers = {manners.id_header.decode(): scopes.new_request_id(), ANY_ORIGIN[0].decode(): ANY_ORIGIN[1].decode()}
    return Response(orjson.dumps(content), status, headers, "application/json")
