"""Call records as rows."""

from polyroute.api.chat.v1 import chat_pb2 as chat
from polyroute.api.metrics.v1 import metrics_pb2 as pb
from polyroute.metrics import schema
from polyroute.metrics.rows import COLUMNS, LAST_SECOND, row_of, storable
from tests.unit.metrics.records import NOON, call


def row(record: pb.CallRecord) -> dict[str, object]:
    return dict(zip(COLUMNS, row_of(record), strict=True))


def test_every_column_is_written() -> None:
    """The row has a value for each column but the number that the table gives, and the key comes first."""
    assert {column.name for column in schema.calls.c} - {"id"} == set(COLUMNS)
    assert len(COLUMNS) == len(set(COLUMNS))
    assert "request_id" == COLUMNS[0]


def test_columns() -> None:
    """Each column has what its name says."""
    record = call(outcome=pb.OUTCOME_BROKEN, usage=chat.Usage(cache_read_tokens=4, audio_milliseconds=9))
    found = row(record)
    expected = {
        "request_id": "call-1",
        "project_id": "prj",
        "model": "small-1",
        "requested_model": "fast",
        "stream": True,
        "outcome": pb.OUTCOME_BROKEN,
        "cache_read_tokens": 4,
        "input_tokens": 0,
        "audio_ms": 9,
        "cost_nanos": 1500,
        "start_us": NOON * 1_000_000,
        "record": record.SerializeToString(),
    }

    assert expected == {name: found[name] for name in expected}


def test_nothing_known() -> None:
    """A record that says nothing but its name has a row; an unknown price is no price, not a price of 0."""
    found = row(pb.CallRecord(request_id="a"))

    assert ("", 0, None) == (found["key_id"], found["input_tokens"], found["cost_nanos"])
    assert 0 == row(call(cost_nanos=0))["cost_nanos"]


def test_days_are_utc() -> None:
    """The day of a call begins at midnight UTC."""
    midnight = NOON - 43_200

    assert [midnight // 86_400 - 1, midnight // 86_400] == [row(call(at=at))["day"] for at in (midnight - 1, midnight)]


def test_moments_that_do_not_fit() -> None:
    """Only the years 1970 to 9999 can be stored."""
    records = [call() for _ in range(4)]
    for record, seconds in zip(records, (-1, 0, LAST_SECOND, LAST_SECOND + 1), strict=True):
        record.start_time.seconds = seconds

    assert [False, True, True, False] == [storable(record) for record in records]
