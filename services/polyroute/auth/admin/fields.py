"""What lists of administration can be filtered by; those of people and of money say so beside their tables."""

from typing import Final

from polyroute.api.auth.v1 import admin_pb2, limits_pb2
from polyroute.auth import schema
from polyroute.auth.admin.filters import Choice, Fields, Flag, Moment, Number, Text

_A: Final = schema.accounts.c
_P: Final = schema.projects.c
_K: Final = schema.keys.c
_L: Final = schema.limits.c
_B: Final = schema.budgets.c

ACCOUNTS: Final[Fields] = {
    "id": Text(_A.id),
    "name": Text(_A.name),
    "billing_mode": Choice.of(_A.billing_mode, admin_pb2.BillingMode),
    "kind": Choice.of(_A.kind, admin_pb2.AccountKind),
    "create_time": Moment(_A.created),
}
PROJECTS: Final[Fields] = {
    "id": Text(_P.id),
    "account_id": Text(_P.account_id),
    "name": Text(_P.name),
    "create_time": Moment(_P.created),
}
LIMITS: Final[Fields] = {
    "scope": Text(_L.scope),
    "kind": Choice.of(_L.kind, limits_pb2.LimitKind),
    "model": Text(_L.model),
    "amount": Number(_L.amount),
    "burst": Number(_L.burst),
}
BUDGETS: Final[Fields] = {
    "id": Text(_B.id),
    "scope": Text(_B.scope),
    "period": Choice.of(_B.period, limits_pb2.Period),
    "time_zone": Text(_B.time_zone),
    "amount_nanos": Number(_B.amount),
    "hard": Flag(_B.hard),
    "prepaid": Flag(_B.prepaid),
    "create_time": Moment(_B.created),
}
KEYS: Final[Fields] = {
    "id": Text(_K.id),
    "account_id": Text(schema.projects.c.account_id),
    "project_id": Text(_K.project_id),
    "prefix": Text(_K.prefix),
    "name": Text(_K.name),
    "create_time": Moment(_K.created),
    "revoked": Flag(_K.revoked.is_not(None)),
    "revoke_time": Moment(_K.revoked),
    "expire_time": Moment(_K.expires),
    "creator_key_id": Text(_K.creator),
}
