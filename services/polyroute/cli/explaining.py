"""Decisions on a terminal: who was asked what, who came where and why, and what became of each attempt."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from google.protobuf.json_format import MessageToDict
from rich.table import Table

from polyroute.api.errors.v1.errors_pb2 import Fault, Reason
from polyroute.api.metrics.v1.metrics_pb2 import AttemptRecord, CallRecord, Outcome
from polyroute.api.router.v1 import router_pb2 as pb
from polyroute.cli.output import show
from polyroute.router.explaining import note_words

_NANO: Final = 1_000_000_000
_MS: Final = 1000


def as_json(record: pb.DecisionRecord, plan: pb.Plan, call: CallRecord | None) -> str:
    """Everything, for programs."""
    told: dict[str, Any] = {
        "decision": MessageToDict(record, preserving_proto_field_name=True),
        "plan": [attempt.deployment for attempt in plan.attempts],
    }
    if call is not None:
        told["call"] = MessageToDict(call, preserving_proto_field_name=True)
    return orjson.dumps(told, option=orjson.OPT_INDENT_2).decode()


def show_decision(record: pb.DecisionRecord) -> None:
    """Prints what was decided by which rules."""
    for line in _head(record):
        print(line)
    show(_candidates(record))


def show_plan(plan: pb.Plan) -> None:
    """Prints whom a call would try, in order."""
    table = Table("#", "deployment", "provider", "upstream model", "region", "USD per M tokens in/out", box=None)
    for place, one in enumerate(plan.attempts, 1):
        tried = str(place) if place <= plan.max_attempts else f"({place})"
        table.add_row(tried, one.deployment, one.provider, one.upstream_model, one.region, _price(one))
    show(table)


def show_call(call: CallRecord) -> None:
    """Prints what became of a call and of each of its attempts."""
    words = [Outcome.Name(call.outcome).removeprefix("OUTCOME_").lower()]
    if call.reason:
        words.append(f"reason {Reason.Name(call.reason).removeprefix('REASON_').lower()}")
    words.append(f"{call.total_microseconds / _MS:.0f} ms in all")
    if call.first_token_microseconds:
        words.append(f"first content after {call.first_token_microseconds / _MS:.0f} ms")
    words.append(f"{call.cost_nanos / _NANO:.9f} USD" if call.HasField("cost_nanos") else "price unknown")
    print(f"outcome    {', '.join(words)}")
    table = Table("attempt", "deployment", "outcome", "status", "first content ms", "total ms", "tokens", box=None)
    for place, one in enumerate(call.attempts, 1):
        table.add_row(
            str(place),
            one.deployment,
            _outcome(one),
            str(one.upstream_status or ""),
            f"{one.first_token_microseconds / _MS:.1f}" if one.first_token_microseconds else "",
            f"{one.total_microseconds / _MS:.1f}",
            str(one.output_tokens or ""),
        )
    show(table)


def _head(record: pb.DecisionRecord) -> Iterable[str]:
    when = datetime.fromtimestamp(record.decide_time.ToMicroseconds() / 1e6, UTC)
    asked = f"{record.requested_model!r}"
    if record.resolved_model != record.requested_model:
        asked += f", resolved to {record.resolved_model!r}"
    yield f"call       {record.request_id}"
    yield f"model      {asked}{f' ({record.alias})' if record.alias else ''}"
    if record.content_class:
        yield f"class      {record.content_class} ({record.class_rule})"
    yield f"policy     {record.policy} {record.policy_version} ({record.policy_reason})"
    yield f"decided    {when:%Y-%m-%d %H:%M:%S.%f}Z"
    yield f"versions   catalog {record.catalog_version}, figures {record.stats_version}, slate {record.slate_id}"
    notes = (
        ("relaxed", record.relaxed, "filters on live figures and lengths left nobody and were lifted"),
        ("explored", record.explored, "the first is there to learn its figures"),
        ("seat", bool(record.seat), f"calls of this key stay at {record.seat}"),
        ("probe", bool(record.probe), f"tries out {record.probe}, whose ejection is over"),
        ("late", bool(record.late), f"the caller's time is too short for {', '.join(record.late)}"),
        ("retries", record.retries_spent, "none may follow: too many of the model's calls are retries already"),
        ("refused", bool(record.refusal), record.refusal),
    )
    yield from (f"{name:<11}{text}" for name, there, text in notes if there)


def _candidates(record: pb.DecisionRecord) -> Table:
    """Who is in the plan first, in its order; then those that could have served; then those that could not."""
    table = Table("place", "deployment", "verdicts", "figures", "score", "price", box=None)
    health = {note.deployment: [f"health {note_words(note)}"] for note in record.health}
    for one in sorted(record.candidates, key=lambda one: (not one.position, one.position, bool(_failed(one)))):
        failed = _failed(one)
        table.add_row(
            str(one.position) if one.position else ("out" if failed and not record.relaxed else "-"),
            one.deployment,
            "; ".join(health.get(one.deployment, []) + (failed or _observed(one))),
            _figures(one.figures),
            ", ".join(f"{term.name} {term.value:.4g}" for term in one.terms),
            one.facts.price.version if one.facts.HasField("price") else "unknown",
        )
    return table


def _failed(candidate: pb.Candidate) -> list[str]:
    return [f"not {_verdict(one)}" for one in candidate.verdicts if not one.passed]


def _observed(candidate: pb.Candidate) -> list[str]:
    return [_verdict(verdict) for verdict in candidate.verdicts if verdict.observed]


def _verdict(verdict: pb.Verdict) -> str:
    return f"{verdict.filter}: {verdict.observed}" if verdict.observed else verdict.filter


def _figures(figures: pb.Figures) -> str:
    words = []
    if figures.HasField("latency_milliseconds"):
        spread = figures.latency_milliseconds
        words.append(f"first content {spread.p50:.0f}/{spread.p90:.0f}/{spread.p99:.0f} ms")
    if figures.HasField("throughput"):
        words.append(f"{figures.throughput.p50:.0f} tokens/s")
    if figures.HasField("success_rate"):
        words.append(f"success {100 * figures.success_rate:.1f} %")
    return ", ".join(words) or "unknown"


def _price(attempt: pb.Attempt) -> str:
    if not attempt.HasField("price"):
        return "unknown"
    return f"{attempt.price.input / _NANO:g} / {attempt.price.output / _NANO:g}"


def _outcome(attempt: AttemptRecord) -> str:
    if attempt.cancelled:
        return "cancelled"
    return Fault.Name(attempt.fault).removeprefix("FAULT_").lower() if attempt.fault else "completed"
