"""What administrators change over HTTP, and how they find it: filters, masks, etags, and what stays as it was."""

import base64
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import orjson
import pytest
import pytest_asyncio

from bench.vendor import Vendor
from tests.mesh.gateway import Answer, Gateway, running, whole

pytestmark = pytest.mark.asyncio(loop_scope="module")
A = "/admin/v1"


@dataclass
class Stage:
    """A gateway, its administrator, and a project of theirs."""

    gateway: Gateway
    secret: str
    project: str = ""

    async def ask(self, verb: str, path: str, body: Any = None, **headers: str) -> Answer:
        """A request of the administrator."""
        sent = {"authorization": f"Bearer {self.secret}"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        data = None if body is None else orjson.dumps(body)
        async with self.gateway.session.request(verb, self.gateway.url + A + path, data=data, headers=sent) as response:
            return await whole(response)

    async def done(self, verb: str, path: str, body: Any = None, **headers: str) -> Any:
        """The answer to one that succeeds."""
        answer = await self.ask(verb, path, body, **headers)
        assert 200 == answer.status, answer.body
        return answer.json

    async def found(self, path: str, text: str, members: str, member: str = "id") -> list[Any]:
        """What a filter finds."""
        answer = await self.done("GET", f"{path}?filter={quote(text)}")
        return [one[member] for one in answer[members]]

    async def key(self, **values: Any) -> Any:
        """A new key."""
        return (await self.done("POST", "/keys", {"project_id": self.project, **values}))["key"]

    async def budget(self, **values: Any) -> Any:
        """A new hard budget."""
        body = {"scope": self.project, "period": "PERIOD_MONTHLY", "amount_nanos": "5", "hard": True, **values}
        return (await self.done("POST", "/budgets", body))["budget"]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Stage]:
    """A gateway with a project."""
    async with Vendor() as vendor, running(tmp_path_factory.mktemp("changes"), {"v": vendor.url}) as gateway:
        secret = (gateway.process.config.data_dir / "auth.db.admin").read_text().strip()
        stage = Stage(gateway, secret)
        account = (await stage.done("POST", "/accounts", {"name": "changes"}))["account"]["id"]
        body = {"account_id": account, "name": "search"}
        stage.project = (await stage.done("POST", "/projects", body))["project"]["id"]
        yield stage


async def test_keys_are_found(stage: Stage) -> None:
    """By what they are called, whose they are, since when, and whether they are revoked."""
    old, new, other = await stage.key(name="old one"), await stage.key(name="new one"), await stage.key(name="other")
    await stage.done("POST", f"/keys/{old['id']}:revoke")
    mine = f'project_id = "{stage.project}"'

    assert [new["id"]] == await stage.found("/keys", f'{mine} AND name = "new one"', "keys")
    assert [other["id"], new["id"]] == await stage.found("/keys", f"{mine} AND (name:one OR name:oth*)", "keys")
    assert [old["id"]] == await stage.found("/keys", f"{mine} AND revoked = true", "keys")
    assert [old["id"]] == await stage.found("/keys", f"{mine} AND revoke_time:*", "keys")
    assert [other["id"]] == await stage.found("/keys", f"{mine} AND NOT name:one", "keys")
    assert [other["id"], new["id"]] == await stage.found("/keys", f"{mine} AND -name = 'old one'", "keys")
    assert [] == await stage.found("/keys", f"{mine} AND create_time > 2099-01-01T00:00:00Z", "keys")
    assert [new["id"]] == await stage.found("/keys", f'prefix = "{new["prefix"]}"', "keys")


@pytest.mark.parametrize(
    ("path", "members", "text"),
    [
        ("/accounts", "accounts", 'kind = team AND billing_mode != prepaid AND name:"chang*"'),
        ("/projects", "projects", 'create_time > "2020-01-01T00:00:00Z" AND name = search'),
        ("/people", "people", "disabled = false AND create_time < 2020-01-01T00:00:00Z"),
        (
            "/ledger/entries",
            "entries",
            "kind = ENTRY_KIND_SETTLE OR kind = settle AND post_time >= 2026-11-01T00:00:00Z",
        ),
        ("/ledger/entries", "entries", "amount_nanos > 0 AND debit = held AND NOT estimated = true"),
        ("/audit/events", "events", "time > 2020-01-01T00:00:00Z AND action:Create* AND actor:*"),
        ("/limits", "limits", "kind = requests OR amount >= 5"),
        ("/budgets", "budgets", "hard = true AND period = PERIOD_MONTHLY AND amount_nanos < 9"),
        ("/invitations", "invitations", "role = member AND use_time:*"),
        ("/codes", "codes", "batch = spring AND -redeem_time:*"),
        ("/plans", "plans", "closed = false"),
        ("/subscriptions", "subscriptions", "ended = false AND plan = pro"),
        ("/alerts", "alerts", 'url:"https://*"'),
        ("/deliveries", "deliveries", "given_up = true AND percent > 50"),
        ("/invoices", "invoices", "number >= INV-000001 AND issue_time > 2026-11-01T00:00:00Z"),
    ],
)
async def test_every_list_has_filters(stage: Stage, path: str, members: str, text: str) -> None:
    """Over the fields that its things have."""
    answer = await stage.ask("GET", f"{path}?filter={quote(text)}")

    assert (200, True) == (answer.status, members in answer.json), answer.body


