"""RouterService: messages in, decisions out."""

from collections.abc import Callable
from typing import Any, Final

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from polyroute.api.errors.v1.errors_pb2 import REASON_INVALID_REQUEST, REASON_NOT_FOUND
from polyroute.api.router.v1 import router_pb2 as pb
from polyroute.api.router.v1.router_pb2_grpc import RouterServiceServicer
from polyroute.mesh.errors import MeshError
from polyroute.router import rollout
from polyroute.router.authors import Identify, author_of
from polyroute.router.config import RolloutConfig
from polyroute.router.decide import decide
from polyroute.router.journal import Journal
from polyroute.router.listing import listing, price_list
from polyroute.router.reload import Reloader, Said, UnwritableError
from polyroute.router.ruling import previewed
from polyroute.router.snapshot import CatalogStore
from polyroute.router.steering import Steering
from polyroute.router.store import RolloutRow, Store, VersionRow

Context = grpc.aio.ServicerContext[Any, Any]

PAGE: Final = 50
LONGEST_PAGE: Final = 1000
_STATES: Final = {
    rollout.RUNNING: pb.ROLLOUT_STATE_RUNNING,
    rollout.DONE: pb.ROLLOUT_STATE_DONE,
    rollout.ROLLED_BACK: pb.ROLLOUT_STATE_ROLLED_BACK,
}


