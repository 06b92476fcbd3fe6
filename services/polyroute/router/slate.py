"""The part of a decision that is the same for every call of a kind: who may serve, how they rank, and the messages.

Calls that ask one model for the same work differ only in their draws among equals. So the filters' verdicts and the
scores are computed once per kind of call and view, and kept in serialised form with open places: the positions, the
draws and the number of tokens the call needs. Filling these in and parsing the result costs a fraction of building the
messages field by field. Two rules of the encoding are relied on (https://protobuf.dev/programming-guides/encoding/):
serialised messages joined end to end parse as their merge, and a varint may be padded.
"""

import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from google.protobuf.duration_pb2 import Duration

from polyroute.api.chat.v1.chat_pb2 import Capability, Operation
from polyroute.api.router.v1.router_pb2 import Candidate, DecisionRecord, Plan, ScoreTerm, Timeouts, Verdict
from polyroute.router.catalog import Deployment, Model, Times
from polyroute.router.snapshot import View

POLICY: Final = "default"
_SICK_BELOW: Final = 0.5  # success rate of the last minute under which a deployment goes last in its tier
_UNIT: Final = 2.0**-32
_DOUBLE_BYTES: Final = 8
_CANDIDATE_TAG: Final = DecisionRecord(candidates=[Candidate()]).SerializeToString()[:1]
_OPEN_POSITION: Final = Candidate(position=0x3FFF).SerializeToString()  # two bytes of varint, as have all put there
_OPEN_DRAW: Final = Candidate(terms=[ScoreTerm(name="draw", value=1.0)]).SerializeToString()  # ends with the double


class Kind(NamedTuple):
    """What a call asks for, as far as filters care.

    Args:
        operation: Of chat.v1.
        needs: Capabilities that it cannot do without, in order and each once.
        tokens: Prompt by estimate, and the caller's bound of the answer; 0 when unknown.
    """

    operation: int
    needs: tuple[int, ...]
    tokens: int


class Ruling(NamedTuple):
    """A filter's verdict on a deployment: the fields of `Verdict`."""

    filter: str
    passed: bool
    observed: str


class Judged(NamedTuple):
    """A deployment and what the filters said of it."""

    deployment: Deployment
    rulings: tuple[Ruling, ...]
    failed: Ruling | None  # the first that did not let it pass


def judge(deployment: Deployment, kind: Kind, view: View) -> Judged:
    """Asks every filter that the call and the catalog give something to compare."""
    asked = (
        _by_operation(deployment, kind),
        _by_capability(deployment, kind),
        _by_context(deployment, kind),
        _by_provider(deployment, view),
    )
    rulings = tuple(ruling for ruling in asked if ruling is not None)
    return Judged(deployment, rulings, next((ruling for ruling in rulings if not ruling.passed), None))


def _by_operation(deployment: Deployment, kind: Kind) -> Ruling | None:
    if deployment.operations is None:
        return None
    if kind.operation in deployment.operations:
        return Ruling("operation", True, operation_word(kind.operation))
    words = ", ".join(operation_word(operation) for operation in sorted(deployment.operations))
    return Ruling("operation", False, f"serves {words}")


def _by_capability(deployment: Deployment, kind: Kind) -> Ruling | None:
    if not kind.needs or deployment.capabilities is None:
        return None
    missing = [need for need in kind.needs if need not in deployment.capabilities]
    observed = f"lacks {capability_words(missing)}" if missing else f"has {capability_words(kind.needs)}"
    return Ruling("capability", not missing, observed)


def _by_context(deployment: Deployment, kind: Kind) -> Ruling | None:
    if not kind.tokens or not deployment.context_tokens:
        return None
    passed = kind.tokens <= deployment.context_tokens
    return Ruling("context", passed, f"needs {kind.tokens} of {deployment.context_tokens}")


def _by_provider(deployment: Deployment, view: View) -> Ruling:
    obstacle = view.obstacle(deployment.provider)
    return Ruling("provider", not obstacle, obstacle)


class Slate:
    """The deployments of a model, judged for a kind of call and ready to be ordered.

    Args:
        model: Whose deployments.
        kind: What is asked; of its tokens only the digits, not their number, may differ from call to call.
        view: What is known.
    """

    def __init__(self, model: Model, kind: Kind, view: View) -> None:
        self.judged = tuple(judge(deployment, kind, view) for deployment in model.deployments)
        runners = [judged.deployment for judged in self.judged if judged.failed is None]
        self._tiers = _tiers(runners, view)
        self._chances = [(model.slots[runner.name], 1 / runner.weight) for runner in runners]
        self._attempts = [runner.attempt for runner in runners]
        self._plan = _plan(model, runners, view)
        self._tokens = kind.tokens
        self._codes = [_padded_varint(position) for position in range(1, len(runners) + 1)]
        self._form, self._parts = _record_form(model, self.judged, view)

    @property
    def empty(self) -> bool:
        """Nobody may serve such a call."""
        return not self._attempts

    def order(self, numbers: Sequence[int]) -> tuple[list[int], list[float]]:
        """The order of the runners and the draw of each.

        In a tier a deployment is drawn with the probability that its weight has among those that are left: the keys
        u ** (1 / weight) give exactly that (Efraimidis and Spirakis, 2006). A draw is 1 minus its key: lowest first.

        Args:
            numbers: One per deployment of the model, uniform from 0 to 2**32 - 1.
        """
        draws = [1.0 - ((numbers[slot] + 0.5) * _UNIT) ** power for slot, power in self._chances]
        order: list[int] = []
        for tier in self._tiers:
            order += sorted(tier, key=draws.__getitem__)
        return order, draws

    def plan(self, order: Sequence[int]) -> bytes:
        """The serialised plan."""
        attempts = self._attempts
        return b"".join([attempts[index] for index in order]) + self._plan

    def record(self, order: Sequence[int], draws: Sequence[float], tokens: int) -> bytes:
        """The serialised record, but for what names the call."""
        positions = self._codes.copy()
        for code, index in zip(self._codes, order, strict=True):
            positions[index] = code
        parts = self._parts.copy()
        parts[1::4] = positions
        parts[3::4] = draws
        record = self._form.pack(*parts)
        if tokens == self._tokens:
            return record
        return record.replace(b"needs %d of " % self._tokens, b"needs %d of " % tokens)


