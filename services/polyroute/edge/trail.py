"""What becomes known of a call on its way: who calls, where it may go, and how each of its attempts went."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter, time_ns
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from polyroute.api.auth.v1.auth_pb2 import Caller
from polyroute.api.auth.v1.ledger_pb2 import Attribution, Settlement
from polyroute.api.chat.v1 import chat_pb2
from polyroute.api.chat.v1.chat_pb2 import RequestFacts, Usage
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.metrics.v1 import metrics_pb2
from polyroute.api.metrics.v1.metrics_pb2 import AttemptRecord
from polyroute.api.providers.v1.providers_pb2 import Finished, RelayResponse, Started
from polyroute.api.router.v1.router_pb2 import Attempt, DecideResponse, Price
from polyroute.edge.admission import Admission
from polyroute.edge.charging import (
    MOST_COUNTED,
    USUAL,
    Attempted,
    ChargeRow,
    Ending,
    bills_of,
    charges,
    ending_of,
    plausible,
)
from polyroute.edge.costs import cost_of
from polyroute.edge.errors import shape_of
from polyroute.edge.marks import Named
from polyroute.mesh.errors import MeshError

MILLION: Final = 1_000_000
NANO: Final = 1_000_000_000


@dataclass(slots=True)
class Trail:
    """One call from its first byte to its record.

    Attributes:
        request_id: The call's id.
        facts: What was read from the request; None until it was.
        caller: Who calls; None until auth said so.
        admission: What it takes of its key's limits and budget; None until it was let in.
        permitted: Models and aliases that the key may use; empty means all.
        mark_key: The project's secret for the ids of what vendors keep for it; empty until auth said so.
        named: What of a vendor's the request refers to.
        keeper: The provider that answers a relayed request; empty before, and of any other call.
        included: Those that its plan opens; empty means all.
        decision: The plan and why; None until the router decided.
        attempt: The attempt that is going on or gave the answer.
        started: What its vendor said at the beginning; None before.
        committed: Content was handed out: from here on there is no other attempt.
        kept: Its record is made; no other will be.
        recorded: That record is on the disk.
        tried: What each attempt may be charged for, with the price of its deployment.
        waits: Number of an attempt that failed -> seconds that its vendor asked to wait.
        other_keys: Numbers of those that failed by one key of several.
        trying_now: An attempt is going on.
        attempt_began: When it began, seconds of the performance counter.
        attempt_ns: The same in nanoseconds since the epoch.
        first_number: Of its first attempt; 2 in the trail of an attempt that runs beside the first.
        hedged: Number of the attempt that was begun beside another one; 0 when none was.
        noted: What it costs was written down while it ran.
        limit: Whose limit refused it; empty when none did, or when it is an address's.
    """

    request_id: str
    http: bool = True
    user: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    workflow: str = ""
    node: str = ""
    began: float = field(default_factory=perf_counter)
    wall_ns: int = field(default_factory=time_ns)
    facts: RequestFacts | None = None
    caller: Caller | None = None
    permitted: Sequence[str] = ()
    mark_key: bytes = b""
    named: Sequence[Named] = ()
    keeper: str = ""
    included: Sequence[str] = ()
    admission: Admission | None = None
    decision: DecideResponse | None = None
    attempt: Attempt | None = None
    started: Started | None = None
    committed: bool = False
    kept: bool = False
    recorded: bool = False
    outcome: metrics_pb2.Outcome.ValueType = metrics_pb2.OUTCOME_UNSPECIFIED
    reason: pb.Reason.ValueType = pb.REASON_UNSPECIFIED
    limit: str = ""
    status: int = 200
    usage: Usage | None = None
    finish: chat_pb2.FinishReason.ValueType = chat_pb2.FINISH_REASON_UNSPECIFIED
    content_events: int = 0
    first_token: float = 0.0
    upstream: float = 0.0
    attempts: list[AttemptRecord] = field(default_factory=list)
    waits: dict[int, float] = field(default_factory=dict)
    other_keys: set[int] = field(default_factory=set)
    tried: list[tuple[Attempted, Price | None]] = field(default_factory=list)
    trying_now: bool = False
    attempt_began: float = 0.0
    attempt_ns: int = 0
    first_number: int = 1
    hedged: int = 0
    noted: bool = False
    _outrun: "Trail | None" = None
    _call: "Trail | None" = None

    @property
    def call(self) -> "Trail":
        """The trail of the whole call: another one than this where two attempts run at once."""
        return self._call or self

    @property
    def over(self) -> bool:
        """Whether it is known how the call ended."""
        return self.outcome != metrics_pb2.OUTCOME_UNSPECIFIED

    @property
    def model(self) -> str:
        """The public model that serves, or is to serve; empty before a decision."""
        if self.attempt is not None and self.attempt.model:
            return self.attempt.model
        return self.decision.plan.model if self.decision is not None else ""

    @property
    def overhead(self) -> float:
        """Seconds that Polyroute itself added before the first content."""
        until = self.first_token or perf_counter() - self.began
        return max(0.0, until - self.upstream)

    def trying(self, attempt: Attempt) -> None:
        """An attempt begins."""
        self.attempt = attempt
        self.started = self.usage = None  # what the vendor before reported is charged for the attempt before
        self.content_events = 0
        self.trying_now = True
        self.attempt_began = perf_counter()
        self.attempt_ns = time_ns()
        self._followed()

    def _followed(self) -> None:
        """Has what the attempt costs so far written down every now and then, until it ends."""
        if self.admission is not None:
            self.admission.house.checkpoints.follow(self)

    def _forgotten(self) -> None:
        """Ends that."""
        if self.admission is not None:
            self.admission.house.checkpoints.forget(self)

    def mark(self, attempt: Attempt) -> bytes:
        """What the call is for, as a part of a settlement: for the report of a call that leaves no record."""
        call = self.call
        admission, facts = self.admission or call.admission, self.facts
        if admission is None or facts is None:
            return b""
        kind = admission.house.settler.heads.kind(facts.operation, attempt.provider)
        if not (call.user or call.workflow or call.node or call.tags):
            return kind
        said = Attribution(user=call.user, workflow_id=call.workflow, node_id=call.node, tags=call.tags)
        return kind + Settlement(attribution=said).SerializeToString()

    def so_far(self) -> tuple[bytes, Settlement] | None:
        """What the attempt would be charged if nothing more were heard of it; None when that is not known."""
        if not self.trying_now or self.attempt is None or self.admission is None or self.caller is None:
            return None
        if not self.attempt.HasField("price"):
            return None
        self.noted = True
        usage = self.usage
        if usage is None or usage.estimated or not plausible(usage):
            usage = self._delivered()
        settlement = Settlement(
            request_id=self.request_id,
            attempt=self.first_number + len(self.attempts),
            usage=usage,
            cost_nanos=cost_of(usage, self.attempt.price),
            price_version=self.attempt.price.version,
            deployment=self.attempt.deployment,
            model=self.attempt.model,
        )
        admission = self.admission
        head = admission.head or admission.house.settler.heads.caller(self.caller, admission.multiplier)
        return head + self.mark(self.attempt), settlement

    def opened(self, started: Started) -> None:
        """The attempt's vendor began to answer."""
        self.started = started

    def handed_out(self) -> None:
        """The first content goes to the caller."""
        self.committed = True
        self.first_token = perf_counter() - self.began
        if self.started is not None:
            self.upstream += self.started.upstream_microseconds / MILLION

    def relayed(self, response: RelayResponse) -> None:
        """A vendor's own answer begins, whatever it says."""
        self.status = response.status
        waited = int((perf_counter() - self.attempt_began) * MILLION)
        self.started = Started(upstream_microseconds=waited, passthrough=True, key_mark=response.key_mark)
        self.keeper = response.provider
        self.handed_out()

    def failed(self, error: MeshError) -> None:
        """The attempt failed."""
        sent = error.reason == pb.REASON_UPSTREAM
        ending = ending_of(error.fault, content=self.committed) if sent else Ending.UNSENT
        record = self._ended(error.fault, ending, error)
        if error.retry_after is not None:
            self.waits[self.first_number + len(self.attempts) - 1] = error.retry_after
        if "other_keys" in error.metadata:
            self.other_keys.add(self.first_number + len(self.attempts) - 1)
        record.cancelled = error.reason != pb.REASON_UPSTREAM  # a failure of the mesh says nothing of the vendor
        if not self.committed:
            self.upstream += perf_counter() - self.attempt_began

    def apart(self, number: int) -> "Trail":
        """The trail of one of two attempts that run at once, until it is known which of them answers."""
        return Trail(
            self.request_id,
            http=self.http,
            facts=self.facts,
            caller=self.caller,
            began=self.began,
            first_number=number,
            hedged=2,
            admission=self.admission if number > self.first_number else None,  # the first is followed by this one
            _call=self,
        )

    def joined(self, winner: "Trail", loser: "Trail | None") -> None:
        """One of two attempts answers: what became known of it is known of the call. The other one is given up."""
        if loser is not None:
            self.hedged = winner.hedged
            if loser.trying_now:
                loser.given_up()
            if loser.first_number < winner.first_number:
                self.take(loser)
        self.attempt, self.started = winner.attempt, winner.started
        self.usage, self.outcome, self.finish = winner.usage, winner.outcome, winner.finish
        self.content_events = winner.content_events
        self.trying_now, self.attempt_began, self.attempt_ns = (
            winner.trying_now,
            winner.attempt_began,
            winner.attempt_ns,
        )
        self.take(winner)
        winner._forgotten()  # noqa: SLF001 - another trail of the same call, which goes on in this one
        if self.trying_now:
            self._followed()
        else:
            self._forgotten()
        if loser is not None and loser.first_number > winner.first_number:
            self._outrun = loser
            if not self.trying_now:
                self._take_outrun()

    def given_up(self) -> None:
        """The attempt that is going on is ended from this side."""
        self._ended(pb.FAULT_UNSPECIFIED, Ending.CANCELLED).cancelled = True

    def take(self, other: "Trail") -> None:
        """Adds the attempts of another trail."""
        self.attempts += other.attempts
        self.noted |= other.noted
        self.tried += other.tried
        self.waits |= other.waits
        self.other_keys |= other.other_keys

    def _take_outrun(self) -> None:
        if self._outrun is not None:
            self.take(self._outrun)
            self._outrun = None

    def waited(self, seconds: float) -> None:
        """Waiting before another try is not overhead either."""
        self.upstream += seconds

    def completed(self, usage: Usage, finished: Finished) -> None:
        """The whole answer has come."""
        self.usage = usage
        self.finish = finished.reason
        self.outcome = metrics_pb2.OUTCOME_COMPLETED
        record = self._ended(pb.FAULT_UNSPECIFIED, Ending.COMPLETED)
        record.first_token_microseconds = finished.first_token_microseconds
        record.total_microseconds = finished.total_microseconds
        record.output_tokens = max(0, min(MOST_COUNTED, usage.output_tokens + usage.reasoning_tokens))

    def ended(self, error: MeshError) -> None:
        """The call ends with an error."""
        if self.over:
            return
        self.reason = error.reason
        self.limit = error.metadata.get("scope", "")
        self.status = shape_of(error).status if not self.committed else 200
        if self.committed:
            self.outcome = metrics_pb2.OUTCOME_BROKEN
            self.usage = self.usage or self._delivered()
        else:
            self.outcome = metrics_pb2.OUTCOME_FAILED if self.attempts else metrics_pb2.OUTCOME_REFUSED

    def left(self) -> None:
        """The caller went away, or the process stops."""
        if self.over:
            return
        self.outcome = metrics_pb2.OUTCOME_CANCELLED
        self.status = 499
        if self.trying_now:  # not while waiting between two attempts: the last one is on record
            self.given_up()
            self.usage = self.usage or self._delivered()

    def _delivered(self) -> Usage:
        """What the vendor will charge for an answer that was cut: the prompt and what was handed out."""
        facts = self.facts
        return Usage(
            input_tokens=facts.input_tokens_estimate if facts else 0,
            output_tokens=self.content_events,
            estimated=True,
        )

    def _ended(self, fault: pb.Fault.ValueType, ending: Ending, error: MeshError | None = None) -> AttemptRecord:
        assert self.attempt is not None  # noqa: S101 - only an attempt that began can end
        self.trying_now = False
        self._forgotten()
        reported = self.usage if self.usage is not None and not self.usage.estimated else None
        number = self.first_number + len(self.attempts)
        attempted = Attempted(
            number=number,
            ending=ending,
            reported=reported,
            prompt_tokens=self.facts.input_tokens_estimate if self.facts else 0,
            delivered_tokens=self.usage.output_tokens if self.usage and not reported else self.content_events,
            most_tokens=self.facts.max_output_tokens if self.facts else 0,
            bills=bills_of(self.attempt.billing) if self.attempt.HasField("billing") else USUAL,
        )
        self.tried.append((attempted, self.attempt.price if self.attempt.HasField("price") else None))
        record = AttemptRecord(
            deployment=self.attempt.deployment,
            provider=self.attempt.provider,
            fault=fault,
            upstream_status=int(error.metadata.get("upstream_status") or 0) if error else 0,
            total_microseconds=int((perf_counter() - self.attempt_began) * MILLION),
            start_time=timestamp(self.attempt_ns),
            hedged=number == self.hedged,
            passed_on=self.attempt.passed_on,
        )
        self.attempts.append(record)
        self._take_outrun()
        return record

    def rows(self) -> list[ChargeRow]:
        """What the attempts so far are charged."""
        return charges(
            (attempted, None if price is None else partial(cost_of, price=price)) for attempted, price in self.tried
        )


def timestamp(nanoseconds: int) -> Timestamp:
    """A moment, given in nanoseconds since the Unix epoch."""
    return Timestamp(seconds=nanoseconds // NANO, nanos=nanoseconds % NANO)
