"""Hand-written answers, one per shape that breaks naive code: a vendor's bytes in, result and usage out.

A case is a folder `golden/DIALECT/CASE`: `answer.json`, `answer.sse` or `answer.txt` as a vendor sends it, and
`expected.json` with the result and usage that must be read, the place to ask again, or the fault.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects.task_registry import TASKS
from polyroute.mesh.errors import MeshError

GOLDEN = Path(__file__).parents[3] / "golden"
TYPES = {"answer.json": "application/json", "answer.sse": "text/event-stream", "answer.txt": "text/plain"}
CASES = [
    (name, case)
    for name in sorted(TASKS)
    if (GOLDEN / name.replace(".", "_")).exists()
    for case in sorted((GOLDEN / name.replace(".", "_")).iterdir())
    if (case / "expected.json").exists() and any((case / one).exists() for one in TYPES)
]


@pytest.mark.parametrize(("name", "case"), CASES, ids=[f"{name}-{case.name}" for name, case in CASES])
def test_the_answer_is_read(name: str, case: Path) -> None:
    """What is read is what was written down by hand."""
    dialect = TASKS[name]
    answer = next(case / one for one in TYPES if (case / one).exists())
    seen: dict[str, Any] = {}
    try:
        going_on = dialect.pending(answer.read_bytes()) if answer.suffix == ".json" else ""
        if going_on:
            seen["pending"] = going_on
        else:
            outcome = dialect.read_outcome(answer.read_bytes(), TYPES[answer.name])
            seen["result"] = MessageToDict(outcome.result, preserving_proto_field_name=True)
            if outcome.usage is not None:
                seen["usage"] = MessageToDict(outcome.usage, preserving_proto_field_name=True)
    except MeshError as error:
        seen = {"fault": errors_pb2.Fault.Name(error.fault).removeprefix("FAULT_")}

    extensions = seen.get("result", {}).pop("extensions", None)
    if extensions:
        seen["extensions"] = sorted(extensions)

    assert json.loads((case / "expected.json").read_text()) == seen


def test_there_are_cases() -> None:
    """The folder is not empty by accident."""
    assert len(CASES) > 30