class RouterService(RouterServiceServicer):
    """Answers from the view in force.

    Args:
        catalogs: Holds it.
        journal: Keeps decisions.
        reloader: Changes what is in force.
        store: Has the versions that were.
        steering: Health's say.
        identify: Has auth say who presents something.
        clock: Seconds since 1970 UTC.
    """

    def __init__(
        self,
        catalogs: CatalogStore,
        journal: Journal,
        reloader: Reloader,
        store: Store,
        steering: Steering,
        identify: Identify,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._catalogs = catalogs
        self._journal = journal
        self._reloader = reloader
        self._store = store
        self._steering = steering
        self._identify = identify
        self._clock = clock

    async def Decide(self, request: pb.DecideRequest, context: Context) -> pb.DecideResponse:  # noqa: N802
        """Orders the deployments that may serve a call."""
        self._steering.answering(request.answering)
        self._steering.report(request.reports)
        self._steering.look()
        now = self._clock()
        view = self._catalogs.at(now)
        if request.dry_run:
            return decide(request, view, now)
        return decide(request, view, now, self._journal.note, self._steering.steer)

    async def Report(self, request: pb.ReportRequest, context: Context) -> pb.ReportResponse:  # noqa: N802
        """Takes what an edge has seen."""
        self._steering.answering(request.answering)
        self._steering.report(request.reports)
        return pb.ReportResponse()

    async def Explain(self, request: pb.ExplainRequest, context: Context) -> pb.ExplainResponse:  # noqa: N802
        """Gives the record of a decision that was made."""
        decided = await self._journal.explain(request.request_id)
        return pb.ExplainResponse(record=decided.record, plan=decided.plan if decided.HasField("plan") else None)

    async def ListDecisions(  # noqa: N802
        self, request: pb.ListDecisionsRequest, context: Context
    ) -> pb.ListDecisionsResponse:
        """Lists decisions, oldest first."""
        start, end = _seconds(request.start_time), _seconds(request.end_time)
        return await self._journal.page(start, end, request.page_size, request.page_token, request.one_of)

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:  # noqa: N802
        """Lists the models and aliases."""
        catalog = self._catalogs.at(self._clock()).catalog
        return pb.ListModelsResponse(models=listing(catalog, request.operation), catalog_version=catalog.version)

    async def ListPrices(self, request: pb.ListPricesRequest, context: Context) -> pb.ListPricesResponse:  # noqa: N802
        """Lists what deployments charge."""
        moment = _seconds(request.time) if request.HasField("time") else self._clock()
        return price_list(self._catalogs.priced(moment), request, self._catalogs.books)

    async def PreviewPolicy(  # noqa: N802
        self, request: pb.PreviewPolicyRequest, context: Context
    ) -> pb.PreviewPolicyResponse:
        """Says what rules at a moment."""
        now = request.time.ToNanoseconds() / 1e9 if request.HasField("time") else self._clock()
        load = request.load if request.HasField("load") else None
        ruled = previewed(self._catalogs.view.catalog, request.name, now, load)
        response = pb.PreviewPolicyResponse(policy=ruled.policy, reason=ruled.reason)
        if ruled.until is not None:
            response.until.FromNanoseconds(int(ruled.until * 1e9))
        return response

    async def GetCatalogStatus(  # noqa: N802
        self, request: pb.GetCatalogStatusRequest, context: Context
    ) -> pb.GetCatalogStatusResponse:
        """Says which catalog is in force, and why a newer one is not."""
        status = self._catalogs.status
        return pb.GetCatalogStatusResponse(
            version=status.catalog.version,
            load_time=status.load_time,
            models=len(status.catalog.models),
            deployments=status.catalog.deployments,
            error=status.error,
            warnings=status.catalog.warnings,
            number=self._reloader.number,
            rollouts=[_rollout(config, row) for config, row in self._reloader.rollouts.values()],
            policies=sorted({*status.catalog.policies, *status.catalog.schedules}),
            regions=status.catalog.regions,
        )

    async def ApplyCatalog(self, request: pb.ApplyCatalogRequest, context: Context) -> pb.ApplyCatalogResponse:  # noqa: N802
        """Writes a catalog and puts it in force."""
        author = request.author or "unknown"
        said = Said(author, request.note, await author_of(context, author, self._identify))
        try:
            applied = await self._reloader.apply(request.text, said, validate_only=request.validate_only)
        except UnwritableError as error:
            raise MeshError(REASON_INVALID_REQUEST, str(error), code=grpc.StatusCode.FAILED_PRECONDITION) from None
        version = _version(applied.version, whole=False)
        if request.validate_only:
            version = pb.CatalogVersion(version=version.version)
        return pb.ApplyCatalogResponse(version=version, warnings=applied.warnings, changed=applied.changed)

    async def ListCatalogVersions(  # noqa: N802
        self, request: pb.ListCatalogVersionsRequest, context: Context
    ) -> pb.ListCatalogVersionsResponse:
        """Lists what was in force, newest first."""
        size = min(request.page_size or PAGE, LONGEST_PAGE)
        before = int(request.page_token) if request.page_token.isdecimal() else 0
        rows = await self._store.versions(before, size)
        more = str(rows[-1].number) if len(rows) == size and rows[-1].number > 1 else ""
        return pb.ListCatalogVersionsResponse(
            versions=[_version(row, whole=False) for row in rows], next_page_token=more
        )

    async def GetCatalogVersion(  # noqa: N802
        self, request: pb.GetCatalogVersionRequest, context: Context
    ) -> pb.GetCatalogVersionResponse:
        """Gives one of them with its text."""
        row = await self._store.version(request.version)
        if row is None:
            raise MeshError(
                REASON_NOT_FOUND,
                f"no version {request.version!r} of the catalog is kept" if request.version else "no version is kept",
                metadata={"resource": request.version},
            )
        return pb.GetCatalogVersionResponse(version=_version(row, whole=True))


def _seconds(time: Timestamp) -> float:
    return time.ToNanoseconds() / 1e9


def _version(row: VersionRow, *, whole: bool) -> pb.CatalogVersion:
    version = pb.CatalogVersion(
        number=row.number,
        version=row.version,
        author=row.author,
        note=row.note,
        text=row.text if whole else "",
    )
    version.create_time.FromMicroseconds(row.time_us)
    return version


def _rollout(config: RolloutConfig, row: RolloutRow) -> pb.RolloutStatus:
    status = pb.RolloutStatus(
        alias=row.alias,
        to=config.to,
        state=_STATES[row.state],
        percent=rollout.percent_of(config, row),
        reason=row.reason,
    )
    status.since.FromMicroseconds(row.since_us)
    return status
