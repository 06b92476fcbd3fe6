"""AdmissionService: who may see what other roles keep, by the doorman and the table of what auth keeps itself."""

from collections.abc import Iterable
from typing import Any, Final

from google.protobuf.descriptor import ServiceDescriptor
from sqlalchemy import Connection, select

from polyroute.api.auth.v1 import admission_pb2 as pb
from polyroute.api.auth.v1 import admission_pb2_grpc
from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth import schema
from polyroute.auth.database import Database
from polyroute.auth.people.actors import Reach
from polyroute.auth.people.admission import presented
from polyroute.auth.people.doorman import Doorman
from polyroute.auth.people.places import Place, places
from polyroute.auth.people.rules import NAMED, Kind, Rule, rule_of
from polyroute.mesh.errors import MeshError

_PROJECTS: Final = schema.projects.c


class AdmissionService(admission_pb2_grpc.AdmissionServiceServicer):
    """Decides about calls that are served elsewhere.

    Args:
        database: Where tenants' things are.
        doorman: Decides who may.
        services: What is served elsewhere.

    Raises:
        LookupError: A method of theirs has no rule: it would be open to everybody, or to nobody.
    """

    def __init__(self, database: Database, doorman: Doorman, services: Iterable[ServiceDescriptor]) -> None:
        self._database = database
        self._doorman = doorman
        self._rules: dict[str, Rule] = {
            method.full_name: rule_of(service.full_name, method.name)
            for service in services
            for method in service.methods
        } | dict(NAMED)

    async def Admit(self, request: pb.AdmitRequest, context: Any) -> pb.AdmitResponse:  # noqa: N802
        """Says whether somebody may, and whose things they may be shown; see the contract."""
        rule = self._rules.get(request.method)
        if rule is None:  # of an edge that is newer than this
            raise MeshError(errors_pb2.REASON_NOT_PERMITTED, "nobody has said what this takes")
        request, admission = await self._doorman.admit(request.method, rule, request, presented(context))
        place = Place("")
        if rule.targets:
            place = await self._database.read(lambda connection: _shown(connection, rule, request, admission.reach))
        return pb.AdmitResponse(account_id=place.account_id, project_id=place.project_id, actor=admission.actor.name)


def _shown(connection: Connection, rule: Rule, request: pb.AdmitRequest, reach: Reach | None) -> Place:
    """Whose things a call is about, of which the doorman has said already that they may be shown."""
    named = [(target.kind, wanted) for target in rule.targets if (wanted := target.of(request))]
    found = [_place(connection, kind, wanted) for kind, wanted in named]
    if found:
        place = found[-1]  # the project, where there is one: the narrower
        if any(other.account_id != place.account_id for other in found):
            raise _none_such(*named[-1])
        return place
    return Place("") if reach is None else _only(connection, reach)


def _only(connection: Connection, reach: Reach) -> Place:
    """The one place that somebody reaches.

    Raises:
        MeshError: REASON_INVALID_REQUEST, there are several.
    """
    whose = select(_PROJECTS.account_id, _PROJECTS.id).where(_PROJECTS.id.in_(reach.projects))
    reached = [(account_id, "") for account_id in sorted(reach.accounts)]
    reached += [(account_id, project_id) for account_id, project_id in connection.execute(whose)]
    if len(reached) > 1:
        names = ", ".join(project_id or account_id for account_id, project_id in reached)
        raise MeshError(
            errors_pb2.REASON_INVALID_REQUEST,
            f"say which account: yours are {names}",
            metadata={"param": "account_id"},
        )
    account_id, project_id = reached[0]  # the doorman lets nobody in who reaches nothing
    return Place(account_id, project_id)


def _place(connection: Connection, kind: Kind, named: str) -> Place:
    found = places(connection, kind, named)
    if not found:  # which only operators get to: others have been told by the doorman
        raise _none_such(kind, named)
    return found[0]


def _none_such(kind: Kind, named: str) -> MeshError:
    return MeshError(errors_pb2.REASON_NOT_FOUND, f"there is no such {kind}", metadata={"resource": named})
