"""Why a call went where it went, as JSON for whoever made it: the decision record and each attempt's outcome."""

from typing import Any

import orjson
from google.protobuf.json_format import MessageToDict

from polyroute.api.errors.v1.errors_pb2 import Fault
from polyroute.api.metrics.v1.metrics_pb2 import AttemptRecord
from polyroute.edge.trail import Trail


def explained(trail: Trail) -> bytes:
    """The whole record of a call's decision, with what became of each attempt, as a JSON object."""
    told: dict[str, Any] = {"request_id": trail.request_id}
    if trail.decision is not None:
        told["decision"] = MessageToDict(trail.decision.record, preserving_proto_field_name=True)
        told["plan"] = [attempt.deployment for attempt in trail.decision.plan.attempts]
    told["attempts"] = [_attempt(record) for record in trail.attempts]
    told["overhead_ms"] = round(trail.overhead * 1000, 3)
    return orjson.dumps(told)


def _attempt(record: AttemptRecord) -> dict[str, Any]:
    told: dict[str, Any] = {
        "deployment": record.deployment,
        "outcome": Fault.Name(record.fault).removeprefix("FAULT_").lower() if record.fault else "completed",
        "ms": round(record.total_microseconds / 1000, 3),
    }
    if record.first_token_microseconds:
        told["first_token_ms"] = round(record.first_token_microseconds / 1000, 3)
    if record.upstream_status:
        told["status"] = record.upstream_status
    if record.cancelled:
        told["outcome"] = "cancelled"
    return told


def beside(body: bytes, explanation: bytes) -> bytes:
    """A whole JSON answer with the explanation as its last member `polyroute`; another body as it is."""
    head = body.rstrip()
    if not head.startswith(b"{") or not head.endswith(b"}"):
        return body
    comma = b"" if head[1:-1].isspace() or len(head) == len(b"{}") else b","
    return b'%b%b"polyroute":%b}' % (head[:-1], comma, explanation)
