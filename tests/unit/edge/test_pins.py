"""Ids of answers that a vendor keeps lead back to that vendor."""

import pytest

from polyroute.api.providers.v1.providers_pb2 import Started
from polyroute.api.router.v1.router_pb2 import Attempt
from polyroute.edge.http.pins import Pin, split, unpinned
from polyroute.edge.trail import Trail

CREATED = b'event: response.created\ndata: {"type":"response.created","response":{"id":"resp_1","output":[]}}\n\n'
DELTA = b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","item_id":"msg_1"}\n\n'


def answered(*, passthrough: bool = True) -> Trail:
    """A call that `east` answers."""
    trail = Trail("id")
    trail.attempt = Attempt(deployment="east/m", provider="east")
    trail.started = Started(passthrough=passthrough)
    return trail


def test_every_mention_of_the_answers_id_names_its_keeper() -> None:
    """Other ids stay as they are."""
    pin = Pin(answered())
    said = pin(CREATED) + pin(DELTA) + pin(CREATED)

    assert 2 == said.count(b'"resp_1@east"')
    assert DELTA in said


def test_a_translated_answer_is_kept_by_nobody() -> None:
    """Its id is ours, and no vendor would know it."""
    assert CREATED == Pin(answered(passthrough=False))(CREATED)


@pytest.mark.parametrize(
    ("body", "sent", "keeper"),
    [
        (b'{"model":"m"}', b'{"model":"m"}', ""),
        (b'{"previous_response_id":"resp_1@east","a":1}', b'{"previous_response_id":"resp_1","a":1}', "east"),
        (b'{"previous_response_id" : "resp_1@east"}', b'{"previous_response_id" : "resp_1"}', "east"),
        (b'{"previous_response_id":"resp_1"}', b'{"previous_response_id":"resp_1"}', ""),
        (b'{"previous_response_id":null}', b'{"previous_response_id":null}', ""),
        (rb'{"input":"\"previous_response_id\":\"a@b\""}', rb'{"input":"\"previous_response_id\":\"a@b\""}', ""),
    ],
)
def test_what_follows_goes_to_the_keeper_under_its_own_id(body: bytes, sent: bytes, keeper: str) -> None:
    """What a client wrote into its own words is none."""
    assert (sent, keeper) == unpinned(body)


def test_an_id_in_a_path() -> None:
    """With and without a keeper."""
    assert ("resp_1", "east") == split("resp_1@east")
    assert ("resp_1", "") == split("resp_1")
