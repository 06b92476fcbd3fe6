"""Decides at the door of administration, once per call: who it is, whose things it is about, and whether they may.

What belongs to another tenant is answered as if it were not there, in the words for what is not there.
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import structlog

from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth.database import Database
from polyroute.auth.people.actors import Actor, Admission, How
from polyroute.auth.people.places import Place, default_project, places
from polyroute.auth.people.roles import Permission
from polyroute.auth.people.rules import Kind, Rule, Target
from polyroute.mesh.errors import MeshError

_BOUNDS: Final = frozenset({Permission.LIMITS_WRITE, Permission.BUDGETS_WRITE})
_ID: Final = re.compile(r"[a-z]{3}_[0-9a-f]{1,32}")

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Presented:
    """What a call shows of its caller.

    Attributes:
        credential: The admin secret, an access token or a key.
        names: In the certificate of the peer.
        address: Of the caller, as the edge saw it; empty when nobody said.
    """

    credential: str = ""
    names: frozenset[str] = frozenset()
    address: str = ""


class Doorman:
    """Lets calls of administration in.

    Args:
        database: Where tenants' things are.
        identify: Says who presents something.
    """

    def __init__(self, database: Database, identify: Callable[[Presented], Awaitable[Actor]]) -> None:
        self._database = database
        self._identify = identify

    async def admit(self, method: str, rule: Rule, request: Any, presented: Presented) -> tuple[Any, Admission]:
        """The request, with its names made plain, and what was decided about it.

        Args:
            method: Name of the method, for logs.
            rule: What it takes.
            request: The message; a copy of it is changed where a key is named by a prefix, or no project at all.
            presented: What the call shows of its caller.

        Raises:
            MeshError: REASON_CREDENTIAL_MISSING, REASON_CREDENTIAL_INVALID; REASON_NOT_PERMITTED; REASON_NOT_FOUND for
                what is another tenant's; REASON_INVALID_REQUEST for a field that only operators may leave empty.
        """
        actor = await self._identify(presented)
        if actor.operator:
            return request, Admission(actor)
        try:
            return await self._admit(actor, rule, request)
        except MeshError as error:
            _log.info("administration refused", method=method, actor=actor.name, reason=error.message)
            raise

    async def _admit(self, actor: Actor, rule: Rule, request: Any) -> tuple[Any, Admission]:
        if rule.permission is Permission.OPERATE:
            raise _not_permitted("this is for operators")
        if rule.fields & _changed(request, rule):
            raise _not_permitted(f"only operators change {', '.join(sorted(rule.fields))}")
        admission = Admission(actor, actor.reach(rule.permission))
        if not rule.targets:
            return request, _listing(admission)
        request = _copy(request)
        place = None
        for target in rule.targets:
            found = await self._target(actor, rule, target, request)
            place = place or found
        if place is None:
            return request, _listing(admission)
        return request, replace(admission, account_id=place.account_id, project_id=place.project_id)

    async def _target(self, actor: Actor, rule: Rule, target: Target, request: Any) -> Place | None:
        """Whose a target is; None when the request leaves it open and may."""
        named = target.of(request)
        if not named and target.needed and target.kind is Kind.PROJECT:
            named = await self._database.read(lambda connection: default_project(connection, actor))
        if not named and not target.needed:
            return None
        if not named:
            raise MeshError(
                errors_pb2.REASON_INVALID_REQUEST, f"say which {target.kind}", metadata={"param": target.field}
            )
        found = await self._database.read(lambda connection: places(connection, target.kind, named))
        seen = [one for one in found if actor.sees(one.account_id, one.project_id)]
        if len(seen) > 1:
            raise MeshError(
                errors_pb2.REASON_INVALID_REQUEST,
                f"several {target.kind}s begin with {named}: say which by its id",
                metadata={"param": target.field},
            )
        place = next(iter(seen), None)
        if place is None:
            shown = named if _ID.fullmatch(named) else ""  # whatever else stands there may be a secret
            raise MeshError(
                errors_pb2.REASON_NOT_FOUND, f"there is no such {target.kind}", metadata={"resource": shown}
            )
        needed = rule.whole if rule.whole and not place.project_id else rule.permission
        if not actor.may(needed, place.account_id, place.project_id):
            raise _not_permitted(f"this takes the permission {needed}")
        if rule.permission in _BOUNDS and actor.how is How.KEY and place.id == actor.id:
            raise _not_permitted("a key does not change what binds it")
        if target.kind in {Kind.KEY, Kind.PROJECT}:
            _set(request, target.field, place.id)
        return place


def _listing(admission: Admission) -> Admission:
    reach = admission.reach
    if reach is not None and not reach.accounts and not reach.projects:
        raise _not_permitted("this takes a permission that you have in no account")
    return admission


def _changed(request: Any, rule: Rule) -> frozenset[str]:
    """The fields that an update changes, where some are not everybody's."""
    if not rule.fields:
        return frozenset()
    resource = getattr(request, rule.targets[0].field.partition(".")[0])
    paths = frozenset(request.update_mask.paths)
    if "*" in paths:
        return frozenset(resource.DESCRIPTOR.fields_by_name)
    return frozenset(path.partition(".")[0] for path in paths) or frozenset(
        field.name for field, _ in resource.ListFields()
    )


def _copy(request: Any) -> Any:
    copy = type(request)()
    copy.CopyFrom(request)
    return copy


def _set(request: Any, field: str, value: str) -> None:
    *path, last = field.split(".")
    for part in path:
        request = getattr(request, part)
    setattr(request, last, value)


def _not_permitted(message: str) -> MeshError:
    return MeshError(errors_pb2.REASON_NOT_PERMITTED, message)
