"""What people ask about usage, in the words of metrics."""

import contextlib
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyroute.api.chat.v1.chat_pb2 import OPERATION_EMBEDDING
from polyroute.api.errors.v1.errors_pb2 import FAULT_RATE
from polyroute.api.gateway.v1 import usage_pb2 as pb
from polyroute.api.metrics.v1 import metrics_pb2
from polyroute.cli.desk import PAGE, Desk
from polyroute.cli.ownusage import Person
from polyroute.edge.usage import questions
from polyroute.mesh.errors import MeshError

TEXT = st.text(min_size=1, max_size=20)
NAME = st.sampled_from(("key_id", "model", "deployment", "provider", "user", "workflow_id", "node_id"))
KEYS = st.lists(st.tuples(TEXT, TEXT), max_size=30, unique=True)


class Echo(Desk):
    """Keeps what it is asked, and answers nothing."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def ask(self, name: str, request: Any) -> Any:
        """The empty answer to a request of UsageService."""
        self.asked.append(request)
        return {"QueryUsage": pb.QueryUsageResponse, "ListCalls": pb.ListCallsResponse}[name]()


def test_filter() -> None:
    """Every field by its name; enums short or whole; a tag's name bare or between quotes."""
    text = 'model=small AND user = "a \\"b\\" AND c" AND tags.team=x AND tags."odd = name" = y AND operation=embedding'
    asked = questions.sums(pb.QueryUsageRequest(filter=text, account_id="acc_1"))
    listed = questions.calls(pb.ListCallsRequest(filter="fault = FAULT_RATE", project_id="prj_1", page_size=7))

    assert ("small", 'a "b" AND c', OPERATION_EMBEDDING) == (asked.model, asked.user, asked.operation)
    assert {"team": "x", "odd = name": "y"} == dict(asked.tags)
    assert "acc_1" == asked.account_id
    assert ("prj_1", FAULT_RATE, 7) == (listed.project_id, listed.fault, listed.page_size)


def test_dimensions() -> None:
    """One an entry, or several between commas; a tag's name goes to the end of its entry."""
    asked = questions.sums(pb.QueryUsageRequest(group_by=["day,tag:team, model", "tag:a,b"]))
    names = [metrics_pb2.UsageDimension.Name(one).removeprefix("USAGE_DIMENSION_") for one in asked.group_by]

    assert ["DAY", "TAG", "MODEL", "TAG"] == names
    assert ["team", "a,b"] == list(asked.tag_names)


@pytest.mark.parametrize("words", [["tag"], ["unspecified"], ["day,"], [""], ["day"] * 17])
def test_what_is_no_dimension(words: list[str]) -> None:
    """Nor more of them than a report may have."""
    with pytest.raises(MeshError, match="group_by"):
        questions.sums(pb.QueryUsageRequest(group_by=words))


@given(st.dictionaries(NAME, TEXT), st.dictionaries(TEXT, TEXT, max_size=3))
def test_what_a_command_asks_is_understood(texts: dict[str, str], tags: dict[str, str]) -> None:
    """Any text in any place: what the edge makes of it is the question that the command had."""
    asked = metrics_pb2.QueryUsageRequest(group_by=[metrics_pb2.USAGE_DIMENSION_TAG], tag_names=["t"], tags=tags)
    for name, text in texts.items():
        setattr(asked, name, text)
    asked.start_time.FromSeconds(1)
    desk = Echo()
    Person(desk).sums(asked)

    assert asked == questions.sums(desk.asked[0])
    assert PAGE == desk.asked[0].page_size


@given(st.text(max_size=60))
def test_any_filter_is_understood_or_refused(text: str) -> None:
    """And nothing else happens."""
    with contextlib.suppress(MeshError):
        questions.sums(pb.QueryUsageRequest(filter=text))


@given(KEYS, st.integers(1, 7))
def test_pages(keys: list[tuple[str, str]], size: int) -> None:
    """Are the whole, in order, each thing once; also when a thing comes between two of them."""
    shown: list[tuple[str, str]] = []
    token = ""
    for turn in count():
        things = [*keys, ("", "")] if turn else keys  # sorts before all: it goes to no later page
        found, token = questions.page(things, lambda thing: thing, 2, size, token)
        shown += found
        if not token:
            break

    assert sorted(keys, key=list) == shown


@pytest.mark.parametrize("token", ["?", "e30=", "W10=", "WzEsMl0=", "WyJhIl0="])
def test_tokens_of_others(token: str) -> None:
    """Are refused."""
    with pytest.raises(MeshError, match="page_token"):
        questions.page([("a", "b")], lambda thing: thing, 2, 0, token)
