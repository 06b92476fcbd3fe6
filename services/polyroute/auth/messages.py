"""The words of the domain as messages of the contract, and back."""

from datetime import timedelta
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from polyroute.api.auth.v1 import admin_pb2, auth_pb2, ledger_pb2, limits_pb2
from polyroute.auth.admin.journal import Event
from polyroute.auth.admin.tenants import Account, Project
from polyroute.auth.keys import Key
from polyroute.auth.money.budgets import Budget
from polyroute.auth.money.charges import Charge
from polyroute.auth.money.entries import Book, Payer
from polyroute.auth.money.inforce import InForce
from polyroute.auth.money.outbox import about
from polyroute.auth.money.periods import Period
from polyroute.auth.money.terms import Terms
from polyroute.auth.rates.limits import Kind, Limit, Place
from polyroute.auth.scopes import Scope


def timestamp(micros: int | None) -> Timestamp | None:
    """A moment in microseconds since the Unix epoch."""
    if micros is None:
        return None
    moment = Timestamp()
    moment.FromMicroseconds(micros)
    return moment


def micros(message: Any, field: str) -> int | None:
    """The moment in a field, in microseconds since the Unix epoch; None when it is not set."""
    return getattr(message, field).ToMicroseconds() if message.HasField(field) else None


def duration(seconds: float | None) -> Duration | None:
    """A length of time."""
    if seconds is None:
        return None
    length = Duration()
    length.FromTimedelta(timedelta(seconds=seconds))
    return length


def seconds(length: Duration) -> float:
    """A length of time in seconds."""
    return length.seconds + length.nanos / 1e9


def key(known: Key) -> auth_pb2.Key:
    """A key as people see it."""
    return auth_pb2.Key(
        id=known.id,
        project_id=known.project_id,
        prefix=known.prefix,
        name=known.name,
        create_time=timestamp(known.created),
        revoke_time=timestamp(known.revoked),
        expire_time=timestamp(known.expires),
        models=known.models,
        scope=scope(known.scope),
        creator_key_id=known.creator,
    )


def scope(bounds: Scope) -> auth_pb2.KeyScope | None:
    """What binds a key; None when nothing does."""
    if bounds == Scope():
        return None
    return auth_pb2.KeyScope(
        operations=bounds.operations,  # type: ignore[arg-type] # the contract's numbers
        routes=bounds.routes,
        source_ranges=bounds.source_ranges,
        provider_defaults=bounds.provider_defaults,
        tags=bounds.tags,
        policies=bounds.policies,
        regions=bounds.regions,
        spend_class=auth_pb2.SpendClass.ValueType(bounds.spend_class),
        admin_role=auth_pb2.MemberRole.ValueType(bounds.admin_role),
    )


def to_scope(message: auth_pb2.KeyScope) -> Scope:
    """What binds a key."""
    return Scope(
        tuple(message.operations),
        tuple(message.routes),
        tuple(message.source_ranges),
        message.provider_defaults,
        dict(message.tags),
        tuple(message.policies),
        tuple(message.regions),
        message.spend_class,
        message.admin_role,
    )


def plan_in_force(known: InForce | None) -> auth_pb2.PlanInForce | None:
    """What a plan opens, and whose it is; None where it opens everything."""
    if known is None or known.terms.open:
        return None
    return auth_pb2.PlanInForce(name=known.plan, scope=known.scope, opens=plan_scope(known.terms))


def plan_scope(terms: Terms) -> auth_pb2.PlanScope | None:
    """What a plan opens; None where that is everything."""
    if terms.open:
        return None
    return auth_pb2.PlanScope(
        models=terms.models,
        operations=terms.operations,  # type: ignore[arg-type] # the contract's numbers
        routes=terms.routes,
    )


def limit(known: Limit) -> limits_pb2.Limit:
    """A limit."""
    place = known.place
    kind = limits_pb2.LimitKind.ValueType(place.kind)
    return limits_pb2.Limit(scope=place.scope, kind=kind, model=place.model, amount=known.amount, burst=known.burst)


