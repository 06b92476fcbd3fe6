"""Usage as people of an account see it, and operators from elsewhere: by the methods of UsageService."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

from polyroute.api.errors.v1.errors_pb2 import Fault
from polyroute.api.gateway.v1 import usage_pb2 as pb
from polyroute.api.metrics.v1 import metrics_pb2
from polyroute.cli.desk import PAGE, Desk
from polyroute.cli.usage import Write

_PLACES: Final = ("account_id", "project_id")
_TEXTS: Final = ("key_id", "model", "deployment", "provider", "user", "workflow_id", "node_id")

Question = metrics_pb2.QueryUsageRequest | metrics_pb2.ListCallsRequest


class Person:
    """The figures that somebody may see.

    Args:
        desk: Where they are asked for, and by whom.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def sums(self, question: metrics_pb2.QueryUsageRequest) -> Sequence[metrics_pb2.UsageRow]:
        """The sums that a question asks for."""
        request = pb.QueryUsageRequest(group_by=_words(question))
        _bound(request, question)
        return list(self._desk.pages("QueryUsage", request))

    def calls(self, question: metrics_pb2.ListCallsRequest, write: Write) -> int:
        """Hands calls on, a page at a time, newest first; how many there were."""
        request = pb.ListCallsRequest()
        _bound(request, question)
        found, count = self._desk.pages("ListCalls", request), 0
        while records := list(islice(found, PAGE)):
            write(records)
            count += len(records)
        return count


def _words(question: metrics_pb2.QueryUsageRequest) -> Iterator[str]:
    tags = iter(question.tag_names)
    for dimension in question.group_by:
        word = metrics_pb2.UsageDimension.Name(dimension).removeprefix("USAGE_DIMENSION_").lower()
        yield f"{word}:{next(tags)}" if dimension == metrics_pb2.USAGE_DIMENSION_TAG else word


def _bound(request: pb.QueryUsageRequest | pb.ListCallsRequest, question: Question) -> None:
    """Gives a request the times, the place and the filter of a question."""
    request.start_time.CopyFrom(question.start_time)
    for name in _PLACES:
        setattr(request, name, getattr(question, name))
    request.filter = " AND ".join(_comparisons(question))


def _comparisons(question: Question) -> Iterator[str]:
    for name in _TEXTS:
        if value := getattr(question, name):
            yield f"{name} = {_quoted(value)}"
    for name, value in question.tags.items():
        yield f"tags.{_quoted(name)} = {_quoted(value)}"
    if isinstance(question, metrics_pb2.ListCallsRequest) and question.fault:
        yield f"fault = {Fault.Name(question.fault)}"


def _quoted(text: str) -> str:
    """As filters have texts."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
