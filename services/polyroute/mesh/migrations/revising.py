"""Writes a new revision: what a service's tables in the source have that its migrations do not make yet.

What comes of it is looked over by its author, who adds what no comparison can know: how rows get from here to there.
"""

import asyncio
import re
import tempfile
from pathlib import Path
from typing import Any, Final

from alembic.autogenerate import produce_migrations, render_python_code
from sqlalchemy import Connection

from polyroute.mesh.database import Location
from polyroute.mesh.migrations.history import History, migration_context

_PAGE: Final = '''\
"""{what}."""

import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = {before}


def upgrade() -> None:
    """{what}."""
{upgrade}


def downgrade() -> None:
    """Takes that back."""
{downgrade}
'''


def write(history: History, what: str) -> Path | None:
    """Writes the revision that is missing, for its author to look over; the file, None when nothing is missing."""
    found = asyncio.run(_missing(history))
    if found is None:
        return None
    number = f"{len(history.revisions) + 1:04}"
    name = re.sub(r"[^a-z0-9]+", "_", what.lower()).strip("_")
    path = history.folder / f"v{number}_{name}.py"
    before = f'"{history.head}"' if history.revisions else "None"
    page = _PAGE.format(what=what, revision=number, before=before, upgrade=found[0], downgrade=found[1])
    path.write_text(page, encoding="utf-8")
    return path


async def _missing(history: History) -> tuple[str, str] | None:
    """The bodies of the way up and the way down."""
    with tempfile.TemporaryDirectory() as folder:
        location = Location(history.service, Path(folder) / "fresh.db")
        if history.revisions:
            await history.upgrade(location)
        engine = location.writer()
        async with engine.begin() as connection:
            found = await connection.run_sync(_compared, history)
        await engine.dispose()
        return found


def _compared(connection: Connection, history: History) -> tuple[str, str] | None:
    script = produce_migrations(migration_context(connection), history.metadata)
    if script.upgrade_ops is None or script.downgrade_ops is None or script.upgrade_ops.is_empty():
        return None
    return _rendered(script.upgrade_ops), _rendered(script.downgrade_ops)


def _rendered(steps: Any) -> str:
    code = render_python_code(steps)
    return "\n".join(line.rstrip() for line in code.splitlines() if not line.lstrip().startswith("#"))
