"""Decisions on a terminal."""

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from polyroute.api.router.v1 import router_pb2 as pb
from polyroute.cli.explaining import show_decision


def test_why_health_kept_a_call_from_a_deployment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside what the filters say: the reason, the number and until when; and that nobody was tried."""
    monkeypatch.setenv("COLUMNS", "400")
    record = pb.DecisionRecord(
        request_id="r-1",
        requested_model="m",
        resolved_model="m",
        refusal="every deployment of 'm' is out of order just now",
        late=["c/up"],
        candidates=[pb.Candidate(deployment=name) for name in ("a/up", "b/up")],
        health=[
            pb.HealthNote(
                deployment="a/up",
                state=pb.HEALTH_STATE_EJECTED,
                reason="failures in a row",
                number=5,
                until=Timestamp(seconds=60),
            ),
            pb.HealthNote(deployment="b/up", state=pb.HEALTH_STATE_HALF_OPEN, reason="silent", number=5),
        ],
    )
    show_decision(record)
    lines = capsys.readouterr().out.splitlines()

    assert "refused    every deployment of 'm' is out of order just now" in lines
    assert "late       the caller's time is too short for c/up" in lines
    for name, told in (
        ("a/up", "health ejected: failures in a row (5), until 1970-01-01T00:01:00Z"),
        ("b/up", "health half open: silent (5)"),
    ):
        assert any(name in line and told in line for line in lines), lines
