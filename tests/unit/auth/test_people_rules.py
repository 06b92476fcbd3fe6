"""What roles may do, who is at the door, and that nobody gives what they have not."""

from collections.abc import Mapping
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth.admin.journal import Change, Journal
from polyroute.auth.admin.secret import Gate
from polyroute.auth.keys import Key
from polyroute.auth.people.actors import OPERATOR, Actor, Admission, How, Standing
from polyroute.auth.people.bounds import check_gift
from polyroute.auth.people.config import Certificate
from polyroute.auth.people.doorman import Presented
from polyroute.auth.people.identify import Identify
from polyroute.auth.people.registry import People
from polyroute.auth.people.roles import GRANTS, Permission, Role
from polyroute.auth.people.tokens import AccessTokens
from polyroute.auth.scopes import Grant, Scope, excess
from polyroute.mesh.errors import MeshError
from tests.unit.auth.installation import Installation

ROLES = st.sampled_from(Role)


def test_operators_permission_is_in_no_role() -> None:
    """And an owner has all the others."""
    assert frozenset(Permission) - {Permission.OPERATE} == GRANTS[Role.OWNER]
    assert not any(Permission.OPERATE in granted for granted in GRANTS.values())


def test_roles_are_as_documented() -> None:
    """Each within the next, but for the one about money."""
    assert GRANTS[Role.VIEWER] < GRANTS[Role.MEMBER] < GRANTS[Role.ADMIN] < GRANTS[Role.OWNER]
    assert GRANTS[Role.BILLING] < GRANTS[Role.OWNER]
    assert not GRANTS[Role.VIEWER] & {permission for permission in Permission if permission.endswith(".write")}


@given(role=ROLES, narrower=ROLES, permission=st.sampled_from(Permission))
def test_project_only_narrows(role: Role, narrower: Role, permission: Permission) -> None:
    """Whatever is allowed there is allowed in the account too."""
    standing = Standing(role, {"prj_1": narrower})

    assert standing.has(permission, "prj_1") == (permission in GRANTS[role] & GRANTS[narrower])
    assert standing.has(permission, "prj_2") == (permission in GRANTS[role])


@given(own=ROLES, wanted=ROLES)
def test_nobody_gives_more_than_they_have(own: Role, wanted: Role) -> None:
    """To a member or to a key."""
    actor = Actor(How.TOKEN, "per_1", standings={"acc_1": Standing(own)})
    gives = GRANTS[wanted] <= GRANTS[own]
    try:
        check_gift(Admission(actor, None, "acc_1", "prj_1"), Grant(scope=Scope(admin_role=wanted)))
        gave = True
    except MeshError:
        gave = False

    assert (gives, gives, False) == (gave, actor.gives(wanted, "acc_1"), actor.gives(wanted, "acc_2"))
    assert OPERATOR.gives(wanted, "acc_1")


@pytest.mark.parametrize(
    ("wanted", "had", "fields"),
    [
        (Scope(), Scope(policies=("a",)), ["scope.policies"]),
        (Scope(policies=("a", "b")), Scope(policies=("a",)), ["scope.policies"]),
        (Scope(regions=("us",)), Scope(regions=("eu",)), ["scope.regions"]),
        (Scope(spend_class=1), Scope(spend_class=2), ["scope.spend_class"]),
        (Scope(), Scope(spend_class=1), []),
        (Scope(spend_class=3), Scope(spend_class=2), []),
        (Scope(admin_role=1), Scope(), ["scope.admin_role"]),
        (Scope(admin_role=1), Scope(admin_role=2), ["scope.admin_role"]),
        (Scope(admin_role=4), Scope(admin_role=2), []),
        (Scope(admin_role=5), Scope(admin_role=2), ["scope.admin_role"]),
        (Scope(policies=("a",), regions=("eu",), spend_class=2, admin_role=3),) * 2 + ([],),
    ],
)
def test_key_grants_no_more_than_its_creator(wanted: Scope, had: Scope, fields: list[str]) -> None:
    """In what it may spend, where, by which policy, and what it may administer."""
    assert fields == list(excess(Grant(scope=wanted), Grant(scope=had)))


def test_scope_survives_its_row() -> None:
    """With everything in it."""
    scope = Scope(policies=("a",), regions=("eu",), spend_class=2, admin_role=3)

    assert scope == Scope.from_json(scope.to_json())


def door(auth: Installation, certificates: Mapping[str, Certificate], key: Key | None = None) -> Identify:
    """The door, with one key that is known."""

    async def authorize(_: str) -> Key:
        if key is None:
            raise MeshError(errors_pb2.REASON_CREDENTIAL_INVALID, "no")
        return key

    tokens = AccessTokens(["11" * 32], valid_for=600)
    return Identify(Gate("pa-secret"), tokens, People(auth.store.database), authorize, certificates)


async def test_certificate_speaks_for_a_service(auth: Installation) -> None:
    """Where the operator named it, and only when nothing else is presented."""
    known = {"ci": Certificate(account="acc_1", role="admin"), "root": Certificate()}
    identify = door(auth, known)
    service = await identify(Presented(names=frozenset({"ci", "other"})))
    whole = await identify(Presented(names=frozenset({"root"})))

    assert ("service:ci", False) == (service.name, service.operator)
    assert (True, False) == tuple(service.may(Permission.KEYS_WRITE, name) for name in ("acc_1", "acc_2"))
    assert whole.operator
    for presented in (Presented(names=frozenset({"edge"})), Presented("pa-guess", frozenset({"root"}))):
        with pytest.raises(MeshError):
            await identify(presented)


@pytest.mark.parametrize(
    ("scope", "address", "admitted"),
    [
        (Scope(), "", False),
        (Scope(admin_role=2), "", True),
        (Scope(admin_role=2, source_ranges=("192.0.2.0/24",)), "192.0.2.9", True),
        (Scope(admin_role=2, source_ranges=("192.0.2.0/24",)), "198.51.100.1", False),
        (Scope(admin_role=2, source_ranges=("192.0.2.0/24",)), "", False),
    ],
)
async def test_key_administers_its_project(auth: Installation, scope: Scope, address: str, admitted: bool) -> None:
    """When its scope says so, and from where it may be used."""
    key = Key("key_1", "acc_1", "prj_1", "pr-", "", (), 0, scope=scope)
    identify = door(auth, {}, key)
    if not admitted:
        with pytest.raises(MeshError, match="this key may not"):
            await identify(Presented("pr-key", address=address))
        return
    actor = await identify(Presented("pr-key", address=address))

    assert "key:key_1" == actor.name
    assert (True, False, False) == tuple(
        actor.may(Permission.KEYS_WRITE, "acc_1", project) for project in ("prj_1", "prj_2", "")
    )


async def test_end_of_the_log_cannot_be_cut_off_unnoticed(auth: Installation) -> None:
    """By whoever kept what it was; nor can it be written anew as a whole."""
    journal = Journal(auth.store.database, now=auth.clock)
    for number in range(3):
        change = Change("admin", "SetLimit", f"key_{number}", {}, {})
        await auth.store.database.write(partial(journal.record, change=change))
    seen = await journal.check()
    same = await journal.check(seen.last, seen.digest)
    other = await journal.check(seen.last, b"x" * 32)
    later = await journal.check(seen.last + 1, seen.digest)

    assert (3, 0) == (seen.events, seen.broken)
    assert [0, seen.last, seen.last + 1] == [same.broken, other.broken, later.broken]
