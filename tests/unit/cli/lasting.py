"""An installation with something in every database."""

import time
from pathlib import Path

from polyroute.api.idempotency.v1.idempotency_pb2 import Answer
from polyroute.auth.wiring import assembled
from polyroute.cli.config import Config
from polyroute.mesh.config import DatabaseConfig
from polyroute.mesh.database import locate
from polyroute.metrics.idempotency.entries import Found
from polyroute.metrics.idempotency.store import Store as Answers
from polyroute.metrics.rows import row_of
from polyroute.metrics.store import Store as Calls
from polyroute.router.store import ChangeRow, DecisionRow, SlateRow, VersionRow
from polyroute.router.store import Store as Decisions
from tests.databases import prepare
from tests.unit.auth.money import KEY, treasury
from tests.unit.metrics.records import call

NUMBER = 30  # calls, decisions
ENTRY, PRINT = b"e" * 32, b"f" * 32  # of a call with an idempotency key
ANSWER = Answer(status=200, content_type="application/json", sealed=b"\x00sealed\xff")


def changed(before: VersionRow, after: VersionRow) -> ChangeRow:
    """A change of the catalog, by nobody in particular."""
    return ChangeRow(after.source, after.time_us, after.author, "ApplyCatalog", before.text, after.text)


def configured(folder: Path, database: DatabaseConfig | None = None) -> Config:
    """A configuration that says no more than where everything is."""
    return Config(data_dir=folder, database=database or DatabaseConfig())


async def lived_in(folder: Path) -> str:
    """Fills a data directory; the secret of the first key."""
    prepare(folder)
    async with assembled(Config().auth, data_dir=folder) as auth:
        secret = auth.first_secret or ""
    async with treasury(folder) as money:
        await money.budget(KEY, 10**12)
        for number in range(NUMBER):
            await money.hold(f"call-{number}", 100 + number)
            await money.charge(f"call-{number}", 90 + number)
    async with Decisions.open(locate("router", folder)) as decisions:
        rows = [DecisionRow(f"call-{number}", number, b"\x00\xff", "d", b"\x01") for number in range(NUMBER)]
        await decisions.keep(rows, [SlateRow(b"\x00\xff", 9, b"shared")])
        async with decisions.recording(VersionRow(0, "s", "v", 1, "me", "first", "models: {}"), changed):
            pass
    async with Calls.open(locate("metrics", folder)) as calls:
        await calls.insert([row_of(call(f"call-{number}")) for number in range(NUMBER)])
    async with Answers.open(locate("idempotency", folder), time.time, most_bytes=1 << 20) as answers:
        await answers.claim(ENTRY, PRINT, "call-1", 60.0)
        await answers.keep(ENTRY, "call-1", ANSWER)
    return secret


async def answered(folder: Path, database: DatabaseConfig | None = None) -> Found:
    """What a repetition of the call with an idempotency key meets."""
    location = locate("idempotency", folder, shared=database)
    async with Answers.open(location, time.time, most_bytes=1 << 20) as answers:
        return await answers.claim(ENTRY, PRINT, "again", 60.0)