def to_limit(message: limits_pb2.Limit) -> Limit:
    """A limit."""
    return Limit(Place(message.scope, Kind(message.kind), message.model), message.amount, message.burst)


def budget(known: Budget) -> limits_pb2.Budget:
    """A budget, with what was spent of it."""
    return limits_pb2.Budget(
        id=known.id,
        scope=known.scope,
        period=limits_pb2.Period.ValueType(known.period),
        time_zone=known.time_zone,
        amount_nanos=known.amount,
        hard=known.hard,
        spent_nanos=known.spent,
        held_nanos=known.held,
        start_time=timestamp(known.started) if known.ends is not None else None,
        end_time=timestamp(known.ends),
        prepaid=known.prepaid,
    )


def to_budget(message: limits_pb2.Budget) -> Budget:
    """A budget as it is wanted; what was spent of it is for the ledger to say."""
    return Budget(
        id=message.id,
        scope=message.scope,
        period=Period(message.period or Period.TOTAL),
        time_zone=message.time_zone,
        amount=message.amount_nanos,
        hard=message.hard,
        prepaid=False,
        started=0,
        ends=None,
        spent=0,
        held=0,
    )


def account(known: Account) -> admin_pb2.Account:
    """An account."""
    mode = admin_pb2.BillingMode.ValueType(known.billing)
    kind = admin_pb2.AccountKind.ValueType(known.kind)
    return admin_pb2.Account(
        id=known.id,
        name=known.name,
        billing_mode=mode,
        create_time=timestamp(known.created),
        kind=kind,
        state=admin_pb2.TenantState.ValueType(known.state),
    )


def project(known: Project) -> admin_pb2.Project:
    """A project."""
    return admin_pb2.Project(
        id=known.id,
        account_id=known.account_id,
        name=known.name,
        create_time=timestamp(known.created),
        state=admin_pb2.TenantState.ValueType(known.state),
    )


def event(known: Event) -> admin_pb2.AuditEvent:
    """An administrative change."""
    return admin_pb2.AuditEvent(
        id=known.id,
        time=timestamp(known.time),
        actor=known.actor,
        action=known.action,
        resource=known.resource,
        before=known.before,
        after=known.after,
        digest=known.digest.hex(),
    )


def entry(row: Any) -> admin_pb2.LedgerEntry:
    """An entry of the ledger, from its row."""
    return admin_pb2.LedgerEntry(
        id=row.id,
        kind=row.kind,
        request_id=row.request_id,
        attempt=row.attempt,
        part=row.part,
        debit=Book(row.debit).name.lower(),
        credit=Book(row.credit).name.lower(),
        amount_nanos=row.amount,
        account_id=row.account_id,
        project_id=row.project_id,
        key_id=row.key_id,
        post_time=timestamp(row.posted),
        rule=row.rule,
        price_version=row.price_version,
        estimated=row.estimated,
        deployment=row.deployment,
        note=row.note,
        model=row.model,
        cost_nanos=row.cost,
        multiplier_millionths=row.multiplier,
    )


def payer(caller: auth_pb2.Caller) -> Payer | None:
    """Who pays for a caller's calls; None when nobody is named."""
    return Payer(caller.account_id, caller.project_id, caller.key_id) if caller.account_id else None


def charge(message: ledger_pb2.Settlement) -> Charge:
    """What an attempt is charged, or would be."""
    checkpoint = message.checkpoint
    return Charge(
        message.request_id,
        message.attempt,
        message.cost_nanos if message.HasField("cost_nanos") else None,
        payer(message.caller),
        message.allowance_id,
        message.final and not checkpoint,
        message.expire_time.ToMicroseconds() if checkpoint else None,
        message.revision,
        message.rule,
        message.price_version[:256],
        message.HasField("usage") and message.usage.estimated,
        message.deployment,
        "",
        message.model,
        message.multiplier_millionths,  # 0 is AS_SET
        message.holder,
        about(message) if checkpoint else "",
        checkpoint and message.opening,
    )
