"""People, invitations, tokens and what else is about them as messages of the contract, and back."""

from polyroute.api.auth.v1 import auth_pb2, limits_pb2
from polyroute.api.auth.v1 import people_pb2 as pb
from polyroute.auth import messages
from polyroute.auth.admin.journal import Check
from polyroute.auth.money.periods import Period
from polyroute.auth.people.known import ForeignKey, Invitation, Member, Person, VendorKey
from polyroute.auth.people.roles import Role
from polyroute.auth.people.sessions import Pair
from polyroute.auth.rates.limits import Kind


def role(known: Role) -> auth_pb2.MemberRole.ValueType:
    """A role."""
    return auth_pb2.MemberRole.ValueType(known)


def person(known: Person) -> pb.Person:
    """A person: never the password, however it is kept."""
    return pb.Person(
        id=known.id,
        email=known.email,
        name=known.name,
        disabled=known.disabled,
        has_password=known.password is not None,
        create_time=messages.timestamp(known.created),
    )


def member(known: Member) -> pb.Member:
    """A person in an account."""
    return pb.Member(
        account_id=known.account_id,
        person_id=known.person_id,
        role=role(known.role),
        project_roles=[pb.ProjectRole(project_id=name, role=role(one)) for name, one in known.projects.items()],
        email=known.email,
        name=known.name,
        create_time=messages.timestamp(known.created),
    )


def invitation(known: Invitation) -> pb.Invitation:
    """An invitation, without its code."""
    return pb.Invitation(
        id=known.id,
        account_id=known.account_id,
        role=role(known.role),
        email=known.email,
        expire_time=messages.timestamp(known.expires),
        use_time=messages.timestamp(known.used),
        create_time=messages.timestamp(known.created),
    )


def tokens(pair: Pair) -> pb.Tokens:
    """What somebody who has signed in gets."""
    return pb.Tokens(
        access_token=pair.access,
        valid_for=messages.duration(pair.valid_for),
        refresh_token=pair.refresh,
        session_end_time=messages.timestamp(pair.ends),
    )


def to_foreign(message: pb.ForeignKey) -> ForeignKey:
    """A key that is to be taken over."""
    limits = (
        (Kind.REQUESTS, message.requests_per_minute),
        (Kind.TOKENS, message.tokens_per_minute),
        (Kind.CONCURRENCY, message.concurrency),
    )
    return ForeignKey(
        sha256=message.sha256.lower(),
        name=message.name,
        project_id=message.project_id,
        models=tuple(message.models),
        expires=messages.micros(message, "expire_time"),
        scope=messages.to_scope(message.scope),
        limits=tuple((kind, amount) for kind, amount in limits if amount),
        budget=message.budget_nanos if message.HasField("budget_nanos") else None,
        period=Period(message.budget_period or Period.TOTAL),
    )


def foreign(known: ForeignKey) -> pb.ForeignKey:
    """A key that was taken over, without its digest: of a short key that would say which it is."""
    amounts = dict(known.limits)
    return pb.ForeignKey(
        name=known.name,
        project_id=known.project_id,
        models=known.models,
        expire_time=messages.timestamp(known.expires),
        scope=messages.scope(known.scope),
        requests_per_minute=amounts.get(Kind.REQUESTS, 0),
        tokens_per_minute=amounts.get(Kind.TOKENS, 0),
        concurrency=amounts.get(Kind.CONCURRENCY, 0),
        budget_nanos=known.budget,
        budget_period=limits_pb2.Period.ValueType(known.period if known.budget is not None else 0),
    )


def vendor_key(known: VendorKey) -> pb.VendorKey:
    """A vendor's key: never its text, sealed or not."""
    return pb.VendorKey(
        provider=known.provider,
        name=known.name,
        sealing_key_id=known.sealing_key_id,
        create_time=messages.timestamp(known.created),
    )


def check(found: Check) -> pb.VerifyAuditLogResponse:
    """What a check of the log of changes found."""
    return pb.VerifyAuditLogResponse(
        intact=not found.broken,
        events=found.events,
        broken_id=found.broken,
        last_id=found.last,
        last_digest=found.digest.hex(),
    )
