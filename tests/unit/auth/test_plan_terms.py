"""What plans say of calls beside money: how it is kept, and whose plan is in force."""

from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Connection, insert

from polyroute.api.chat.v1.chat_pb2 import OPERATION_CHAT
from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth import schema
from polyroute.auth.money.inforce import InForce, in_force, limit_at
from polyroute.auth.money.periods import Period
from polyroute.auth.money.plans import Plan
from polyroute.auth.money.terms import Terms
from polyroute.auth.rates.limits import Kind, Limit, Place
from polyroute.mesh.config import DatabaseConfig
from polyroute.mesh.errors import MeshError
from tests.unit.auth.money import ACCOUNT, PROJECT, treasury
from tests.unit.auth.test_billing import Office, at, opened

RATE = Limit(Place("", Kind.REQUESTS, "large"), 30, 5)
CALLS = Limit(Place("", Kind.CONCURRENCY), 2)
ALL = Terms((RATE, CALLS), ("small-*", "m"), (int(OPERATION_CHAT),), ("/v1/chat/*",))


@pytest.fixture
async def office(tmp_path: Path, database: DatabaseConfig) -> AsyncGenerator[Office]:
    """A fresh one, on each kind of database, with a second project."""
    async with treasury(tmp_path, database) as money:
        made = await opened(money)
        async with money.database.writing() as connection:
            await connection.execute(
                insert(schema.projects).values(id="prj_2", account_id=ACCOUNT, name="q", created=0)
            )
        yield made


async def plan(office: Office, name: str, terms: Terms, period: Period = Period.MONTHLY) -> Plan:
    """A plan that is set."""
    made = Plan(name, period, 0, 500, True, False, terms)
    await office.plans.put(made)
    return made


async def binding(office: Office, project: str = PROJECT) -> InForce | None:
    """The plan that binds a project's calls."""
    return await office.money.database.read(lambda connection: in_force(connection, project, ACCOUNT))


@pytest.mark.parametrize("terms", [Terms(), ALL, Terms(limits=(CALLS,)), Terms(routes=("*",))])
def test_terms_are_kept_as_they_are(terms: Terms) -> None:
    """As a row keeps them, which is nothing where nothing binds."""
    assert terms == Terms.from_json(terms.to_json())
    assert (terms == Terms()) == (terms.to_json() is None)


@pytest.mark.parametrize(
    ("terms", "param"),
    [
        (Terms((RATE, replace(RATE, amount=5))), "plan.limits"),
        (Terms(models=("a*b",)), "plan.opens.models"),
        (Terms(routes=("v1/chat",)), "plan.opens.routes"),
    ],
)
async def test_terms_that_could_never_be_meant(office: Office, terms: Terms, param: str) -> None:
    """By the field that is wrong; nothing is written."""
    with pytest.raises(MeshError) as caught:
        await plan(office, "p", terms)

    assert (errors_pb2.REASON_INVALID_REQUEST, param) == (caught.value.reason, caught.value.metadata["param"])
    assert [] == await office.money.rows(schema.plans)


async def test_a_projects_own_plan_stands_in_the_place_of_its_accounts(office: Office) -> None:
    """Be it wider or narrower; the other projects keep the account's."""
    await plan(office, "wide", Terms())
    await plan(office, "narrow", ALL)
    before = await binding(office)
    whole = await office.plans.subscribe(ACCOUNT, "narrow", "")
    shared = await binding(office)
    await office.plans.subscribe(PROJECT, "wide", "")

    expected = InForce(whole.id, ACCOUNT, "narrow", ALL)
    assert (None, expected) == (before, shared)
    assert (None, expected) == (await binding(office), await binding(office, "prj_2"))


async def test_limits_are_the_subscriptions_own(office: Office) -> None:
    """And there as long as it is."""
    await plan(office, "p", ALL, Period.TOTAL)
    one = await office.plans.subscribe(PROJECT, "p", "")
    place = Place(one.id, Kind.REQUESTS, "large")

    async def limit(wanted: Place) -> Limit | None:
        def work(connection: Connection) -> Limit | None:
            return limit_at(connection, wanted)

        return await office.money.database.read(work)

    found = await binding(office)
    running = [await limit(place), await limit(place._replace(kind=Kind.TOKENS)), await limit(place._replace(model=""))]
    cancelled = await office.plans.cancel(one.id)

    assert found is not None
    assert (Limit(place, 30, 5), Limit(Place(one.id, Kind.CONCURRENCY), 2)) == found.limits
    assert [found.limits[0], None, None] == running
    assert (True, None, None) == (cancelled.ended, await limit(place), await binding(office))
    assert [PROJECT, one.id, PROJECT, one.id] == office.changed


async def test_new_terms_hold_from_the_next_period_on(office: Office) -> None:
    """And edges hear of them then."""
    at(office, 2026, 3, 20)
    await plan(office, "p", ALL)
    one = await office.plans.subscribe(PROJECT, "p", "")
    wider = await plan(office, "p", Terms((replace(RATE, amount=60),)))
    early = await binding(office)
    office.changed.clear()
    at(office, 2026, 4, 1)
    await office.plans.renew()

    assert InForce(one.id, PROJECT, "p", ALL) == early
    assert InForce(one.id, PROJECT, "p", wider.terms) == await binding(office)
    assert [PROJECT, one.id] == office.changed
    assert () == await office.findings()
