"""RouterService: messages in, decisions out."""

from collections.abc import Callable
from typing import Any

import grpc

from polyroute.api.router.v1 import router_pb2 as pb
from polyroute.api.router.v1.router_pb2_grpc import RouterServiceServicer
from polyroute.router.decide import decide
from polyroute.router.listing import listing
from polyroute.router.ruling import previewed
from polyroute.router.snapshot import CatalogStore

Context = grpc.aio.ServicerContext[Any, Any]


class RouterService(RouterServiceServicer):
    """Answers from the view in force.

    Args:
        store: Holds it.
        clock: Seconds since 1970 UTC.
    """

    def __init__(self, store: CatalogStore, *, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock

    async def Decide(self, request: pb.DecideRequest, context: Context) -> pb.DecideResponse:  # noqa: N802
        """Orders the deployments that may serve a call."""
        return decide(request, self._store.view, self._clock())

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:  # noqa: N802
        """Lists the models and aliases."""
        catalog = self._store.view.catalog
        return pb.ListModelsResponse(models=listing(catalog, request.operation), catalog_version=catalog.version)

    async def PreviewPolicy(  # noqa: N802
        self, request: pb.PreviewPolicyRequest, context: Context
    ) -> pb.PreviewPolicyResponse:
        """Says what rules at a moment."""
        now = request.time.ToNanoseconds() / 1e9 if request.HasField("time") else self._clock()
        load = request.load if request.HasField("load") else None
        ruled = previewed(self._store.view.catalog, request.name, now, load)
        response = pb.PreviewPolicyResponse(policy=ruled.policy, reason=ruled.reason)
        if ruled.until is not None:
            response.until.FromNanoseconds(int(ruled.until * 1e9))
        return response

    async def GetCatalogStatus(  # noqa: N802
        self, request: pb.GetCatalogStatusRequest, context: Context
    ) -> pb.GetCatalogStatusResponse:
        """Says which catalog is in force, and why a newer one is not."""
        status = self._store.status
        return pb.GetCatalogStatusResponse(
            version=status.catalog.version,
            load_time=status.load_time,
            models=len(status.catalog.models),
            deployments=status.catalog.deployments,
            error=status.error,
            warnings=status.catalog.warnings,
        )
