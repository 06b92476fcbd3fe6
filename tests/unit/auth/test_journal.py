"""The log of administrative changes, and the secret of administrators."""

from pathlib import Path

import pytest
from sqlalchemy import text

from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth.admin.journal import Change, Journal
from polyroute.auth.admin.paging import Page
from polyroute.auth.admin.secret import Gate, load_or_create
from polyroute.auth.pepper import PepperError
from polyroute.mesh.errors import MeshError
from tests.unit.auth.installation import Installation


async def note(auth: Installation, journal: Journal, change: Change) -> None:
    """Writes a change down in a transaction of its own."""
    await auth.store.database.write(lambda connection: journal.record(connection, change))


async def write(auth: Installation) -> Journal:
    """Three events."""
    journal = Journal(auth.store.database, now=auth.clock)
    for number in range(3):
        await note(auth, journal, Change("admin", "SetLimit", f"key_{number}", {}, {"amount": number}))
    return journal


async def test_events_come_newest_first(auth: Installation) -> None:
    """In pages."""
    journal = await write(auth)
    first, token = await journal.page(Page.of(2, "", "", {}))
    second, end = await journal.page(Page.of(2, token, "", {}))

    assert ["key_2", "key_1", "key_0"] == [event.resource for event in (*first, *second)]
    assert ("", '{"amount":0}', "") == (second[0].before, second[0].after, end)


async def test_nothing_is_written_that_only_this_program_could_read(auth: Installation) -> None:
    """A state that is neither a message nor plain JSON is refused, not written as whatever it prints."""
    with pytest.raises(TypeError):
        await note(auth, Journal(auth.store.database), Change("admin", "SetLimit", "key_1", None, {"x": object()}))


async def test_what_changed_nothing_is_no_event(auth: Installation) -> None:
    """A resource that is as it was was not changed."""
    journal = Journal(auth.store.database)
    await note(auth, journal, Change("admin", "SetLimit", "key_1", {"amount": 1}, {"amount": 1}))
    found, _ = await journal.page(Page.of(2, "", "", {}))

    assert found == []


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE audit_events SET actor = 'nobody' WHERE id = 1",
        "UPDATE audit_events SET after = '' WHERE id = 3",
        "DELETE FROM audit_events WHERE id = 2",
        "UPDATE audit_events SET time = 0 WHERE id = 2",
    ],
)
async def test_what_was_changed_afterwards_shows(auth: Installation, damage: str) -> None:
    """Each event's digest covers the one before."""
    journal = await write(auth)
    before = await journal.intact()
    async with auth.store.database.writing() as connection:
        await connection.execute(text(damage))

    assert (True, False) == (before, await journal.intact())


def test_admin_secret_is_made_once(tmp_path: Path) -> None:
    """Random, and the same ever after."""
    first = load_or_create(tmp_path / "admin")

    assert first == load_or_create(tmp_path / "admin")
    assert first != load_or_create(tmp_path / "other")


def test_admin_secret_that_everybody_can_read_is_refused(tmp_path: Path) -> None:
    """It would be none."""
    load_or_create(tmp_path / "admin")
    (tmp_path / "admin").chmod(0o644)

    with pytest.raises(PepperError):
        load_or_create(tmp_path / "admin")


@pytest.mark.parametrize(
    ("presented", "reason"),
    [("", errors_pb2.REASON_CREDENTIAL_MISSING), ("pa-no", errors_pb2.REASON_CREDENTIAL_INVALID)],
)
def test_gate(presented: str, reason: int) -> None:
    """Opens for the secret and for nothing else."""
    assert "admin" == Gate("pa-yes").admit("pa-yes")
    with pytest.raises(MeshError) as caught:
        Gate("pa-yes").admit(presented)

    assert reason == caught.value.reason
