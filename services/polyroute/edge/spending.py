"""What a key's calls may cost: whose money pays for them, and which deployments they may be made at.

A key of any class with a hard budget above it may go wherever the price is known. One that may spend only what a plan
includes is a purse of its own, whoever has budgets: auth lets nothing into it that no plan gave. One that may use only
what is free goes only where nothing is asked for anything.
"""

from collections.abc import Iterable
from typing import Final

from polyroute.api.auth.v1.auth_pb2 import SPEND_CLASS_FREE, SPEND_CLASS_INCLUDED, Verdict
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.router.v1.router_pb2 import Attempt, Price
from polyroute.mesh.errors import MeshError

_RATES: Final = ("input", "cache_read", "cache_write", "output", "reasoning", "request")


def narrow(verdict: Verdict) -> bool:
    """Whether a key may spend less than whatever its account has."""
    return verdict.HasField("scope") and verdict.scope.spend_class >= SPEND_CLASS_INCLUDED


def purse_of(verdict: Verdict) -> str:
    """The id of the key, project or account whose money is held for a call; empty where none is."""
    if not narrow(verdict):
        return verdict.purse
    return verdict.caller.key_id if verdict.scope.spend_class == SPEND_CLASS_INCLUDED else ""


def is_free(price: Price) -> bool:
    """Whether nothing is asked for anything, however long the call."""
    rates = (*(getattr(price, name) for name in _RATES), *price.other.values())
    return not any(rates) and all(is_free(tier.price) for tier in price.tiers)


def unpayable(verdict: Verdict, attempt: Attempt) -> MeshError | None:
    """Why a key may not make an attempt, for what it costs; None when it may."""
    if verdict.HasField("scope") and verdict.scope.spend_class == SPEND_CLASS_FREE:
        if attempt.HasField("price") and is_free(attempt.price):
            return None
        return MeshError(
            pb.REASON_NOT_PERMITTED,
            "this key may use only what is free, and no deployment of this model is",
            metadata={"model": attempt.model, "cause": "spend_class"},
        )
    if attempt.HasField("price") or not purse_of(verdict):
        return None
    return MeshError(
        pb.REASON_NO_DEPLOYMENT,
        "this key has a budget, and no price of this model is known",
        metadata={"model": attempt.model, "cause": "model_price_unknown"},
    )


def payable(verdict: Verdict, attempts: Iterable[Attempt]) -> list[Attempt]:
    """The attempts that a key may make: where its money is held those whose price is known, or only free ones.

    Raises:
        MeshError: REASON_NO_DEPLOYMENT, no price is known: what cannot be counted cannot be bounded;
            REASON_NOT_PERMITTED, none is free.
    """
    attempts = list(attempts)
    if not verdict.HasField("scope") and all(attempt.HasField("price") for attempt in attempts):
        return attempts  # as nearly always
    refusals: list[MeshError] = []
    found: list[Attempt] = []
    for attempt in attempts:
        refusal = unpayable(verdict, attempt)
        if refusal is None:
            found.append(attempt)
        else:
            refusals.append(refusal)
    if refusals and not found:
        raise refusals[0]
    return found
