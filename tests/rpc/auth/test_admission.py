"""Whose things other roles may show to whom: role x method x tenant x what the caller names."""

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import grpc
import pytest

from polyroute.api.auth.v1.admission_pb2 import AdmitRequest, AdmitResponse
from polyroute.api.auth.v1.auth_pb2 import MemberRole
from polyroute.api.auth.v1.people_pb2 import CreateMemberRequest
from polyroute.auth.config import AuthConfig
from polyroute.auth.people.known import NewPerson
from polyroute.auth.people.roles import GRANTS, Permission, Role
from polyroute.auth.people.rules import RULES, rule_of
from polyroute.auth.wiring import Auth, assembled
from polyroute.mesh.errors import from_rpc
from tests.databases import prepare
from tests.rpc.auth.cast import ADMIT, USAGE, Cast, Metadata, Tenant, admin_call, assemble, bearer, call

pytestmark = pytest.mark.parametrize("kind", ["local"], indirect=True)

SCOPED = [method for method in USAGE.methods if rule_of(USAGE.full_name, method.name).targets]
QUERY = USAGE.methods_by_name["QueryUsage"].full_name


@pytest.fixture
async def auth(tmp_path: Path) -> AsyncGenerator[Auth]:
    """The role on SQLite."""
    async with assembled(AuthConfig(), data_dir=prepare(tmp_path / "data")) as role:
        yield role


@pytest.fixture
async def cast(auth: Auth, channel: Any, admin: Any) -> Cast:
    """Everybody."""
    return await assemble(auth, channel, admin)


async def asked(cast: Cast, metadata: Metadata, account: str = "", project: str = "", method: str = QUERY) -> Any:
    """Whose things may be shown, as account and project; or the status of a refusal."""
    request = AdmitRequest(method=method, account_id=account, project_id=project)
    try:
        answer: AdmitResponse = await call(cast.channel, ADMIT, request, metadata)
    except grpc.aio.AioRpcError as error:
        return from_rpc(error).code.name
    return answer.account_id, answer.project_id


def named(tenant: Tenant) -> dict[str, tuple[str, str]]:
    """What a caller may name of a tenant."""
    return {"account": (tenant.account, ""), "project": ("", tenant.project), "both": (tenant.account, tenant.project)}


async def test_every_role_and_method_and_tenant_and_name(cast: Cast) -> None:
    """What is shown is theirs and as narrow as they asked; a key is shown its project and no account."""
    ours, wrong, cells = cast.ours, [], 0
    for method in SCOPED:
        for (how, role), metadata in cast.callers.items():
            wanted: dict[str, Any] = {
                "account": "PERMISSION_DENIED" if how == "key" else (ours.account, ""),
                "project": (ours.account, ours.project),
                "both": "PERMISSION_DENIED" if how == "key" else (ours.account, ours.project),
            }
            for what, (account, project) in named(ours).items():
                seen = await asked(cast, metadata, account, project, method.full_name)
                cells += 1
                wrong += [(method.name, how, role, what, seen)] if seen != wanted[what] else []
            for what, (account, project) in named(cast.others).items():
                seen = await asked(cast, metadata, account, project, method.full_name)
                cells += 1
                wrong += [(method.name, how, role, what, seen)] if seen != "NOT_FOUND" else []
            nothing = await asked(cast, metadata, method=method.full_name)
            cells += 1
            own = (ours.account, ours.project if how == "key" else "")
            wrong += [(method.name, how, role, "nothing", nothing)] if nothing != own else []

    assert [] == wrong
    assert len(SCOPED) * len(Role) * 2 * 7 == cells


async def test_operators_see_everything(cast: Cast) -> None:
    """Or what they name; what is not there is not found."""
    ours, others = cast.ours, cast.others

    assert ("", "") == await asked(cast, cast.admin)
    assert (ours.account, "") == await asked(cast, cast.admin, ours.account)
    assert (others.account, others.project) == await asked(cast, cast.admin, "", others.project)
    assert "NOT_FOUND" == await asked(cast, cast.admin, "acc_none")
    assert "NOT_FOUND" == await asked(cast, cast.admin, ours.account, others.project)


async def test_a_project_of_another_account_that_is_theirs_too(cast: Cast, auth: Auth) -> None:
    """Is not one of the account that is named beside it; and where nothing is named, people of two say which."""
    arrival = await auth.reception.registrar.admit(
        NewPerson("both@example.com", "Both"), cast.ours.account, Role.VIEWER
    )
    person, role = arrival.person.id, MemberRole.ValueType(Role.OWNER)
    request = CreateMemberRequest(account_id=cast.others.account, person_id=person, role=role)
    await admin_call(cast.channel, "CreateMember", request, cast.admin)
    theirs = bearer((await auth.reception.sessions.begin(arrival.person.id)).access)

    assert (cast.others.account, cast.others.project) == await asked(cast, theirs, "", cast.others.project)
    assert "NOT_FOUND" == await asked(cast, theirs, cast.ours.account, cast.others.project)
    assert "INVALID_ARGUMENT" == await asked(cast, theirs)
    assert ("", "") == await asked(cast, theirs, method=USAGE.methods_by_name["ListLiveModels"].full_name)


async def test_nobody_is_told_nothing(cast: Cast) -> None:
    """Without a credential, with one that is no administrator's, and of a method that nobody has declared."""
    key = bearer(cast.ours.secret)

    assert "UNAUTHENTICATED" == await asked(cast, ())
    assert "PERMISSION_DENIED" == await asked(cast, key, cast.ours.account)
    assert "PERMISSION_DENIED" == await asked(cast, cast.admin, method=f"{USAGE.full_name}.DropUsage")


async def test_a_method_without_a_declaration(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps the process from starting."""
    fewer = {name: rule for name, rule in RULES[USAGE.full_name].items() if name != "GetCall"}
    monkeypatch.setattr("polyroute.auth.people.rules.RULES", {**RULES, USAGE.full_name: fewer})

    with pytest.raises(LookupError, match=r"UsageService.GetCall declares no permission"):
        async with assembled(AuthConfig(), data_dir=prepare(tmp_path / "another")):
            pass


def test_no_project_hides_what_an_account_sums_up(kind: str) -> None:
    """Whatever narrows a role in a project leaves them its usage, which the sums of its account hold."""
    assert [] == [role.name for role in Role if Permission.USAGE_READ not in GRANTS[role]]
