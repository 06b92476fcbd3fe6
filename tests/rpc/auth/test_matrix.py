"""Role x method x tenant: every cell as the table of permissions says, asked of a running service."""

from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor

from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth.config import AuthConfig
from polyroute.auth.people.admission import Admitted
from polyroute.auth.people.roles import GRANTS, Permission, Role
from polyroute.auth.people.rules import RULES, Kind, Rule, rule_of
from polyroute.auth.wiring import Auth, assembled
from polyroute.mesh.errors import from_rpc
from tests.databases import prepare
from tests.rpc.auth.cast import ADMIN, SERVICES, Cast, Tenant, assemble, empty

pytestmark = pytest.mark.parametrize("kind", ["local"], indirect=True)

ALLOWED, NOT_PERMITTED, NOT_FOUND = "allowed", "NOT_PERMITTED", "NOT_FOUND"
LATER = {"INVALID_REQUEST", "NO_DEPLOYMENT"}  # said by the methods themselves, of requests that say too little
METHODS = [method for service in SERVICES for method in service.methods]
WHOLE_ACCOUNT = {Kind.ACCOUNT, Kind.INVITATION}


@pytest.fixture
async def auth(tmp_path: Path) -> AsyncGenerator[Auth]:
    """The role on SQLite: what a role may do has nothing to do with the database."""
    async with assembled(AuthConfig(), data_dir=prepare(tmp_path / "data")) as role:
        yield role


@pytest.fixture
async def cast(auth: Auth, channel: Any, admin: Any) -> Cast:
    """Everybody."""
    return await assemble(auth, channel, admin)


def named(method: MethodDescriptor, rule: Rule, tenant: Tenant) -> Any:
    """A request about everything of a tenant that the method can be about."""
    request = empty(method)
    for target in rule.targets:
        *path, last = target.field.split(".")
        place = request
        for part in path:
            place = getattr(place, part)
        setattr(place, last, tenant.names[target.kind])
    return request


def expected(rule: Rule, how: str, role: Role, *, own: bool) -> str:
    """What the table says."""
    if rule.permission is Permission.OPERATE:
        return NOT_PERMITTED
    if rule.targets and not own:
        return NOT_FOUND
    whole = any(target.kind in WHOLE_ACCOUNT for target in rule.targets)
    if how == "key" and whole:  # a key administers its project
        return NOT_PERMITTED
    return ALLOWED if rule.permission in GRANTS[role] else NOT_PERMITTED


async def outcome(cast: Cast, method: MethodDescriptor, request: Any, metadata: Any) -> str:
    """What came of a call; whatever is refused only after it was let in counts as let in."""
    try:
        answer = await cast.ask(method, request, metadata)
    except grpc.aio.AioRpcError as error:
        refused = from_rpc(error)
        if refused.reason == errors_pb2.REASON_NOT_FOUND and "member" in refused.message:
            return ALLOWED  # the request names nobody
        if refused.reason == errors_pb2.REASON_NOT_FOUND and not any(refused.metadata.values()):
            return ALLOWED
        name = errors_pb2.Reason.Name(refused.reason).removeprefix("REASON_")
        return ALLOWED if name in LATER else name
    seen = str(answer)
    foreign = [name for name in cast.others.names.values() if name in seen]
    return f"showed {foreign}" if foreign else ALLOWED


def test_every_method_declares_what_it_takes(kind: str) -> None:
    """And the table names no method that there is not."""
    served = {service.full_name: {method.name for method in service.methods} for service in SERVICES}

    assert served == {service: set(methods) for service, methods in RULES.items()}


def test_method_without_a_declaration_is_not_served(auth: Auth, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process does not start."""
    fewer = {name: rule for name, rule in RULES[ADMIN.full_name].items() if name != "IssueKey"}
    monkeypatch.setattr("polyroute.auth.people.rules.RULES", {ADMIN.full_name: fewer})

    with pytest.raises(LookupError, match=r"AdminService.IssueKey declares no permission"):
        Admitted(auth.admin_service, ADMIN, auth.reception.doorman)


@pytest.mark.timeout(120)
async def test_matrix(cast: Cast) -> None:
    """Every role, as a person and as a key, on every method, for their own tenant and the other one; the operator."""
    wrong: dict[tuple[str, str, str, str], Mapping[str, str]] = {}
    cells = 0
    for method in METHODS:
        rule = rule_of(method.containing_service.full_name, method.name)
        for (how, role), metadata in cast.callers.items():
            for whose, tenant in (("own", cast.ours), ("other", cast.others)):
                wanted = expected(rule, how, role, own=whose == "own")
                seen = await outcome(cast, method, named(method, rule, tenant), metadata)
                cells += 1
                if seen == ALLOWED and method.name.startswith("Delete"):
                    await cast.renewed(tenant)
                if seen != wanted:
                    wrong[method.name, how, role.name, whose] = {"expected": wanted, "seen": seen}

        seen = await outcome(cast, method, named(method, rule, cast.others), cast.admin)
        if seen in {NOT_PERMITTED, NOT_FOUND}:
            wrong[method.name, "operator", "", "other"] = {"expected": ALLOWED, "seen": seen}

    assert {} == wrong
    assert len(METHODS) * len(Role) * 4 == cells
