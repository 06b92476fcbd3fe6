"""One decision: what a call asks for, against a view, gives a plan and the record of how it came about.

Pure and deterministic: every draw comes from a hash of the call's id, so the same call, catalog, providers and figures
give the same plan. A call goes through `resolve` (which model is meant), the filters (who may serve it, `slate.judge`)
and the order (who is tried first, `slate.Slate.order`): priority tiers ascending, in a tier drawn by weight, and those
that failed most of their calls in the last minute at their tier's end.
"""

import hashlib
import struct
from bisect import bisect_left
from typing import Final, NamedTuple, cast

from polyroute.api.chat.v1.chat_pb2 import RequestFacts
from polyroute.api.errors.v1.errors_pb2 import REASON_MODEL_NOT_FOUND, REASON_NO_DEPLOYMENT
from polyroute.api.router.v1.router_pb2 import DecideRequest, DecideResponse
from polyroute.mesh.errors import MeshError
from polyroute.router.catalog import Alias, Catalog, Model
from polyroute.router.slate import Kind, Slate, capability_words, operation_word
from polyroute.router.snapshot import View

_MAX_PREPARED: Final = 4096  # kinds of calls per view; a caller may think of many
_NAMED: Final = 5  # deployments named per filter in a refusal


class Resolved(NamedTuple):
    """The model that is meant, and the alias that led to it, such as `fast -> gpt-6-sol (90 of 100)`; may be empty."""

    model: Model
    alias: str


def decide(request: DecideRequest, view: View) -> DecideResponse:
    """The plan for a call, and its record.

    Raises:
        MeshError: REASON_MODEL_NOT_FOUND, or REASON_NO_DEPLOYMENT when every deployment was filtered out.
    """
    facts = request.facts
    model, alias = resolve(view.catalog, facts.model, request.request_id)
    kind = _kind(facts)
    slate = _slate(model, kind, view)
    if slate.empty:
        raise _no_deployment(model, kind, slate)
    order, draws = slate.order(_numbers(request.request_id, len(model.deployments)))
    response = DecideResponse()
    response.plan.MergeFromString(slate.plan(order))
    record = response.record
    record.MergeFromString(slate.record(order, draws, kind.tokens))
    record.request_id = request.request_id
    record.requested_model = facts.model
    if alias:
        record.alias = alias
    return response


def resolve(catalog: Catalog, name: str, request_id: str) -> Resolved:
    """Which model a name means for this call; an alias of several gives each call its own draw, by weight.

    Raises:
        MeshError: REASON_MODEL_NOT_FOUND, with the names that may have been meant.
    """
    entry = catalog.lookup(name)
    trail: list[str] = []
    while isinstance(entry, Alias):
        if not trail:
            trail.append(entry.name)
        target, share = _draw(entry, request_id)
        trail.append(f"{target}{share}")
        entry = catalog.entries[target]
    if entry is None:
        raise _not_found(catalog, name)
    return Resolved(entry, " -> ".join(trail))


def _draw(alias: Alias, request_id: str) -> tuple[str, str]:
    """A target and its share in words. The alias is part of the hash: nested aliases draw apart from each other."""
    if len(alias.targets) == 1:
        return alias.targets[0][0], ""
    total = sum(weight for _, weight in alias.targets)
    digest = hashlib.blake2b(f"{request_id}\0{alias.name}".encode(), digest_size=8).digest()
    point = int.from_bytes(digest, "little") * total >> 64
    for name, weight in alias.targets:
        if point < weight:
            return name, f" ({weight} of {total})"
        point -= weight
    raise AssertionError("a point below the total lies in one of the weights")


def _kind(facts: RequestFacts) -> Kind:
    needs = tuple(facts.needs)
    if len(needs) > 1:
        needs = tuple(sorted(set(needs)))
    tokens = facts.input_tokens_estimate
    # without an estimate the bound of the answer alone says little about what the call needs
    return Kind(facts.operation, needs, tokens + max(0, facts.max_output_tokens) if tokens else 0)


def _slate(model: Model, kind: Kind, view: View) -> Slate:
    """The slate of such calls, prepared once per view. Names that are merely passed on are without number: not kept."""
    tokens = kind.tokens
    key = (model, kind.operation, kind.needs, bisect_left(model.context_limits, tokens), len(str(tokens)))
    slate = cast("Slate | None", view.prepared.get(key))
    if slate is None:
        slate = Slate(model, kind, view)
        if model.name in view.catalog.entries:
            if len(view.prepared) >= _MAX_PREPARED:
                view.prepared.clear()
            view.prepared[key] = slate
    return slate


def _numbers(request_id: str, count: int) -> tuple[int, ...]:
    digest = hashlib.shake_128(request_id.encode()).digest(4 * count)
    return struct.unpack(f"<{count}I", digest)


def _not_found(catalog: Catalog, name: str) -> MeshError:
    similar = catalog.similar(name)
    meant = f", did you mean {' or '.join(repr(other) for other in similar)}?" if similar else ""
    return MeshError(REASON_MODEL_NOT_FOUND, f"unknown model {name!r}{meant}", metadata={"model": name})


def _no_deployment(model: Model, kind: Kind, slate: Slate) -> MeshError:
    removed: dict[str, list[str]] = {}
    for deployment, verdict in ((judged.deployment, judged.failed) for judged in slate.judged):
        if verdict is not None:
            observed = f"needs {kind.tokens} tokens" if verdict.filter == "context" else verdict.observed
            removed.setdefault(f"{verdict.filter} ({observed})", []).append(deployment.name)
    reasons = "; ".join(f"{reason} rules out {_few(names)}" for reason, names in removed.items())
    return MeshError(
        REASON_NO_DEPLOYMENT,
        f"no deployment of {model.name!r} can serve this call: {reasons}",
        metadata={"model": model.name, "needs": _needs(kind)},
    )


def _few(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _needs(kind: Kind) -> str:
    """What the call asks for in words, such as `chat, vision, 5210 tokens`."""
    words = [operation_word(kind.operation)]
    if kind.needs:
        words.append(capability_words(kind.needs))
    if kind.tokens:
        words.append(f"{kind.tokens} tokens")
    return ", ".join(words)
