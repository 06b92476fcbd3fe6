"""What lists of billing can be filtered by."""

from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import ColumnElement, and_

from polyroute.api.auth.v1 import limits_pb2
from polyroute.auth import schema
from polyroute.auth.admin.filters import Choice, Fields, Flag, Moment, Number, Text
from polyroute.auth.money.bills import NUMBER
from polyroute.mesh.filtering import Comparison

_I: Final = schema.invoices.c
_C: Final = schema.codes.c
_P: Final = schema.plans.c
_S: Final = schema.subscriptions.c
_A: Final = schema.alerts.c
_D: Final = schema.deliveries.c


@dataclass(frozen=True, slots=True)
class InvoiceNumber:
    """The number of an invoice, by itself or as people write it."""

    column: ColumnElement[Any]

    def condition(self, asked: Comparison) -> ColumnElement[bool]:
        """When the comparison is true of a row."""
        plain = asked.value.removeprefix(NUMBER.partition("{")[0])
        return Number(self.column).condition(replace(asked, value=plain))


INVOICES: Final[Fields] = {
    "number": InvoiceNumber(_I.number),
    "account_id": Text(_I.account_id),
    "issue_time": Moment(_I.issued),
    "start_time": Moment(_I.started),
    "end_time": Moment(_I.ends),
    "last_entry": Number(_I.last_entry),
}
CODES: Final[Fields] = {
    "id": Text(_C.id),
    "batch": Text(_C.batch),
    "amount_nanos": Number(_C.amount),
    "create_time": Moment(_C.created),
    "expire_time": Moment(_C.expires),
    "redeem_time": Moment(_C.redeemed),
    "redeemed_by": Text(_C.account_id),
}
PLANS: Final[Fields] = {
    "name": Text(_P.name),
    "period": Choice.of(_P.period, limits_pb2.Period),
    "price_nanos": Number(_P.price),
    "quota_nanos": Number(_P.quota),
    "overage": Flag(_P.overage),
    "closed": Flag(_P.closed),
}
SUBSCRIPTIONS: Final[Fields] = {
    "id": Text(_S.id),
    "scope": Text(_S.scope),
    "account_id": Text(_S.account_id),
    "plan": Text(_S.plan),
    "time_zone": Text(_S.time_zone),
    "start_time": Moment(_S.started),
    "end_time": Moment(_S.ends),
    "cancelled": Flag(_S.cancelled),
    "ended": Flag(_S.ended),
    "budget_id": Text(_S.budget_id),
    "create_time": Moment(_S.created),
}
ALERTS: Final[Fields] = {
    "id": Text(_A.id),
    "scope": Text(_A.scope),
    "url": Text(_A.url),
    "create_time": Moment(_A.created),
}
DELIVERIES: Final[Fields] = {
    "id": Text(_D.id),
    "alert_id": Text(_D.alert_id),
    "budget_id": Text(_D.budget_id),
    "percent": Number(_D.percent),
    "create_time": Moment(_D.created),
    "tries": Number(_D.tries),
    "deliver_time": Moment(_D.delivered),
    "problem": Text(_D.problem),
    "given_up": Flag(and_(_D.next_try.is_(None), _D.delivered.is_(None))),
}
