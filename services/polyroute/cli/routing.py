"""What an operator asks the router: why a call went where it went, where one would go, what rules when."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, TypeVar

import uuid_utils
from google.protobuf.timestamp_pb2 import Timestamp

from polyroute.api.chat.v1 import chat_pb2
from polyroute.api.gateway.v1.usage_pb2 import GetCallRequest, GetCallResponse
from polyroute.api.metrics.v1.metrics_pb2 import CallRecord, ListCallsRequest
from polyroute.api.metrics.v1.metrics_pb2_grpc import MetricsServiceStub
from polyroute.api.router.v1 import router_pb2 as pb
from polyroute.api.router.v1.router_pb2_grpc import RouterServiceStub
from polyroute.cli import explaining
from polyroute.cli.client import run
from polyroute.cli.config import Config
from polyroute.cli.desk import Desk
from polyroute.cli.moments import moment
from polyroute.dialects.preferences import read_preferences
from polyroute.mesh.errors import MeshError
from polyroute.mesh.node import Node
from polyroute.mesh.roles import ConfigError

SECONDS: Final = 5.0
OPERATIONS: Final = {
    name.removeprefix("OPERATION_").lower(): value for name, value in chat_pb2.Operation.items() if value
}
Number = TypeVar("Number", bound=int)
URGENCIES: Final = {name.removeprefix("URGENCY_").lower(): value for name, value in pb.Urgency.items() if value}


@dataclass(frozen=True)
class Wanted:
    """A call that nobody makes.

    Args:
        model: What it names.
        provider: The `provider` object of its body, JSON.
        operation: Word of an operation.
        tokens: Of the prompt.
        answer: Bound of the answer in tokens; 0 for none.
        messages: Of the conversation.
        tools: Number of tools offered.
        needs: Capabilities beside tools.
        code: It holds program code.
        urgency: Word, or empty.
        models: To fall back to.
        session: What it stays together with.
        project: The caller's.
        key: The caller's.
        tags: `name=value` of each.
    """

    model: str
    provider: str = ""
    operation: str = "chat"
    tokens: int = 0
    answer: int = 0
    messages: int = 1
    tools: int = 0
    needs: Sequence[chat_pb2.Capability.ValueType] = ()
    code: bool = False
    urgency: str = ""
    models: Sequence[str] = ()
    session: str = ""
    project: str = ""
    key: str = ""
    tags: Sequence[str] = field(default=())

    def request(self) -> pb.DecideRequest:
        """As the edge would ask.

        Raises:
            ConfigError: Something in it cannot be read.
        """
        needs = {*self.needs, *([chat_pb2.CAPABILITY_TOOLS] if self.tools else [])}
        facts = chat_pb2.RequestFacts(
            operation=_word(self.operation, OPERATIONS, "--for"),
            model=self.model,
            stream=True,
            input_tokens_estimate=self.tokens,
            max_output_tokens=self.answer or None,
            needs=sorted(needs),
        )
        request = pb.DecideRequest(
            request_id=str(uuid_utils.uuid7()), facts=facts, sticky_key=self.session, explain=True, dry_run=True
        )
        request.caller.project_id, request.caller.key_id = self.project, self.key
        request.hints.code, request.hints.tools, request.hints.messages = self.code, self.tools, self.messages
        if self.urgency:
            request.hints.urgency = _word(self.urgency, URGENCIES, "--urgency")
        request.tags.update(_tags(self.tags))
        request.preferences.CopyFrom(_preferences(self.provider))
        request.preferences.models.extend(self.models)
        return request


def route(config: Config, wanted: Wanted, *, explain: bool, as_json: bool) -> None:
    """Prints where a call would go; none is made, and nothing is kept."""
    request = wanted.request()

    async def work(node: Node) -> pb.DecideResponse:
        response: pb.DecideResponse = await RouterServiceStub(node.channel("router")).Decide(request, timeout=SECONDS)
        return response

    decided = run(config, work)
    if as_json:
        print(explaining.as_json(decided.record, decided.plan, None))
        return
    explaining.show_plan(decided.plan)
    if explain:
        print()
        explaining.show_decision(decided.record)


def explain(desk: Desk, request_id: str) -> None:
    """Prints why a call went where it went, and what became of it: any call, or one of whoever is signed in."""
    found, call = _own(desk, request_id) if desk.presents else _anybodys(desk.config, request_id)
    if desk.as_json:
        print(explaining.as_json(found.record, found.plan, call))
        return
    if found.HasField("record"):
        explaining.show_decision(found.record)
    else:
        print("decision   not kept, or not any more")
    print()
    if call is None:
        print("outcome    not on record yet")
    else:
        explaining.show_call(call)


def _anybodys(config: Config, request_id: str) -> tuple[pb.ExplainResponse, CallRecord | None]:
    async def work(node: Node) -> tuple[pb.ExplainResponse, CallRecord | None]:
        wanted = pb.ExplainRequest(request_id=request_id)
        found = await RouterServiceStub(node.channel("router")).Explain(wanted, timeout=SECONDS)
        listed = await MetricsServiceStub(node.channel("metrics")).ListCalls(
            ListCallsRequest(request_id=request_id), timeout=SECONDS
        )
        return found, listed.records[0] if listed.records else None

    return run(config, work)


def _own(desk: Desk, request_id: str) -> tuple[pb.ExplainResponse, CallRecord | None]:
    answer: GetCallResponse = desk.ask("GetCall", GetCallRequest(request_id=request_id))
    found = pb.ExplainResponse(record=answer.decision if answer.HasField("decision") else None)
    found.plan.attempts.extend(pb.Attempt(deployment=name) for name in answer.plan)
    return found, answer.call


def preview(config: Config, when: str, zone: str, name: str, load: float | None) -> None:
    """Prints which policy would rule at a moment."""
    at = moment(when, zone, datetime.now(UTC)) if when else None
    request = pb.PreviewPolicyRequest(name=name, load=load)
    if at is not None:
        request.time.FromDatetime(at)

    async def work(node: Node) -> pb.PreviewPolicyResponse:
        stub = RouterServiceStub(node.channel("router"))
        response: pb.PreviewPolicyResponse = await stub.PreviewPolicy(request, timeout=SECONDS)
        return response

    ruled = run(config, work)
    if at is not None:
        print(f"at         {at:%A %Y-%m-%d %H:%M} {zone}")
    print(f"policy     {ruled.policy}")
    print(f"because    {ruled.reason}")
    if ruled.HasField("until"):
        print(f"until      {_local(ruled.until, at):%A %Y-%m-%d %H:%M %Z}")


def _local(time: Timestamp, at: datetime | None) -> datetime:
    return datetime.fromtimestamp(time.seconds, at.tzinfo if at is not None else UTC)


def _preferences(provider: str) -> pb.Preferences:
    try:
        return read_preferences(provider.encode()) if provider else pb.Preferences()
    except MeshError as error:
        raise ConfigError(error.message) from None


def _tags(tags: Sequence[str]) -> dict[str, str]:
    pairs = [one.partition("=") for one in tags]
    if any(not name or not sign for name, sign, _ in pairs):
        raise ConfigError("--tag: must be of the form name=value")
    return {name: value for name, _, value in pairs}


def _word(word: str, words: Mapping[str, Number], option: str) -> Number:
    if word not in words:
        raise ConfigError(f"{option}: unknown {word!r} (known: {', '.join(words)})")
    return words[word]
