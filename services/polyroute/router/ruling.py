"""Which policy rules a call: the first rule that matches, else the default; a schedule says which that is now."""

from typing import NamedTuple

from polyroute.api.errors.v1.errors_pb2 import REASON_NOT_FOUND
from polyroute.mesh.errors import MeshError
from polyroute.router.catalog import Catalog
from polyroute.router.policies import Policy
from polyroute.router.policyconfig import RuleConfig
from polyroute.router.schedules import Ruled, preview, ruling, switched
from polyroute.router.spelling import hint


class Ruling(NamedTuple):
    """The policy of a call, and why it rules, such as `rule 2 (keys), schedule office (sat 09:00-18:00 UTC)`."""

    policy: Policy
    reason: str


class Call(NamedTuple):
    """What rules compare.

    Args:
        model: The public model that was resolved.
        aliases: Those that led to it.
        project: The caller's project.
        key: The caller's key.
        key_name: The name that the key was given.
        tags: Of the call, its key and its project; pairs of name and value, in order.
    """

    model: str
    aliases: tuple[str, ...]
    project: str
    key: str
    key_name: str
    tags: tuple[tuple[str, str], ...]


def rule_of(catalog: Catalog, call: Call) -> tuple[str, str]:
    """The name of the policy or schedule for a call, and why."""
    for i, rule in enumerate(catalog.routing.rules):
        matched = _matched(rule, call)
        if matched is not None:
            return rule.policy, f"rule {i}{matched}"
    return catalog.routing.policy, "no rule"


def resolved(catalog: Catalog, name: str, reason: str, now: float, busy: frozenset[str]) -> Ruling:
    """The policy that a name stands for at a moment."""
    schedule = catalog.schedules.get(name)
    if schedule is None:
        return Ruling(catalog.policies[name], reason)
    ruled: Ruled = ruling(schedule, now, busy=name in busy)
    return Ruling(catalog.policies[ruled.policy], f"{reason}, schedule {name} ({ruled.reason})")


def previewed(catalog: Catalog, name: str, now: float, load: float | None) -> Ruled:
    """What a schedule or policy makes rule at a moment, and until when.

    Args:
        catalog: Where the name is looked up.
        name: The schedule or policy; empty for the default of all calls.
        now: The moment, seconds since 1970 UTC.
        load: Calls per second to assume; None means that no switch for busy times is on.

    Raises:
        MeshError: REASON_NOT_FOUND.
    """
    wanted = name or catalog.routing.policy
    schedule = catalog.schedules.get(wanted)
    if schedule is not None:
        return preview(schedule, now, busy=load is not None and bool(switched(frozenset(), [schedule], load)))
    if wanted not in catalog.policies:
        known = [*catalog.schedules, *catalog.policies]
        raise MeshError(
            REASON_NOT_FOUND, f"no schedule or policy {wanted!r}{hint(wanted, known)}", metadata={"resource": wanted}
        )
    return Ruled(wanted, "always")


def _matched(rule: RuleConfig, call: Call) -> str | None:
    """Which conditions a call met, in words; None when it did not meet them all."""
    conditions = (
        ("models", rule.models, (call.model,)),
        ("aliases", rule.aliases, call.aliases),
        ("projects", rule.projects, (call.project,)),
        ("keys", rule.keys, (call.key, call.key_name)),
    )
    given = [(name, wanted, seen) for name, wanted, seen in conditions if wanted]
    if not all(any(one in wanted for one in seen if one) for _, wanted, seen in given):
        return None
    tags = dict(call.tags)
    if not all(tags.get(name) == value for name, value in rule.tags.items()):
        return None
    words = [name for name, _, _ in given] + (["tags"] if rule.tags else [])
    return f" ({', '.join(words)})" if words else ""
