"""Call records as narrow rows, and back."""

import string

import pytest
from google.protobuf.unknown_fields import UnknownFieldSet
from hypothesis import example, given
from hypothesis import strategies as st

from polyroute.api.chat.v1 import chat_pb2 as chat
from polyroute.api.errors.v1 import errors_pb2 as errors
from polyroute.api.metrics.v1 import metrics_pb2 as pb
from polyroute.metrics import schema
from polyroute.metrics.rows import (
    LAST_SECOND,
    MOST,
    core_of,
    record_of,
    request_id_of,
    row_of,
    shape_of,
    storable,
    stored_id,
)
from tests.unit.metrics.records import NOON, attempt, call

UUID = "0192f1c4-7b2a-7cde-8f01-23456789abcd"


def back(record: pb.CallRecord) -> pb.CallRecord:
    """What a record is after it was on disk."""
    row = row_of(record)
    return record_of(row.stored_id, shape_of(record), row.facet[6:10], row.rest)


def test_sums() -> None:
    """Each amount stands where its name says."""
    usage = chat.Usage(cache_read_tokens=4, audio_milliseconds=9, estimated=True)
    found = dict(zip(schema.SUMS, row_of(call(outcome=pb.OUTCOME_BROKEN, usage=usage)).sums, strict=True))
    expected = {"calls": 1, "failed": 1, "estimated": 1, "cost_nanos": 1500, "charged_nanos": 1500}
    expected |= {"cache_read_tokens": 4, "audio_ms": 9}

    assert {name: expected.get(name, 0) for name in schema.SUMS} == found


def test_nothing_known() -> None:
    """A record that says nothing but its name has a row; an unknown price is no price, not a price of 0."""
    row = row_of(pb.CallRecord(request_id="a"))

    assert (1, 1, 1, *[0] * 10) == row.sums
    assert row.cost_nanos is None
    assert 0 == row_of(call(cost_nanos=0)).cost_nanos


def test_facet_and_core() -> None:
    """A facet has every dimension, its core what is not the caller's own."""
    record = call(workflow_id="w", node_id="n", tags={"b": "2", "a": "1"})
    facet = row_of(record).facet

    assert (*("acc", "prj", "key", "small-1", "north", "vendor", "u-1", "w", "n"), '{"a":"1","b":"2"}', 1) == facet
    assert (*("acc", "prj", "key", "small-1", "north", "vendor"), "", "", "", "", 1) == core_of(facet)
    assert len(schema.TEXTS) + len(schema.MARKS) + 1 == len(facet)


@pytest.mark.parametrize(
    "record",
    [
        call(),
        call(UUID, workflow_id="w", node_id="n", policy="frugal", policy_version="d1", cost_nanos=None),
        call(usage=None, attempts=[], caller=None, tags={}, user=""),
        call(usage=chat.Usage(estimated=True, other={"searches": 3})),
        call(charged_nanos=2250),
        call(charged_nanos=0),
        call(cost_nanos=None, charged_nanos=7),
        pb.CallRecord(request_id="a"),
    ],
)
def test_there_and_back(record: pb.CallRecord) -> None:
    """Nothing of a record is lost, and nothing added."""
    assert record == back(record)


def test_a_record_that_says_no_charge() -> None:
    """Of an older edge: it is the cost, also where nothing is known of either."""
    older, unpriced = call(charged_nanos=None), call(cost_nanos=None)

    assert (1500, 1500) == (row_of(older).charged_nanos, back(older).charged_nanos)
    assert (None, False) == (row_of(unpriced).charged_nanos, back(unpriced).HasField("charged_nanos"))
    assert len(row_of(older).rest) == len(row_of(call()).rest)


def test_fields_of_newer_senders() -> None:
    """What this version does not know comes back as well."""
    newer = pb.CallRecord.FromString(call().SerializeToString() + b"\xfa\x3e\x02hi")  # field 1007

    unknown = UnknownFieldSet(back(newer))
    assert [1007] == [unknown[index].field_number for index in range(len(unknown))]


def test_shared_and_own() -> None:
    """What calls of one kind share is not in the row; what differs is not in what they share."""
    one, other = call("a"), call("b", at=NOON + 5, total_microseconds=7, cost_nanos=3)

    assert shape_of(one) == shape_of(other)
    assert row_of(one).shape == row_of(other).shape
    assert b"small-1" not in row_of(call(attempts=[])).rest


def test_faults_of_all_attempts() -> None:
    """Every attempt's fault is found by, also where another attempt answered."""
    tried = [attempt(fault=errors.FAULT_RATE), attempt(fault=errors.FAULT_SERVER), attempt()]

    assert 1 << errors.FAULT_RATE | 1 << errors.FAULT_SERVER == row_of(call(attempts=tried)).faults
    assert 0 == row_of(call()).faults


@given(st.text(alphabet=string.printable, min_size=1, max_size=40) | st.uuids().map(str))
@example(UUID.upper())
@example("ff" + UUID[2:])
@example("0192f1c4-7b2a-7cde-8f01-23456789ab d")
def test_ids_come_back(request_id: str) -> None:
    """Whatever a call is named, it keeps its name, and no other call has the same one on disk."""
    assert request_id == request_id_of(stored_id(request_id))


def test_uuids_are_short() -> None:
    """They are by far the most."""
    assert 16 == len(stored_id(UUID))


def test_days_are_utc() -> None:
    """The day of a call begins at midnight UTC."""
    midnight = NOON - 43_200

    assert [midnight // 86_400 - 1, midnight // 86_400] == [row_of(call(at=at)).day for at in (midnight - 1, midnight)]


def test_moments_that_do_not_fit() -> None:
    """Only the years 1970 to 9999 can be stored."""
    records = [call() for _ in range(4)]
    for record, seconds in zip(records, (-1, 0, LAST_SECOND, LAST_SECOND + 1), strict=True):
        record.start_time.seconds = seconds

    assert [False, True, True, False] == [storable(record) for record in records]


def test_amounts_that_do_not_fit() -> None:
    """What would not add up within 64 bits is refused."""
    amounts = (MOST, MOST + 1, -MOST, -MOST - 1)

    assert [True, False] * 2 == [storable(call(cost_nanos=amount)) for amount in amounts]
    assert [True, False] * 2 == [storable(call(charged_nanos=amount)) for amount in amounts]
    assert [True, False] * 2 == [storable(call(usage=chat.Usage(images=amount))) for amount in amounts]
