"""The doors that are not hot: models, health, metrics, the description of the API."""

import asyncio
from typing import Any

import grpc
import orjson
import structlog
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import Response

from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.metrics.v1.metrics_pb2 import GetExpositionRequest
from polyroute.api.router.v1.router_pb2 import Model
from polyroute.edge.errors import body_of, headers_of, shape_of
from polyroute.edge.flow import Flow
from polyroute.edge.http.openai import credential
from polyroute.edge.http.openapi import DOCUMENT
from polyroute.mesh import scope as scopes
from polyroute.mesh.errors import MeshError
from polyroute.mesh.node import Node

NEEDED = ("auth", "providers", "router")  # without these no call can be answered; without metrics records wait
EXPOSITION_SECONDS = 5.0

_log = structlog.get_logger("pages")


class Pages:
    """Handlers for Starlette's routes.

    Args:
        node: The process, for health and figures.
        flow: For the list of models.
        metrics: MetricsService.
    """

    def __init__(self, node: Node, flow: Flow, metrics: Any) -> None:
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
        """GET /v1/models, and GET /v1/models/{id} for one."""
        wanted = request.path_params.get("id")
        try:
            listed = await self._flow.models(credential(dict(request.headers)))
            if wanted is None:
                return _json({"object": "list", "data": [_model(model) for model in listed.models]})
        except MeshError as error:
            return refusal(error)
        for model in listed.models:
            if model.name == wanted:
                return _json(_model(model))
        missing = MeshError(pb.REASON_MODEL_NOT_FOUND, f"no model is called {wanted}", metadata={"model": wanted})
        return refusal(missing)


def refusal(error: MeshError) -> Response:
    """An error as an answer."""
    shape = shape_of(error)
    headers = {name.decode(): value.decode() for name, value in headers_of(error, shape)}
    headers["x-request-id"] = scopes.new_request_id()
    return Response(body_of(error, shape), shape.status, headers, "application/json")


def _json(content: object, status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, {"x-request-id": scopes.new_request_id()}, "application/json")


def _model(model: Model) -> dict[str, Any]:
    """A model as OpenAI's clients expect it, with what the catalog knows beside it."""
    return {
        "id": model.name,
        "object": "model",
        "created": model.create_time,
        "owned_by": ",".join(model.providers) or "polyroute",
        "alias_of": list(model.alias_of) or None,
        "context_length": model.context_tokens or None,
        "max_output_tokens": model.max_output_tokens or None,
    }
