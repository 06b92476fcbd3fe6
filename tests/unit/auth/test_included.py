"""Keys that may spend only what a plan includes, on a ledger of each kind of database."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from sqlalchemy import insert

from polyroute.api.auth.v1.auth_pb2 import SPEND_CLASS_INCLUDED
from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth import schema
from polyroute.auth.money.entries import Payer
from polyroute.auth.money.holds import Wanted
from polyroute.auth.money.periods import Period
from polyroute.auth.money.plans import Plan
from polyroute.auth.scopes import Scope
from polyroute.mesh.config import DatabaseConfig
from polyroute.mesh.errors import MeshError
from tests.unit.auth.money import ACCOUNT, KEY, PAYER, PROJECT, treasury
from tests.unit.auth.test_billing import Office, opened

OTHER = Payer(ACCOUNT, PROJECT, "key_2")  # may spend anything


@pytest.fixture
async def office(tmp_path: Path, database: DatabaseConfig) -> AsyncGenerator[Office]:
    """With a key that is bound to what is included."""
    async with treasury(tmp_path, database) as money:
        made = await opened(money)
        row = {"project_id": PROJECT, "prefix": "", "name": "", "models": [], "created": 0}
        narrow = Scope(spend_class=SPEND_CLASS_INCLUDED).to_json()
        async with money.database.writing() as connection:
            await connection.execute(insert(schema.keys).values(row | {"id": KEY, "digest": b"1", "scope": narrow}))
            await connection.execute(insert(schema.keys).values(row | {"id": "key_2", "digest": b"2", "scope": None}))
        yield made


async def refused(office: Office, call: str, needed: int) -> MeshError:
    """The refusal of a hold of the narrow key."""
    with pytest.raises(MeshError) as caught:
        await office.money.hold(call, needed)
    return caught.value


async def test_without_a_plan_only_what_costs_nothing(office: Office) -> None:
    """However much was paid in, and however the account pays."""
    await office.money.budget(ACCOUNT, 0, prepaid=True)
    await office.money.ledger.credit(ACCOUNT, 1000, "payment")
    error = await refused(office, "r", 1)

    assert (errors_pb2.REASON_BUDGET_EXHAUSTED, "spend_class") == (error.reason, error.metadata["cause"])
    assert 0 == await office.money.hold("free", 0)
    assert 1 == await office.money.hold("s", 1, payer=OTHER)


@pytest.mark.parametrize("scope", [ACCOUNT, PROJECT])
async def test_a_quota_and_not_a_nano_dollar_more(office: Office, scope: str) -> None:
    """Other keys go on with the balance, where the plan allows overage; their spending counts against the quota."""
    await office.money.budget(ACCOUNT, 0, prepaid=True)
    await office.money.ledger.credit(ACCOUNT, 1000, "payment")
    await office.plans.put(Plan("pro", Period.MONTHLY, 20, 100, overage=True, closed=False))
    await office.plans.subscribe(scope, "pro", "")
    await office.money.charge("o", 30, payer=OTHER)
    error = await refused(office, "r", 71)
    granted = await office.money.hold("s", 500, least=10)
    await office.money.charge("s", 70)
    later = await refused(office, "t", 1)

    assert ("70", 70) == (error.metadata["remaining"], granted)
    assert errors_pb2.REASON_BUDGET_EXHAUSTED == later.reason
    assert 900 == await office.money.hold("u", 900, payer=OTHER)
    assert () == await office.findings()


async def test_slices_of_a_quota_stay_within_it(office: Office) -> None:
    """What edges may hold of it in advance, too; and they are asked for it back when it is short."""
    await office.plans.put(Plan("free", Period.DAILY, 0, 10**9, overage=True, closed=False))
    await office.plans.subscribe(ACCOUNT, "free", "")
    first = await office.money.ledger.allot(Wanted("a", PAYER, 1, 1, holder="edge"), KEY)
    with pytest.raises(MeshError):
        await office.money.ledger.allot(Wanted("b", PAYER, 10**9, 10**9, holder="edge"), KEY)
    rest = await office.money.ledger.allot(Wanted("c", PAYER, 10**9, 1, holder="edge"), KEY)

    assert 1 < first <= 10**9 // 8
    assert 10**9 == first + rest
    assert KEY in office.money.recalled
