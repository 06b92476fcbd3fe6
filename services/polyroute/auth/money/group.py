"""Group commit: what many callers want written at the same moment costs the disk one wait."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

from sqlalchemy import Connection

from polyroute.auth.database import UNANSWERED, Database

MOST: Final = 200  # pieces of work per transaction: the first of them waits for the last

T = TypeVar("T")
Work = Callable[[Connection], T]


@dataclass(slots=True)
class _Waiting:
    work: Work[Any]
    done: asyncio.Future[Any]


class Group:
    """Runs pieces of work one after the other, as many as wait in one transaction.

    Each is written whole or not at all: one that fails leaves the others of its transaction alone. Its caller hears of
    it after the commit; one that is cancelled stops waiting, and the work goes on.

    Args:
        database: Where is written.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: deque[_Waiting] = deque()
        self._task: asyncio.Task[None] | None = None

    async def run(self, work: Work[T]) -> T:
        """The outcome of `work`, once it is on the disk."""
        waiting = _Waiting(work, asyncio.get_running_loop().create_future())
        waiting.done.add_done_callback(_heard)
        self._waiting.append(waiting)
        if self._task is None:
            self._task = asyncio.create_task(self._drain())
        outcome: T = await asyncio.shield(waiting.done)
        return outcome

    async def close(self) -> None:
        """Waits for everything that was begun."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _drain(self) -> None:
        try:
            while self._waiting:
                await self._commit([self._waiting.popleft() for _ in range(min(MOST, len(self._waiting)))])
        finally:
            self._task = None

    async def _commit(self, batch: list[_Waiting]) -> None:
        outcomes: list[Any]
        try:
            outcomes = await self._database.write(partial(_all, [waiting.work for waiting in batch]))
        except Exception as error:  # noqa: BLE001 - the boundary of a transaction: each of its callers is told
            outcomes = [error] * len(batch)
        for waiting, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, Exception):
                waiting.done.set_exception(outcome)
            else:
                waiting.done.set_result(outcome)


def _all(works: list[Work[Any]], connection: Connection) -> list[Any]:
    return [_attempted(connection, work) for work in works]


def _attempted(connection: Connection, work: Work[T]) -> T | Exception:
    try:
        with connection.begin_nested():
            return work(connection)
    except UNANSWERED:
        raise  # there is no transaction any more: nothing of it was written
    except Exception as error:  # noqa: BLE001 - handed to the caller, once the others of the transaction are done
        return error


def _heard(done: asyncio.Future[Any]) -> None:
    """A caller that went away does not ask how it ended; asyncio would complain about that."""
    if not done.cancelled():
        done.exception()
