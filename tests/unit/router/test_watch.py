"""A watch outlives its peer."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from grpc.aio import Metadata

from polyroute.router.watch import follow


class Peer:
    """Gives the prepared watches one after the other: messages, an exception that breaks it, None for silence."""

    def __init__(self, *watches: list[int | Exception | None]) -> None:
        self._watches = list(watches)

    async def watch(self) -> AsyncIterator[int]:
        """The next watch."""
        for item in self._watches.pop(0):
            if item is None:
                await asyncio.Event().wait()
            elif isinstance(item, Exception):
                raise item
            else:
                yield item


def unavailable() -> grpc.aio.AioRpcError:
    """What a peer that is not there gives."""
    return grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, Metadata(), Metadata())


async def run(peer: Peer, messages: int) -> tuple[list[int], list[float], int]:
    """Follows until that many messages came; gives them, the waits between, and how often the watch was lost."""
    seen: list[int] = []
    waits: list[float] = []
    lost: list[None] = []
    done = asyncio.Event()

    def accept(message: int) -> None:
        seen.append(message)
        if len(seen) == messages:
            done.set()

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        await asyncio.sleep(0)

    task = asyncio.create_task(follow("peer", peer.watch, accept, lost=lambda: lost.append(None), sleep=sleep))
    await done.wait()
    task.cancel()
    return seen, waits, len(lost)


async def test_messages_survive_broken_and_ended_watches() -> None:
    """Whatever ends a watch, it is opened again."""
    seen, _, lost = await run(Peer([unavailable()], [1, unavailable()], [2], [3, 4, None]), 4)

    assert [1, 2, 3, 4] == seen
    assert 3 == lost


async def test_waits_grow_and_start_again_after_success() -> None:
    """A peer that is away is asked less and less often, at least every two seconds, and quickly again after a word."""
    away: list[list[int | Exception | None]] = [[unavailable()] for _ in range(8)]

    _, waits, _ = await run(Peer(*away, [1, unavailable()], [2, None]), 2)

    assert all(0.05 <= wait <= 2 for wait in waits)
    assert 1 <= waits[7]
    assert 0.1 >= waits[8]


async def test_a_bug_is_not_hidden() -> None:
    """Only what the peer does is waited out."""
    with pytest.raises(ValueError, match="ours"):
        await follow("peer", Peer([ValueError("ours")]).watch, lambda _: None)
