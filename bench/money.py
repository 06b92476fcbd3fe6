"""What money costs a call: microseconds of CPU, the best of many rounds. `python -m bench.money` prints a table.

Edge and auth are in one process, on SQLite, as `polyroute up` has them; an account's hard budget pays for every call.
`path` is what the caller waits for: authorize, admit, hold, write down that the attempt begins, settle; it is measured
as a whole, and its parts in rounds of their own, where a look at the clock stands between them. `all` is the path and
what follows beside the calls: charges shipped in batches, checked by auth, and committed to the ledger.
"""

import asyncio
import gc
import math
import random
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog
from sqlalchemy import insert

from polyroute.api.auth.v1 import auth_pb2, auth_pb2_grpc
from polyroute.api.auth.v1.auth_pb2 import Caller, Verdict
from polyroute.api.auth.v1.ledger_pb2_grpc import LedgerServiceStub
from polyroute.api.chat.v1.chat_pb2 import OPERATION_CHAT, RequestFacts, Usage
from polyroute.api.router.v1.router_pb2 import Attempt, Price
from polyroute.auth import schema
from polyroute.auth.config import AuthConfig
from polyroute.auth.money.periods import Period
from polyroute.auth.wiring import Auth, assembled
from polyroute.cli.serve import GC_THRESHOLD
from polyroute.edge.admission import Admission
from polyroute.edge.allowance import Allowances
from polyroute.edge.authorizer import Authorizer
from polyroute.edge.charging import Attempted, ChargeRow, Ending, charge
from polyroute.edge.costs import cost_of
from polyroute.edge.intents import Intents
from polyroute.edge.settler import Settler
from polyroute.mesh.background import Background
from polyroute.mesh.config import MeshConfig
from polyroute.mesh.node import Node, Service
from polyroute.mesh.shipper import Shipper
from polyroute.mesh.spool import Spool

KEYS: Final = (10, 1_000, 100_000)
ROUNDS: Final = 12
CALLS: Final = 1000  # in a round
ACCOUNT, PROJECT = "acc_bench", "prj_bench"
BUDGET: Final = 10**15  # nano-USD
SHIP_SECONDS: Final = 0.25  # as the edge has it
PRICE: Final = Price(input=1_500_000, output=6_000_000, version="bench")
PLAN: Final = [Attempt(deployment="a/x", model="m", price=PRICE)]
FACTS: Final = RequestFacts(operation=OPERATION_CHAT, model="m", input_tokens_estimate=400, max_output_tokens=200)
USED: Final = Usage(input_tokens=400, output_tokens=150)


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU of one call, microseconds."""

    authorize: float = math.inf
    admit: float = math.inf
    settle: float = math.inf
    path: float = math.inf
    everything: float = math.inf


class Known(auth_pb2_grpc.AuthServiceServicer):
    """Knows every key, so that a hundred thousand of them are there in seconds; what is measured begins after that."""

    async def Authorize(self, request: auth_pb2.AuthorizeRequest, context: Any) -> auth_pb2.AuthorizeResponse:  # noqa: N802
        """All keys are of one account, which pays."""
        caller = Caller(account_id=ACCOUNT, project_id=PROJECT, key_id=f"key_{request.credential}")
        response = auth_pb2.AuthorizeResponse(verdict=Verdict(caller=caller, purse=ACCOUNT))
        response.verdict.fresh_for.FromSeconds(3600)
        response.verdict.usable_for.FromSeconds(3600)
        return response

    async def GetCommonLimits(  # noqa: N802
        self, request: auth_pb2.GetCommonLimitsRequest, context: Any
    ) -> auth_pb2.GetCommonLimitsResponse:
        """There are none."""
        return auth_pb2.GetCommonLimitsResponse()


@dataclass
class Rig:
    """An edge's part of the path, before a real ledger."""

    authorizer: Authorizer
    allowances: Allowances
    spool: Spool
    credentials: Sequence[str]
    numbers: int = 0

    async def round(self) -> Cost:
        """Some calls one after the other, and everything that follows from them."""
        began = time.process_time()
        for credential in random.choices(self.credentials, k=CALLS):
            verdict = await self.authorizer.verdict(credential)
            admission = await self._held(verdict)
            admission.close(_rows(), USED)
        path = time.process_time() - began
        await self._shipped()
        return Cost(path=path / CALLS * 1e6, everything=(time.process_time() - began) / CALLS * 1e6)

    async def parts(self) -> Cost:
        """The same, with a look at the clock after each step."""
        clock = time.process_time
        spent = [0.0, 0.0, 0.0]
        for credential in random.choices(self.credentials, k=CALLS):
            at = clock()
            verdict = await self.authorizer.verdict(credential)
            authorized = clock()
            admission = await self._held(verdict)
            admitted = clock()
            admission.close(_rows(), USED)
            settled = clock()
            for place, seconds in enumerate((authorized - at, admitted - authorized, settled - admitted)):
                spent[place] += seconds
        await self._shipped()
        return Cost(*(seconds / CALLS * 1e6 for seconds in spent))

    async def _held(self, verdict: Verdict) -> Admission:
        self.numbers += 1
        admission = await self.allowances.admit(verdict, FACTS)
        await admission.hold(f"req_{self.numbers:032}", PLAN, FACTS)
        admission.sent(1, PLAN[0])
        return admission

    async def _shipped(self) -> None:
        while self.spool.pending:  # noqa: ASYNC110 - what empties it tells nobody
            await asyncio.sleep(0.01)