async def test_what_cannot_be_asked(stage: Stage) -> None:
    """Is refused with what can."""
    for text, said in (
        ("colour = red", "filter: cannot filter by colour: known are account_id, create_time, creator_key_id"),
        ("name = a OR", "filter: expected the name of a field at character 12 before its end"),
        ("revoked > true", "filter: revoked >: it can be compared by = != :"),
        ("create_time > today", "filter: create_time: 'today' is no moment such as"),
    ):
        answer = await stage.ask("GET", f"/keys?filter={quote(text)}")
        error = answer.json["error"]

        assert (400, "INVALID_ARGUMENT") == (answer.status, error["status"])
        assert error["message"].startswith(said), error["message"]


async def test_changes_are_found_by_what_was_changed(stage: Stage) -> None:
    """By the id of a budget as by that of whom it binds."""
    budget = await stage.budget()

    own = await stage.found("/audit/events", f'resource = "{budget["id"]}"', "events", "action")
    theirs = await stage.found(
        "/audit/events", f"resource = {stage.project} AND action = SetBudget", "events", "action"
    )

    assert ["SetBudget"] == own
    assert "SetBudget" in theirs


@pytest.mark.parametrize("header", [True, False])
async def test_another_change_came_first(stage: Stage, header: bool) -> None:
    """Then an etag is not that of now: 409 in the body, 412 as a header; and nothing is changed."""
    status = 412 if header else 409
    key, budget = await stage.key(name="a"), await stage.budget()
    project = (await stage.done("GET", f"/projects/{stage.project}"))["project"]
    limit = {"scope": key["id"], "kind": "LIMIT_KIND_REQUESTS", "amount": "5"}
    await stage.done("POST", "/limits", limit)
    plan = {"name": "pro", "period": "PERIOD_MONTHLY", "quota_nanos": "5"}
    await stage.done("PUT", "/plans/pro", plan)
    alert = (await stage.done("POST", "/alerts", {"url": "https://example.com/"}))["alert"]
    for verb, path, body in (
        ("PATCH", f"/keys/{key['id']}", {"name": "b"}),
        ("PATCH", f"/projects/{project['id']}", {"name": "search"}),
        ("PATCH", f"/accounts/{project['account_id']}", {"name": "changes"}),
        ("POST", "/limits", limit),
        ("PUT", f"/budgets/{budget['id']}", {"period": "PERIOD_DAILY", "amount_nanos": "6"}),
        ("PUT", "/plans/pro", plan),
        ("DELETE", f"/limits/{key['id']}/requests", None),
        ("DELETE", f"/budgets/{budget['id']}", None),
        ("DELETE", f"/alerts/{alert['id']}", None),
        ("DELETE", f"/keys/{key['id']}", None),
    ):
        if header:
            refused = await stage.ask(verb, path, body, if_match='"0123"')
        elif body is None:
            name = "limit.etag" if "/limits" in path else "etag"
            refused = await stage.ask(verb, f"{path}?{name}=0123")
        else:
            refused = await stage.ask(verb, path, {**body, "etag": "0123"})

        error = refused.json["error"]
        assert (status, "ABORTED") == (refused.status, error["status"]), (verb, path, refused.body)

    assert "a" == (await stage.done("GET", f"/keys/{key['id']}"))["key"]["name"]
    assert [budget["id"]] == await stage.found("/budgets", f"id = {budget['id']}", "budgets")


async def test_etag_of_now(stage: Stage) -> None:
    """Lets a change through, once: what is changed has another one."""
    key = await stage.key(name="a")
    shown = await stage.ask("GET", f"/keys/{key['id']}")
    tag = shown.headers["etag"]
    path = f"/keys/{key['id']}"

    assert f'"{key["etag"]}"' == tag
    changed = await stage.ask("PATCH", path, {"name": "b"}, if_match=tag)
    assert 200 == changed.status, changed.body
    assert tag != changed.headers["etag"]
    assert 412 == (await stage.ask("PATCH", path, {"name": "c"}, if_match=tag)).status
    assert 409 == (await stage.ask("PATCH", path, {"name": "c", "etag": key["etag"]})).status
    assert 412 == (await stage.ask("PATCH", path, {"name": "c"}, if_match=f"W/{changed.headers['etag']}")).status
    assert 200 == (await stage.ask("PATCH", path, {"name": "c"}, if_match="*")).status
    assert 200 == (await stage.ask("PATCH", path, {"name": "d"})).status
    assert 400 == (await stage.ask("PATCH", path, {"name": "e"}, if_match='"a", "b"')).status
    assert 400 == (await stage.ask("POST", "/accounts", {"name": "e"}, if_match='"a"')).status


