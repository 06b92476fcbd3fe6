"""Filters of lists (https://google.aip.dev/160): text into a tree of comparisons, whosever list it is.

What is understood: comparisons by `=`, `!=`, `<`, `<=`, `>`, `>=` and `:`, joined by AND and OR, turned round by NOT or
a minus, with parentheses. OR binds closer than AND, as the standard has it: `a = 1 AND b = 2 OR b = 3` asks for `a` and
for either `b`. Words by themselves, words in a row and functions are refused, for no list here is searched by its text.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from polyroute.api.errors.v1 import errors_pb2
from polyroute.mesh.errors import MeshError

MAX_CHARS: Final = 4096
MAX_COMPARISONS: Final = 64
MAX_DEPTH: Final = 16

_QUOTED: Final = r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'"""
_NAME: Final = re.compile(rf"""[A-Za-z_][\w-]*(?:\.(?:{_QUOTED}|[^\s"'()<>=!:.]+))*""")
_PART: Final = re.compile(rf"""({_QUOTED})|[^.]+""", re.DOTALL)
_SIGN: Final = re.compile(r"\s*(<=|>=|!=|[=<>:])\s*")
_VALUE: Final = re.compile(rf"""({_QUOTED})|[^\s"'()][^\s"()]*""", re.DOTALL)
_WORD: Final = re.compile(r"(AND|OR|NOT)(?=[\s(\-]|$)")
_SPACE: Final = re.compile(r"\s*")
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A field, dotted where it lies deeper, compared with a value.

    Attributes:
        name: The field; what was quoted in it is plain here.
        sign: One of `=`, `!=`, `<`, `<=`, `>`, `>=`, `:`.
        value: With what, unescaped.
        open: The value ends in a `*` that is not escaped; it is part of `value`.
    """

    name: str
    sign: str
    value: str
    open: bool = False


@dataclass(frozen=True, slots=True)
class Not:
    """Whatever the other is not true of."""

    of: "Node"


@dataclass(frozen=True, slots=True)
class Every:
    """All of them hold."""

    of: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Either:
    """One of them holds, or more."""

    of: tuple["Node", ...]


Node = Comparison | Not | Every | Either


def parse(text: str) -> Node | None:
    """What a filter says; None where it says nothing.

    Raises:
        MeshError: REASON_INVALID_REQUEST, it is not a filter, or larger than any that is meant; says where.
    """
    if len(text) > MAX_CHARS:
        raise refused(f"is longer than {MAX_CHARS} characters")
    if "\0" in text:
        raise refused("has a character that no value has")
    reader = _Reader(text)
    return reader.whole() if reader.more() else None


def comparisons(node: Node | None) -> Iterator[Comparison]:
    """Every comparison of a filter, in its order."""
    match node:
        case Comparison():
            yield node
        case Not(of):
            yield from comparisons(of)
        case Every(of) | Either(of):
            for one in of:
                yield from comparisons(one)


def plain(node: Node | None) -> list[Comparison]:
    """The comparisons of a filter that is nothing but equalities joined by AND.

    Raises:
        MeshError: REASON_INVALID_REQUEST, it is more than that.
    """
    found = list(comparisons(node))
    parts = node.of if isinstance(node, Every) else (node,) if node else ()
    if list(parts) != found or any(one.sign != "=" for one in found):
        raise refused('can only be comparisons such as model = "small", joined by AND')
    return found


def unknown(name: str, known: Iterable[str]) -> MeshError:
    """A field that cannot be compared, and those that can."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f", did you mean {close[0]!r}? Known" if close else ": known"
    return refused(f"cannot filter by {name}{hint} are {', '.join(names)}")


def refused(what: str) -> MeshError:
    """A filter that cannot be understood, and why."""
    return MeshError(
        errors_pb2.REASON_INVALID_REQUEST,
        f"filter: {what}",
        metadata={"param": "filter"},
        violations=[("filter", what)],
    )


class _Reader:
    """Descends through a filter; each method reads as much as it is named after."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._place = 0
        self._comparisons = 0
        self._depth = 0

    def more(self) -> bool:
        """Whether anything follows but spaces."""
        return self._skip() < len(self._text)

    def whole(self) -> Node:
        """All of it."""
        node = self._every()
        if self.more():
            raise self._lost("AND or OR")
        return node

    def _every(self) -> Node:
        parts = [self._either()]
        while self._word("AND"):
            parts.append(self._either())
        return parts[0] if len(parts) == 1 else Every(tuple(parts))

    def _either(self) -> Node:
        parts = [self._term()]
        while self._word("OR"):
            parts.append(self._term())
        return parts[0] if len(parts) == 1 else Either(tuple(parts))

    def _term(self) -> Node:
        if self._word("NOT") or self._sign("-"):
            return Not(self._deeper(self._term))
        if self._sign("("):
            node = self._deeper(self._every)
            if not self._sign(")"):
                raise self._lost("a closing parenthesis")
            return node
        return self._comparison()

    def _deeper(self, read: Callable[[], Node]) -> Node:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise refused(f"is nested more than {MAX_DEPTH} deep")
        node = read()
        self._depth -= 1
        return node

    def _comparison(self) -> Comparison:
        name = _NAME.match(self._text, self._skip())
        if name is None or _WORD.fullmatch(name[0]):
            raise self._lost("the name of a field")
        sign = _SIGN.match(self._text, name.end())
        if sign is None:
            self._place = name.end()
            raise self._lost(f"one of = != < <= > >= : after {name[0]}")
        value = _VALUE.match(self._text, sign.end())
        self._place = sign.end()
        if value is None:
            raise self._lost(f"a value after {name[0]} {sign[1]}")
        self._place = value.end()
        self._comparisons += 1
        if self._comparisons > MAX_COMPARISONS:
            raise refused(f"has more than {MAX_COMPARISONS} comparisons")
        raw = value[0]
        inner = raw[1:-1] if value[1] else raw
        path = ".".join(_unquoted(part) for part in _PART.finditer(name[0]))
        return Comparison(path, sign[1], _unquoted(value), _open(inner))

    def _word(self, word: str) -> bool:
        found = _WORD.match(self._text, self._skip())
        if found is None or found[1] != word:
            return False
        self._place = found.end()
        return True

    def _sign(self, sign: str) -> bool:
        if not self._text.startswith(sign, self._skip()):
            return False
        self._place += len(sign)
        return True

    def _skip(self) -> int:
        spaces = _SPACE.match(self._text, self._place)
        self._place = spaces.end() if spaces else self._place
        return self._place

    def _lost(self, wanted: str) -> MeshError:
        rest = self._text[self._place : self._place + 20].strip()
        found = f", not {rest!r}" if rest else " before its end"
        return refused(f"expected {wanted} at character {self._place + 1}{found}")


def _unquoted(found: re.Match[str]) -> str:
    return _ESCAPED.sub(r"\1", found[1][1:-1]) if found[1] else found[0]


def _open(raw: str) -> bool:
    """Whether a value ends in a `*` that no backslash escapes."""
    before = raw[:-1]
    return raw.endswith("*") and (len(before) - len(before.rstrip("\\"))) % 2 == 0