def _rows() -> list[ChargeRow]:
    row = charge(Attempted(1, Ending.COMPLETED, USED), lambda used: cost_of(used, PRICE))
    return [] if row is None else [row]


async def measured(folder: Path, keys: int, rounds: int = ROUNDS) -> Cost:
    """The cost of a call among so many keys: of each part the best round."""
    async with AsyncExitStack() as stack:
        auth = await stack.enter_async_context(assembled(AuthConfig(), data_dir=folder / "data"))
        await _funded(auth)
        node = Node(MeshConfig(drain_delay=0), frozenset({"auth"}), folder / "run")
        stack.push_async_callback(node.close)
        known = Service(auth_pb2_grpc.add_AuthServiceServicer_to_server, Known())  # type: ignore[abstract]
        await stack.enter_async_context(node.serve("auth", known, *auth.services[1:]))
        spool = Spool(folder / "spool")
        stack.callback(spool.close)
        channel = node.channel("auth")
        stub, ledger = auth_pb2_grpc.AuthServiceStub(channel), LedgerServiceStub(channel)
        settler = Settler(spool, ledger)
        clock = asyncio.get_running_loop().time
        intents = Intents(folder / "intents")
        stack.callback(intents.close)
        allowances = Allowances(stub, ledger, settler, clock, time.time, intents=intents)
        await stack.enter_async_context(Shipper(spool, settler.send, every=SHIP_SECONDS))
        tasks = await stack.enter_async_context(Background())
        tasks.start("allowances", allowances.run)
        rig = Rig(Authorizer(stub, 5.0, clock), allowances, spool, [f"{number:06}" for number in range(keys)])
        for credential in rig.credentials:
            await rig.authorizer.verdict(credential)
        await rig.round()
        gc.collect()
        gc.freeze()  # as a process of the gateway does when it has started
        gc.set_threshold(GC_THRESHOLD, 20, 20)
        costs = [await work() for _ in range(rounds) for work in (rig.round, rig.parts)]
    return Cost(*(min(getattr(cost, name) for cost in costs) for name in Cost.__slots__))


async def _funded(auth: Auth) -> None:
    row = {"id": "bud_bench", "scope": ACCOUNT, "period": Period.TOTAL, "time_zone": "", "amount": BUDGET}
    row |= {"hard": True, "prepaid": False, "started": 0, "ends": None, "spent": 0, "held": 0, "created": 0}
    await auth.ledger.transact(lambda connection, _: connection.execute(insert(schema.budgets).values(row)))


def main() -> None:
    """Prints the table."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))  # warnings
    print("| keys | authorize | admit, hold | settle | path | all |")
    print("|---|---|---|---|---|---|")
    for keys in KEYS:
        with tempfile.TemporaryDirectory() as folder:
            cost = asyncio.run(measured(Path(folder), keys))
        row = (cost.authorize, cost.admit, cost.settle, cost.path, cost.everything)
        print(f"| {keys:,} | " + " | ".join(f"{figure:.1f} us" for figure in row) + " |", flush=True)


if __name__ == "__main__":
    main()