async def test_etags_do_not_move_with_what_is_spent(stage: Stage) -> None:
    """The same in every answer, as long as nobody changes anything."""
    budget = await stage.budget()

    assert [budget["etag"]] == await stage.found("/budgets", f"id = {budget['id']}", "budgets", "etag")
    path = f"/budgets/{budget['id']}"
    changed = await stage.done("PUT", path, {"period": "PERIOD_MONTHLY", "amount_nanos": "6", "etag": budget["etag"]})
    assert budget["etag"] != changed["budget"]["etag"]


async def test_parts_of_a_scope(stage: Stage) -> None:
    """A mask names them, and the others stay; a star names everything."""
    key = await stage.key(name="a", scope={"regions": ["cn"], "tags": {"team": "red"}, "routes": ["/v1/*"]})
    path = f"/keys/{key['id']}"

    parts = "scope.regions,scope.routes"
    one = (await stage.done("PATCH", f"{path}?update_mask={parts}", {"scope": {"regions": ["eu"]}}))["key"]
    every = (await stage.done("PATCH", f"{path}?update_mask=*", {"name": "b", "models": ["small"]}))["key"]
    refused = await stage.ask("PATCH", f"{path}?update_mask=scope.colour", {"name": "b"})

    assert ("a", ["eu"], {"team": "red"}, []) == (
        one["name"],
        one["scope"]["regions"],
        one["scope"]["tags"],
        one["scope"]["routes"],
    )
    assert ("b", ["small"], None) == (every["name"], every["models"], every.get("scope"))
    assert (400, True) == (refused.status, "scope.regions" in refused.json["error"]["message"])


async def test_budgets_stay_what_nobody_changes(stage: Stage) -> None:
    """Hard while nobody says otherwise, and with whom they bind; a mask names what changes."""
    budget = await stage.budget(time_zone="Asia/Shanghai")
    path = f"/budgets/{budget['id']}"

    kept = (await stage.done("PUT", path, {"period": "PERIOD_DAILY", "amount_nanos": "6"}))["budget"]
    masked = (await stage.done("PUT", f"{path}?update_mask=amount_nanos", {"amount_nanos": "7"}))["budget"]
    soft = (await stage.done("PUT", f"{path}?update_mask=*", {"period": "PERIOD_DAILY", "hard": False}))["budget"]
    account = (await stage.done("GET", f"/projects/{stage.project}"))["project"]["account_id"]
    moved = await stage.ask("PUT", path, {"scope": account, "period": "PERIOD_DAILY", "amount_nanos": "6"})
    same = await stage.ask("PUT", path, {"scope": stage.project, "period": "PERIOD_DAILY", "amount_nanos": "6"})

    assert (True, "6", "PERIOD_DAILY") == (kept["hard"], kept["amount_nanos"], kept["period"])
    assert (True, "7", "PERIOD_DAILY") == (masked["hard"], masked["amount_nanos"], masked["period"])
    assert (False, "0") == (soft["hard"], soft["amount_nanos"])
    assert (400, True) == (moved.status, stage.project in moved.json["error"]["message"])
    assert 200 == same.status


async def test_names_are_looked_up(stage: Stage) -> None:
    """When they are set: a policy that there is not is refused, a model may come yet."""
    key = {"project_id": stage.project, "name": "a"}
    defaults = base64.b64encode(b'{"onyl": ["v"]}').decode()
    for scope, said in (
        ({"policies": ["balancd"]}, "key.scope.policies: there is no policy 'balancd'"),
        ({"provider_defaults": defaults}, "scope.provider_defaults: provider.onyl"),
        ({"operations": ["OPERATION_SING"]}, "OPERATION_SING"),
    ):
        answer = await stage.ask("POST", "/keys", {**key, "scope": scope})

        assert (400, True) == (answer.status, said in answer.json["error"]["message"]), answer.body

    made = await stage.done("POST", "/keys", {**key, "models": ["m", "smal"], "scope": {"regions": ["cn"]}})
    limit = {"scope": stage.project, "kind": "LIMIT_KIND_REQUESTS", "amount": "5", "model": "smal"}
    bounded = await stage.done("POST", "/limits", limit)

    regions = "no deployment is in 'cn', nor does any say where it is"
    assert [regions, "the catalog has no model 'smal'"] == made["warnings"]
    assert ["the catalog has no model 'smal'"] == bounded["warnings"]


async def test_names_are_for_those_who_may_ask(stage: Stage) -> None:
    """Nobody learns from an error what there is."""
    body = {"project_id": stage.project, "scope": {"policies": ["nothing"]}}
    answer = await stage.ask("POST", "/keys", body, authorization="Bearer pa-wrong")

    assert 401 == answer.status
