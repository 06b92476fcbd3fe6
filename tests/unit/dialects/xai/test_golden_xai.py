"""The golden cases of `xai.grpc`: requests as they are sent, answers as they are read."""

import json
from pathlib import Path

import pytest

from polyroute.dialects import grpc_frames, openai_chat
from polyroute.dialects.events import assemble
from polyroute.dialects.xai_grpc import OUTBOUND
from tests.outbound import GOLDEN, TYPES, attempt, fault_name, golden, outcome, seen
from tests.unit.dialects.xai.calls import chunk, sent, stream_of, whole

TYPES[".grpc"] = grpc_frames.STREAM
ALTERNATING = {"answer_late_seal"}  # where text stands before reasoning, which a whole answer does not say


@golden("xai_grpc", "request")
def test_question(case: Path) -> None:
    """The request of a case is written as it says."""
    chat = openai_chat.DIALECT.read_request((case / "request.json").read_bytes())
    expected = json.loads((case / "upstream.json").read_text())

    written, error = attempt(lambda: OUTBOUND.write_request(chat, model="up-1", stream=True, source="openai.chat"))

    if error:
        assert expected == {"fault": fault_name(error), "param": error.metadata["param"]}
    if written:
        assert expected == {"body": sent(written[0]), "dropped": written[1]}


@golden("xai_grpc", "stream")
def test_answer(case: Path) -> None:
    """The stream of a case is read as it says, in one piece and byte by byte."""
    raw = stream_of(case)
    events, fault = outcome(OUTBOUND, [raw], ".grpc")
    single = outcome(OUTBOUND, [raw[place : place + 1] for place in range(len(raw))], ".grpc")

    assert json.loads((case / "expected.json").read_text()) == seen(assemble(events), fault)
    assert (events, fault) == single


@pytest.mark.parametrize("case", sorted(path.parent.name for path in (GOLDEN / "xai_grpc").glob("*/stream.json")))
def test_answer_that_comes_whole(case: str) -> None:
    """The same answer, as far as it is one."""
    expected = json.loads((GOLDEN / "xai_grpc" / case / "expected.json").read_text())
    if "fault" in expected or case in ALTERNATING:
        return
    chunks = json.loads((GOLDEN / "xai_grpc" / case / "stream.json").read_text())["chunks"]
    body = whole([chunk(**one) for one in chunks])
    events = OUTBOUND.reader().feed([("", body)])

    assert expected == seen(OUTBOUND.read_answer(body), "")
    assert expected == seen(assemble(events), "")
