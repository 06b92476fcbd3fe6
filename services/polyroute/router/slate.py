"""The part of a decision that is the same for every call of a kind: who may serve, how they rank, and the messages.

Calls that ask the same models for the same work under the same wishes differ only in their draws among equals. So the
verdicts and the ranking are made once per kind of call and view, and plans are joined from serialised pieces: messages
that are joined end to end parse as their merge (https://protobuf.dev/programming-guides/encoding/). What a call adds is
a few draws; the cost does not grow with the number of deployments. The record of a call names its slate, and is written
out in full only for whoever asks.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from polyroute.api.router.v1 import router_pb2 as pb
from polyroute.router.draws import UNIT, Seats, Urn, numbers
from polyroute.router.estimate import expected
from polyroute.router.filters import Entrant, Judged, Kind, Panel
from polyroute.router.patience import timeouts
from polyroute.router.policies import Policy
from polyroute.router.ranking import Ranking, rank, wishes_of

_ID_BYTES: Final = 6


class Question(NamedTuple):
    """What a slate answers: everything that decides it but the deployments.

    Args:
        models: The public models that may serve, the first to be tried first.
        kind: Of the call.
        policy: What rules.
        wishes: The caller's preferences: those in the model's name, and those of the request.
        max_attempts: Most attempts in all, where neither policy nor caller says.
        versions: Of catalog and figures.
    """

    models: tuple[str, ...]
    kind: Kind
    policy: Policy
    wishes: tuple[pb.Preferences, ...]
    max_attempts: int
    versions: tuple[str, int]


class Picked(NamedTuple):
    """The order of one call.

    Args:
        order: Indices of runners, the first to be tried first.
        explored: The first is there to learn its figures.
        seat: The runner that the sticky key belongs to; -1 without.
    """

    order: list[int]
    explored: bool
    seat: int


class Slate:
    """The deployments of one or several models, judged and ranked for a kind of call.

    Args:
        question: What is asked.
        entrants: Every deployment of the models, in order.
    """

    def __init__(self, question: Question, entrants: Sequence[Entrant]) -> None:
        self.question = question
        self.judged = judged(question, entrants)
        policy = question.policy.message
        fallbacks = _fallbacks(question)
        self.runners = [one.entrant for one in self.judged if one.failed is None]
        self.relaxed = not self.runners and fallbacks
        if self.relaxed:
            self.runners = [one.entrant for one in self.judged if not one.barred]
            self.relaxed = bool(self.runners)
        wishes = wishes_of(policy, question.wishes)
        self.ranking: Ranking = rank(self.runners, question.models, question.kind, policy, wishes)
        self._most = policy.max_attempts or question.max_attempts
        if not fallbacks and not wishes.order:
            self._most = 1
        self._stages = [[Urn(group) for group in stage] for stage in self.ranking.stages]
        self._counts = counts([sum(len(urn.members) for urn in stage) for stage in self._stages], self._most)
        self._explore = policy.explore if self.ranking.unknown and self._most > 1 else 0.0
        self._seats = Seats(self.ranking.seats, [runner.deployment.name for runner in self.runners])
        self._several = len(question.models) > 1
        self._pieces = [_in_response(runner.deployment.attempt) for runner in self.runners]
        head = pb.DecideResponse(record=self._head())
        self._shared = head.SerializeToString() + (_in_response(self._plan_tail()) if self.runners else b"")
        self._whole = self._without_draws()

    def answer(self, request: pb.DecideRequest, sticky: str) -> pb.DecideResponse:
        """The plan of one call, and what its record says in any case; no plan when nobody may serve it.

        Args:
            request: The call.
            sticky: What keeps it together with others; empty when nothing does.
        """
        request_id = request.request_id
        if self._whole and not sticky:
            response = pb.DecideResponse.FromString(self._whole)
            record = response.record
            record.request_id = request_id
            record.requested_model = request.facts.model
            return response
        picked = self.pick(numbers(request_id), sticky)
        pieces = [self._pieces[index] for index in picked.order]
        pieces.append(self._shared)
        response = pb.DecideResponse.FromString(b"".join(pieces))
        record = response.record
        record.request_id = request_id
        record.requested_model = request.facts.model
        if self._several:  # the first of them need not be the first that is tried
            response.plan.model = record.resolved_model = self.runners[picked.order[0]].deployment.model
        if picked.explored:
            record.explored = True
        if picked.seat >= 0:
            record.seat = self.runners[picked.seat].deployment.name
        return response

    def pick(self, draws: Sequence[int], sticky: str) -> Picked:
        """The order for one call.

        Args:
            draws: As `draws.numbers` gives them; the first says whether it explores.
            sticky: What keeps it together with others; empty when nothing does.
        """
        chances = iter(draws)
        chance = next(chances) * UNIT
        seat = self._seats.of(sticky) if sticky and len(self._seats) else -1
        unknown = self.ranking.unknown
        if chance < self._explore and seat < 0:
            # the part of the unit below the share is as even as the whole
            first = unknown[int(chance / self._explore * len(unknown))]
            return Picked(self._order(chances, first), True, seat)
        return Picked(self._order(chances, seat), False, seat)

    def _without_draws(self) -> bytes:
        """The whole answer where nothing is left to chance, as nearly always when somebody sorts; else empty."""
        if not self.runners:
            return self._shared
        drawn = [urn for place in range(len(self._counts)) for urn in self._stages[place] if len(urn.members) > 1]
        if drawn or self._explore:
            return b""
        order = self._order(iter(()), -1)
        response = pb.DecideResponse.FromString(b"".join([self._pieces[index] for index in order]) + self._shared)
        if self._several:
            response.plan.model = response.record.resolved_model = self.runners[order[0]].deployment.model
        return response.SerializeToString()

    def _order(self, chances: Iterator[int], first: int) -> list[int]:
        order = [first] if first >= 0 else []
        for place, count in enumerate(self._counts):
            wanted = count - len(order) if place == 0 else count
            for urn in self._stages[place]:
                if wanted <= 0:
                    break
                drawn = urn.draw(chances, wanted, first)
                order += drawn
                wanted -= len(drawn)
        return order

    def _plan_tail(self) -> bytes:
        """A plan without its attempts."""
        question, policy = self.question, self.question.policy.message
        times = timeouts([runner.deployment for runner in self.runners], question.kind, policy.timeouts)
        model = question.models[0] if question.models else ""
        plan = pb.Plan(max_attempts=self._most, timeouts=times, model=model)
        if policy.hedge and self._most > 1 and len(self.runners) > 1:
            plan.hedge_after.SetInParent()  # when, health says of each call
        return plan.SerializeToString()

    def _head(self) -> pb.DecisionRecord:
        """The part of the record that all calls share."""
        question = self.question
        return pb.DecisionRecord(
            catalog_version=question.versions[0],
            resolved_model=question.models[0] if question.models else "",
            stats_version=question.versions[1],
            policy=question.policy.name,
            policy_version=question.policy.version,
            slate_id=self._id(),
            relaxed=self.relaxed,
        )

    def _id(self) -> str:
        question, kind = self.question, self.question.kind
        parts = [
            repr((question.models, kind[:2], kind.pictures, expected(kind), question.versions)),
            f"{question.policy.version} {question.max_attempts}",
            *(wish.SerializeToString(deterministic=True).hex() for wish in question.wishes),
            *(f"{one.failed is None} {one.entrant.obstacle} {_charged(one)}" for one in self.judged),
        ]
        return hashlib.blake2b("\0".join(parts).encode(), digest_size=_ID_BYTES).hexdigest()


def _charged(one: Judged) -> str:
    """By which price: prices may turn by the clock while the catalog stays."""
    price = one.entrant.deployment.price
    return "" if price is None else price.version


def _in_response(plan: bytes) -> bytes:
    """A part of a plan, serialised, as a part of a response that holds it."""
    return pb.DecideResponse(plan=pb.Plan.FromString(plan)).SerializeToString()


def wished(*preferences: pb.Preferences) -> tuple[pb.Preferences, ...]:
    """Those that say anything, as copies: a slate outlives the requests they came with."""
    copies = []
    for one in preferences:
        if one.ListFields():
            copies.append(pb.Preferences())
            copies[-1].CopyFrom(one)
    return tuple(copies)


def judged(question: Question, entrants: Sequence[Entrant]) -> list[Judged]:
    """Every deployment with the filters' verdicts."""
    panel = Panel(question.kind, question.policy.message.preferences, question.wishes)
    return [panel.judge(entrant) for entrant in entrants]


def counts(sizes: Sequence[int], most: int) -> list[int]:
    """How many attempts each stage gets: the first as many as it can use, but one is left for each that follows.

    Args:
        sizes: Deployments of each stage.
        most: Attempts in all.

    Returns:
        One number for each stage that gets any.
    """
    found: list[int] = []
    for place, size in enumerate(sizes):
        following = len(sizes) - place - 1
        left = most - sum(found)
        if left <= 0:
            break
        found.append(max(1, min(size, left - following)))
    return found


def _fallbacks(question: Question) -> bool:
    wishes = (question.policy.message.preferences, *question.wishes)
    return all(wish.allow_fallbacks or not wish.HasField("allow_fallbacks") for wish in wishes)
