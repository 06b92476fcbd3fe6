"""What people ask about usage, in the words of metrics: filters (https://google.aip.dev/160), dimensions, pages."""

import base64
import binascii
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

import orjson

from polyroute.api.chat.v1.chat_pb2 import Operation
from polyroute.api.errors.v1.errors_pb2 import Fault
from polyroute.api.gateway.v1 import usage_pb2 as pb
from polyroute.api.metrics.v1 import metrics_pb2
from polyroute.edge.admin.transcoding import invalid
from polyroute.mesh.filtering import parse, plain, refused, unknown

PAGE_SIZE: Final = 100
MAX_PAGE_SIZE: Final = 1000
MAX_DIMENSIONS: Final = 16
TAG: Final = "tag:"
TAGS: Final = "tags."
PLACES: Final = ("account_id", "project_id")
TEXTS: Final = (*PLACES, "key_id", "model", "deployment", "provider", "user", "workflow_id", "node_id")
LIVE: Final = ("model", "deployment", "provider")

_DIMENSIONS: Final = {
    name.removeprefix("USAGE_DIMENSION_").lower(): value
    for name, value in metrics_pb2.UsageDimension.items()
    if value not in (metrics_pb2.USAGE_DIMENSION_UNSPECIFIED, metrics_pb2.USAGE_DIMENSION_TAG)
}
_ENUMS: Final[Mapping[str, tuple[str, Any]]] = {
    "operation": ("OPERATION_", Operation),
    "fault": ("FAULT_", Fault),
}

T = TypeVar("T")


def sums(request: pb.QueryUsageRequest) -> metrics_pb2.QueryUsageRequest:
    """The question for sums, of the place that the caller names.

    Raises:
        MeshError: REASON_INVALID_REQUEST, with the field.
    """
    question = metrics_pb2.QueryUsageRequest()
    for word in _words(request.group_by):
        if word.startswith(TAG) and len(word) > len(TAG):
            question.group_by.append(metrics_pb2.USAGE_DIMENSION_TAG)
            question.tag_names.append(word.removeprefix(TAG))
        elif word in _DIMENSIONS:
            question.group_by.append(_DIMENSIONS[word])
        else:
            raise invalid("group_by", f"no dimension is called {word!r}: known are {', '.join(_DIMENSIONS)}, tag:NAME")
    if len(question.group_by) > MAX_DIMENSIONS:
        raise invalid("group_by", f"more than {MAX_DIMENSIONS} dimensions")
    _narrow(question, request, ("operation",))
    return question


def calls(request: pb.ListCallsRequest) -> metrics_pb2.ListCallsRequest:
    """The question for calls, of the place that the caller names.

    Raises:
        MeshError: REASON_INVALID_REQUEST, with the field.
    """
    question = metrics_pb2.ListCallsRequest(page_size=request.page_size, page_token=request.page_token)
    _narrow(question, request, ("operation", "fault"))
    return question


def live(text: str) -> Mapping[str, str]:
    """What a filter of deployments compares.

    Raises:
        MeshError: REASON_INVALID_REQUEST, with the field.
    """
    return dict(_comparisons(text, LIVE))


def page(
    found: Iterable[T], key: Callable[[T], Sequence[str]], parts: int, size: int, token: str
) -> tuple[list[T], str]:
    """A page of things by the order of their keys, and what asks for the next one: what comes between goes to no page.

    Args:
        found: All of them.
        key: Texts that name one.
        parts: How many texts that are.
        size: How many at most; 0 for the usual.
        token: Of the page before; empty for the first.

    Raises:
        MeshError: REASON_INVALID_REQUEST, the token is not one of this list.
    """
    after, most = _after(token, parts), min(size or PAGE_SIZE, MAX_PAGE_SIZE)
    keyed = [(list(key(thing)), thing) for thing in found]
    ordered = sorted((one for one in keyed if after is None or one[0] > after), key=lambda one: one[0])
    following = base64.urlsafe_b64encode(orjson.dumps(ordered[most - 1][0])).decode() if len(ordered) > most else ""
    return [thing for _, thing in ordered[:most]], following


def _narrow(question: Any, request: Any, enums: Collection[str]) -> None:
    """Gives a question the times, the place and the filter of a request."""
    for name in ("start_time", "end_time"):
        if request.HasField(name):
            getattr(question, name).CopyFrom(getattr(request, name))
    for name in PLACES:
        setattr(question, name, getattr(request, name))
    for name, value in _comparisons(request.filter, (*TEXTS, *enums), tags=True):
        if name.startswith(TAGS):
            question.tags[name.removeprefix(TAGS)] = value
        elif name in enums:
            setattr(question, name, _number(name, value))
        elif getattr(question, name) not in ("", value):
            raise refused(f"{name} is said twice, and differently")
        else:
            setattr(question, name, value)


def _comparisons(text: str, fields: Collection[str], *, tags: bool = False) -> Iterator[tuple[str, str]]:
    names = [*fields, f"{TAGS}NAME"] if tags else fields
    seen: set[str] = set()
    for asked in plain(parse(text)):
        if asked.name not in fields and not (tags and asked.name.startswith(TAGS)):
            raise unknown(asked.name, names)
        if asked.name in seen:
            raise refused(f"{asked.name} is compared twice")
        seen.add(asked.name)
        if not asked.value:
            raise refused(f"{asked.name}: what has no value cannot be asked for by itself")
        yield asked.name, asked.value


def _words(group_by: Iterable[str]) -> Iterator[str]:
    for entry in group_by:
        yield from (entry,) if entry.startswith(TAG) else (word.strip() for word in entry.split(","))


def _number(name: str, word: str) -> int:
    prefix, kind = _ENUMS[name]
    values = {key.removeprefix(prefix).lower(): number for key, number in kind.items() if number}
    wanted = word.removeprefix(prefix).lower()
    if wanted not in values:
        raise refused(f"{name}: {word!r} is none of {', '.join(values)}")
    return int(values[wanted])


def _after(token: str, parts: int) -> list[str] | None:
    if not token:
        return None
    try:
        place = orjson.loads(base64.b64decode(token, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError):
        place = None
    if not isinstance(place, list) or len(place) != parts or not all(isinstance(part, str) for part in place):
        raise invalid("page_token", "is not one of this list")
    return place
