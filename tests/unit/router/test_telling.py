"""What the log of changes is told of catalogs: who, what, before and after, once."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import orjson
import pytest

from polyroute.api.auth.v1 import changes_pb2 as pb
from polyroute.api.errors.v1 import errors_pb2
from polyroute.mesh.errors import MeshError
from polyroute.router.authors import author_of
from polyroute.router.store import ChangeRow, VersionRow
from polyroute.router.telling import APPLY, Telling, change_of

OLD = VersionRow(
    3, "d3", "v3", 1, "ann", "", "models: {m: {deployments: [p/a]}}\nprices: {p/a: {input: '1', output: '2'}}\n"
)
NEW = VersionRow(4, "d4", "v4", 2, "bob", "dearer", "models: {m: {deployments: [p/a]}}\nprices: {p/a: {input: '3'}}\n")


class Waiting:
    """Changes that wait, and an auth that is away at first."""

    def __init__(self, rows: Sequence[ChangeRow], away: int = 0) -> None:
        self.rows = list(rows)
        self.away = away
        self.heard: list[str] = []

    async def untold(self, limit: int) -> list[ChangeRow]:
        """The first of them."""
        return self.rows[:limit]

    async def told(self, changes: Sequence[ChangeRow]) -> None:
        """These wait no more."""
        self.rows = [row for row in self.rows if row not in changes]

    async def tell(self, request: pb.RecordChangesRequest) -> None:
        """What auth hears."""
        if self.away:
            self.away -= 1
            raise MeshError(errors_pb2.REASON_SERVICE_UNAVAILABLE, "auth is away")
        self.heard += [change.id for change in request.changes]


class Caller:
    """A call, and what it shows."""

    def __init__(self, *metadata: tuple[str, str], name: bytes = b"") -> None:
        self._metadata = metadata
        self._names = {"x509_common_name": [name]} if name else {}

    def invocation_metadata(self) -> Sequence[tuple[str, str]]:
        """Its headers."""
        return self._metadata

    def auth_context(self) -> dict[str, list[bytes]]:
        """Its certificate."""
        return self._names


def test_a_change_names_the_prices_before_and_after() -> None:
    """By their paths, and nothing that stayed."""
    change = change_of(OLD, NEW, "admin", APPLY)
    before, after = orjson.loads(change.before), orjson.loads(change.after)

    assert ("admin", "ApplyCatalog", 2) == (change.actor, change.action, change.time_us)
    assert ({"prices.p/a.input": '"1"', "prices.p/a.output": '"2"'}, 3, "d3") == (
        before["values"],
        before["number"],
        before["digest"],
    )
    assert ({"prices.p/a.input": '"3"'}, 4, "dearer") == (after["values"], after["number"], after["note"])


@pytest.mark.parametrize("text", ["models: [", "", "- 1\n"])
def test_a_text_that_says_nothing_is_told_by_its_digest(text: str) -> None:
    """It is still a change."""
    change = change_of(OLD._replace(text=text), NEW._replace(text=text), "file", APPLY)

    assert ("d3", "d4") == (orjson.loads(change.before)["digest"], orjson.loads(change.after)["digest"])


def test_a_change_of_everything_stays_small() -> None:
    """What is left out is counted, and what is left has room in the message."""
    text = "models: {" + ", ".join(f"m{number}: {'é' * 2000}" for number in range(500)) + "}\n"
    change = change_of(OLD._replace(text=""), NEW._replace(text=text), "file" * 100, APPLY)
    after = orjson.loads(change.after)

    assert (50, 450, 64) == (len(after["values"]), after["more_values"], len(change.actor))
    assert len(change.after.encode()) < 131_072


async def test_a_change_waits_until_auth_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """And is told in its order."""
    monkeypatch.setattr("polyroute.router.telling.AGAIN_SECONDS", 0.001)
    waiting = Waiting([ChangeRow(f"c{number}", 1, "a", APPLY, "", "") for number in range(20)], away=2)
    task = asyncio.create_task(Telling(waiting, waiting.tell).run())
    async with asyncio.timeout(5):
        while waiting.rows:
            await asyncio.sleep(0.001)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task

    assert [f"c{number}" for number in range(20)] == waiting.heard


@pytest.mark.parametrize(
    ("caller", "author"),
    [
        (Caller(), "local:root@vm"),
        (Caller(("polyroute-admin", "s")), "admin"),
        (Caller(("authorization", "Bearer t"), ("x", "y")), "admin"),
        (Caller(name=b"ops"), "mesh:ops"),
    ],
)
async def test_an_author_is_who_they_show_to_be(caller: Caller, author: str) -> None:
    """What somebody says of himself is marked."""

    async def identify(shown: Sequence[tuple[str, str]]) -> str:
        assert 1 == len(shown)
        return "admin"

    assert author == await author_of(caller, "root@vm", identify)


async def test_a_catalog_can_be_mended_while_auth_is_away_but_not_by_a_stranger() -> None:
    """A refusal is one."""

    async def away(_shown: Sequence[tuple[str, str]]) -> str:
        return ""

    async def refused(_shown: Sequence[tuple[str, str]]) -> str:
        raise MeshError(errors_pb2.REASON_NOT_PERMITTED, "no")

    caller = Caller(("polyroute-admin", "s"))

    assert "local:root@vm" == await author_of(caller, "root@vm", away)
    with pytest.raises(MeshError, match="no"):
        await author_of(caller, "root@vm", refused)
