"""ChangeLogService: what other roles changed, into the log of administrative changes."""

from typing import Any

from sqlalchemy import Connection

from polyroute.api.auth.v1 import changes_pb2 as pb
from polyroute.api.auth.v1 import changes_pb2_grpc
from polyroute.auth.admin import journal
from polyroute.auth.admin.journal import Told
from polyroute.auth.database import Database


class ChangeLogService(changes_pb2_grpc.ChangeLogServiceServicer):
    """The log, for the roles of the mesh.

    Args:
        database: Where it is.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def RecordChanges(self, request: pb.RecordChangesRequest, context: Any) -> pb.RecordChangesResponse:  # noqa: N802
        """Appends changes, each once."""
        told = [_told(change) for change in request.changes]

        def work(connection: Connection) -> None:
            for one in told:
                journal.append(connection, one)

        await self._database.write(work)
        return pb.RecordChangesResponse()


def _told(change: pb.RecordedChange) -> Told:
    return Told(
        change.id,
        change.time.ToMicroseconds(),
        change.actor,
        change.action,
        change.resource,
        change.before,
        change.after,
    )
