"""Filters as conditions of queries: what each field of a list can be compared with, and by which signs.

Values are bound to statements and never part of their text. What is not set differs from every value and is neither
less nor more than any, so that NOT turns every comparison round.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import eq, ge, gt, le, lt, ne
from typing import Any, Final, Protocol

import orjson
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import BigInteger, ColumnElement, and_, func, literal, not_, or_

from polyroute.mesh.filtering import Comparison, Either, Every, Node, Not, refused, unknown

HAS: Final = ":"
ANY: Final = "*"
INT64: Final = range(-(2**63), 2**63)

_SIGNS: Final[Mapping[str, Callable[[Any, Any], Any]]] = {"=": eq, "!=": ne, "<": lt, "<=": le, ">": gt, ">=": ge}
_EQUAL: Final = ("=", "!=")
_WHOLE: Final = re.compile(r"[-+]?[0-9]{1,20}")


class Field(Protocol):
    """What a filter may say of a field."""

    def condition(self, asked: Comparison) -> ColumnElement[bool]:
        """When the comparison is true of a row.

        Raises:
            MeshError: REASON_INVALID_REQUEST, the value or the sign is not one of this field.
        """


Fields = Mapping[str, Field]
NO_FIELDS: Final[Fields] = {}


@dataclass(frozen=True, slots=True)
class Text:
    """Text. `:` asks whether a value is in it; with a `*` at its end, whether it begins so; `*` alone: is there any."""

    column: ColumnElement[Any]

    def condition(self, asked: Comparison) -> ColumnElement[bool]:
        """When the comparison is true of a row."""
        if asked.sign != HAS:
            return _compared(self.column, asked.sign, asked.value)
        set_ = and_(self.column.is_not(None), self.column != "")
        if asked.open:  # neither LIKE, whose case differs between databases, nor its escapes
            begun = asked.value[:-1]
            return and_(set_, func.substr(self.column, 1, len(begun)) == begun) if begun else set_
        return and_(set_, func.replace(self.column, asked.value, "") != self.column) if asked.value else set_


@dataclass(frozen=True, slots=True)
class Number:
    """A whole number."""

    column: ColumnElement[Any]

    def condition(self, asked: Comparison) -> ColumnElement[bool]:
        """When the comparison is true of a row."""
        if (there := _there(self.column, asked)) is not None:
            return there
        if _WHOLE.fullmatch(asked.value) is None or int(asked.value) not in INT64:
            raise refused(f"{asked.name}: {asked.value!r} is no whole number of 64 bits")
        number = literal(int(asked.value), BigInteger)  # also where the column has room for less
        return _compared(self.column, "=" if asked.sign == HAS else asked.sign, number)


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment, kept in microseconds since the Unix epoch and asked for as RFC 3339."""

    column: ColumnElement[Any]

    def condition(self, asked: Comparison) -> ColumnElement[bool]:
        """When the comparison is true of a row."""
        if (there := _there(self.column, asked)) is not None:
            return there
        return _compared(self.column, "=" if asked.sign == HAS else asked.sign, _micros(asked))


@dataclass(frozen=True, slots=True)
class Flag:
    """True or false."""

    holds: ColumnElement[bool]

    def condition(self, asked: Comparison) -> ColumnElement[bool]:
        """When the comparison is true of a row."""
        word = asked.value.lower()
        if word not in ("true", "false"):
            raise refused(f"{asked.name}: {asked.value!r} is neither true nor false")
        _check_sign(asked, (*_EQUAL, HAS))
        return self.holds if (word == "true") == (asked.sign != "!=") else not_(self.holds)


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several names, in lower case, kept as a number."""

    column: ColumnElement[Any]
    names: Mapping[str, int]

    @classmethod
    def of(cls, column: ColumnElement[Any], kind: Any) -> "Choice":
        """One of an enum of the contract: by its name there, or without what all of them begin with."""
        common = kind.Name(0).removesuffix("UNSPECIFIED")
        values = [(name, number) for name, number in kind.items() if number]
        long = {name.lower(): number for name, number in values}
        return cls(column, long | {name.removeprefix(common).lower(): number for name, number in values})

    def condition(self, asked: Comparison) -> ColumnElement[bool]:
        """When the comparison is true of a row."""
        number = self.names.get(asked.value.lower())
        if number is None:
            shortest = {value: name for name, value in self.names.items()}.values()  # the short ones come last
            raise refused(f"{asked.name}: {asked.value!r} is none of {', '.join(shortest)}")
        _check_sign(asked, (*_EQUAL, HAS))
        return _compared(self.column, "=" if asked.sign == HAS else asked.sign, number)


@dataclass(frozen=True, slots=True)
class Resource:
    """The name of a thing: that of a column, or the `id` of the thing itself in JSON that is kept beside it."""

    column: ColumnElement[Any]
    documents: tuple[ColumnElement[Any], ...]

    def condition(self, asked: Comparison) -> ColumnElement[bool]:
        """When the comparison is true of a row."""
        if asked.sign not in _EQUAL:
            return Text(self.column).condition(asked)
        member = orjson.dumps({"id": asked.value}).decode()[1:-1]
        inside = (func.replace(document, member, "") != document for document in self.documents)
        same = or_(self.column == asked.value, *inside)
        return same if asked.sign == "=" else not_(same)


def condition(node: Node, fields: Fields) -> ColumnElement[bool]:
    """When a filter is true of a row.

    Raises:
        MeshError: REASON_INVALID_REQUEST, a field cannot be asked for, or not in this way.
    """
    match node:
        case Comparison(name):
            field = fields.get(name)
            if field is None:
                raise unknown(name, fields)
            return field.condition(node)
        case Not(of):
            return not_(condition(of, fields))
        case Every(of):
            return and_(*(condition(one, fields) for one in of))
        case Either(of):
            return or_(*(condition(one, fields) for one in of))


def _compared(column: ColumnElement[Any], sign: str, value: Any) -> ColumnElement[bool]:
    compared: ColumnElement[bool] = _SIGNS[sign](column, value)
    if not getattr(column, "nullable", False):
        return compared
    return or_(column.is_(None), compared) if sign == "!=" else and_(column.is_not(None), compared)


def _there(column: ColumnElement[Any], asked: Comparison) -> ColumnElement[bool] | None:
    """What `field:*` asks: whether it is set."""
    if asked.sign != HAS or asked.value != ANY:
        return None
    return column.is_not(None)


def _check_sign(asked: Comparison, known: tuple[str, ...]) -> None:
    if asked.sign not in known:
        raise refused(f"{asked.name} {asked.sign}: it can be compared by {' '.join(known)}")


def _micros(asked: Comparison) -> int:
    moment = Timestamp()
    try:
        moment.FromJsonString(asked.value)
    except ValueError:
        raise refused(f"{asked.name}: {asked.value!r} is no moment such as 2026-11-01T00:00:00Z") from None
    return moment.ToMicroseconds()