@lru_cache(maxsize=256)
def operation_word(number: int) -> str:
    """An operation as the catalog writes it, such as `chat`; its number when a newer peer knows more of them."""
    known = number in Operation.values()
    return Operation.Name(number).removeprefix("OPERATION_").lower() if known else str(number)  # type: ignore[arg-type]


def capability_words(numbers: Iterable[int]) -> str:
    """Capabilities as the catalog writes them, such as `tools, vision`."""
    return ", ".join(_capability_word(number) for number in numbers)


@lru_cache(maxsize=256)
def _capability_word(number: int) -> str:
    known = number in Capability.values()
    return Capability.Name(number).removeprefix("CAPABILITY_").lower() if known else str(number)  # type: ignore[arg-type]


def _tiers(runners: Sequence[Deployment], view: View) -> list[list[int]]:
    """The runners' indices by priority, lowest first, those that mostly fail apart and after the others of theirs."""
    tiers: dict[tuple[int, bool], list[int]] = {}
    for index, runner in enumerate(runners):
        sick = view.stats.success_rates.get(runner.name, 1.0) < _SICK_BELOW
        tiers.setdefault((runner.priority, sick), []).append(index)
    return [tiers[key] for key in sorted(tiers)]


def _plan(model: Model, runners: Sequence[Deployment], view: View) -> bytes:
    """A plan without its attempts. It has one set of times, so the most patient runner's: none is cut short."""
    timeouts = Timeouts()
    longest = map(max, zip(*(runner.times for runner in runners), strict=True))
    for name, seconds in zip(Times._fields, longest, strict=False):  # none without runners
        duration: Duration = getattr(timeouts, name)
        duration.FromMicroseconds(round(seconds * 1e6))
    return Plan(max_attempts=view.catalog.max_attempts, timeouts=timeouts, model=model.name).SerializeToString()


def _record_form(model: Model, judged: Sequence[Judged], view: View) -> tuple[struct.Struct, list[object]]:
    """The serialised record with open places, and the parts between them.

    The parts are, for each runner, what stands before its position, the position, what stands before its draw, and the
    draw; then the rest. Candidates that are not in the plan have no open place and join what stands before the next.
    """
    layout, parts = ["<"], list[object]()
    head = DecisionRecord(
        catalog_version=view.catalog.version,
        resolved_model=model.name,
        stats_version=view.stats.version,
        policy=POLICY,
    ).SerializeToString()
    for one in judged:
        name = Candidate(deployment=one.deployment.name).SerializeToString()
        verdicts = b"".join(map(_verdict, one.rulings))
        if one.failed is not None:
            head += _framed(name + verdicts)
            continue
        reasons = verdicts + _terms(one.deployment, view) + _OPEN_DRAW
        framed = _framed(name + _OPEN_POSITION + reasons)
        at = len(framed) - len(reasons) - 2
        before, between = head + framed[:at], framed[at + 2 : -_DOUBLE_BYTES]
        layout.append(f"{len(before)}sH{len(between)}sd")
        parts += [before, 0, between, 0.0]
        head = b""
    layout.append(f"{len(head)}s")
    parts.append(head)
    return struct.Struct("".join(layout)), parts


@lru_cache(maxsize=4096)
def _verdict(ruling: Ruling) -> bytes:
    return Candidate(verdicts=[Verdict(**ruling._asdict())]).SerializeToString()


@lru_cache(maxsize=4096)
def _term(name: str, value: float) -> bytes:
    return Candidate(terms=[ScoreTerm(name=name, value=value)]).SerializeToString()


def _terms(deployment: Deployment, view: View) -> bytes:
    """What gives a runner its place, heaviest first, but for the draw."""
    rate = view.stats.success_rates.get(deployment.name)
    priority = _term("priority", deployment.priority)
    return priority if rate is None else priority + _term("success_rate", rate)


def _framed(candidate: bytes) -> bytes:
    """A serialised candidate as a record of that one candidate."""
    length, size = bytearray(), len(candidate)
    while size > 0x7F:  # seven bits to a byte
        length.append(size & 0x7F | 0x80)
        size >>= 7
    length.append(size)
    return _CANDIDATE_TAG + bytes(length) + candidate


def _padded_varint(number: int) -> int:
    """A number below 2**14 as the two bytes of a varint, the low one first."""
    return number & 0x7F | 0x80 | number >> 7 << 8
