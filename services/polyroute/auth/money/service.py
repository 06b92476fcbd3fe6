"""LedgerService: messages into holds and charges, and their outcome into messages."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import grpc

from polyroute.api.auth.v1 import auth_pb2, ledger_pb2_grpc
from polyroute.api.auth.v1 import ledger_pb2 as pb
from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth import messages
from polyroute.auth.money.budgets import payer_of
from polyroute.auth.money.entries import Payer
from polyroute.auth.money.holds import ALLOWANCE_SECONDS, ARRIVAL_SECONDS, Wanted
from polyroute.auth.money.ledger import Ledger
from polyroute.mesh.errors import MeshError

Context = grpc.aio.ServicerContext[Any, Any]


class LedgerService(ledger_pb2_grpc.LedgerServiceServicer):
    """Holds and charges, over the contract.

    Args:
        ledger: Where they are made.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def Hold(self, request: pb.HoldRequest, context: Context) -> pb.HoldResponse:  # noqa: N802
        """Reserves the most a call can cost."""
        needed = request.amount_nanos
        wanted = Wanted(
            request.request_id,
            _payer(request.caller),
            needed,
            request.least_nanos if request.HasField("least_nanos") else needed,
            expires=messages.micros(request, "expire_time"),
        )
        return pb.HoldResponse(held_nanos=await self._ledger.hold(wanted))

    async def Settle(self, request: pb.SettleRequest, context: Context) -> pb.SettleResponse:  # noqa: N802
        """Charges what attempts did cost."""
        posted = await self._ledger.settle([messages.charge(settlement) for settlement in request.settlements])
        return pb.SettleResponse(posted=posted)

    async def Void(self, request: pb.VoidRequest, context: Context) -> pb.VoidResponse:  # noqa: N802
        """Gives a whole hold back."""
        await self._ledger.void(request.request_id)
        return pb.VoidResponse()

    async def Allot(self, request: pb.AllotRequest, context: Context) -> pb.AllotResponse:  # noqa: N802
        """Reserves money for many calls."""
        payer = payer_of(*_payer(request.caller), request.purse)
        least = min(request.least_nanos, request.needed_nanos)
        lasts = 0.0
        if request.HasField("longest_call"):  # no call that it pays for is under way later
            lasts = ALLOWANCE_SECONDS + max(0.0, messages.seconds(request.longest_call)) + ARRIVAL_SECONDS
        wanted = Wanted(request.allowance_id, payer, request.needed_nanos, least, holder=request.holder, lasts=lasts)
        granted = await self._ledger.allot(wanted, request.purse)
        return pb.AllotResponse(granted_nanos=granted, usable_for=messages.duration(ALLOWANCE_SECONDS))

    async def GiveBack(self, request: pb.GiveBackRequest, context: Context) -> pb.GiveBackResponse:  # noqa: N802
        """Gives back of allowances what no call needs."""
        await self._ledger.give_back([(one.allowance_id, one.sequence, one.amount_nanos) for one in request.returned])
        return pb.GiveBackResponse()

    async def EndHolder(self, request: pb.EndHolderRequest, context: Context) -> pb.EndHolderResponse:  # noqa: N802
        """Charges and gives back what a process that has ended left open."""
        lost, allowances = await self._ledger.end_holder(request.holder)
        return pb.EndHolderResponse(lost=lost, allowances=allowances)

    async def WatchAdjustments(  # noqa: N802
        self, request: pb.WatchAdjustmentsRequest, context: Context
    ) -> AsyncGenerator[pb.WatchAdjustmentsResponse]:
        """Pushes corrections and charges of lost calls."""
        async with aclosing(self._ledger.outbox.watch(request.after_sequence)) as messages:
            async for message in messages:
                yield message

    async def GetTightestBudget(  # noqa: N802 - the contract's name
        self, request: pb.GetTightestBudgetRequest, context: Context
    ) -> pb.GetTightestBudgetResponse:
        """Says which hard budget bounds a caller most."""
        found = await self._ledger.tightest(_payer(request.caller))
        return pb.GetTightestBudgetResponse(budget=None if found is None else messages.budget(found))


def _payer(caller: auth_pb2.Caller) -> Payer:
    payer = messages.payer(caller)
    if payer is None:
        raise MeshError(
            errors_pb2.REASON_INVALID_REQUEST, "nobody is named who pays", metadata={"param": "caller.account_id"}
        )
    return payer
