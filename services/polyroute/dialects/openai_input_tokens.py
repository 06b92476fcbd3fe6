"""`openai.input_tokens`: POST /v1/responses/input_tokens, how many tokens a conversation has.

https://platform.openai.com/docs/api-reference/responses/input-tokens. A request is one of `openai.responses` without
what concerns the answer; the answer is `{"object": "response.input_tokens", "input_tokens": 11}`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import RequestFacts, Usage
from polyroute.api.modality.v1.modality_pb2 import CountTokensResult, CountTokensTask, Result, Task
from polyroute.dialects import faults, jsontools
from polyroute.dialects.dialect import Meter
from polyroute.dialects.openai import patch
from polyroute.dialects.openai.meter import object_of
from polyroute.dialects.openai.parts import extras, put_extras
from polyroute.dialects.responses import facts, request, request_writer
from polyroute.dialects.responses.common import RESPONSES, bad_answer, unsupported
from polyroute.dialects.responses.request_writer import Options
from polyroute.dialects.task import Body, Outcome, TaskDialect
from polyroute.dialects.task_stream import NoStream
from polyroute.mesh.errors import MeshError

NAME: Final = "openai.input_tokens"
OBJECT: Final = "response.input_tokens"
# What a count depends on; the vendor refuses any other member.
_COUNTED: Final = frozenset(
    {
        "model",
        "input",
        "instructions",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "reasoning",
        "text",
        "truncation",
        "previous_response_id",
        "conversation",
    }
)
_ANSWER: Final = frozenset({"object", "input_tokens", "error"})
_MOST: Final = 1 << 53


@dataclass(frozen=True, slots=True)
class OpenAIInputTokens:
    """The dialect; every method is as `task.TaskDialect` says.

    Attributes:
        options: What a vendor takes, as for conversations.
    """

    options: Options = field(default_factory=Options)
    name: str = NAME

    def read_facts(self, body: Body, *, default_model: str = "") -> RequestFacts:
        """What routing needs of a client's request."""
        found = facts.read_facts(body.data, default_model=default_model)
        found.operation = pb.OPERATION_COUNT_TOKENS
        found.stream = found.stream_usage = False
        return found

    def patch_task(self, body: Body, *, model: str) -> Body:
        """The client's own bytes with another model's name."""
        return body._replace(data=patch.patch_request(body.data, RequestFacts(), model=model, ask_usage=False))

    def read_task(self, body: Body) -> Task:
        """A client's request."""
        return Task(count_tokens=CountTokensTask(chat=request.read_request(body.data)))

    def write_task(self, task: Task, *, model: str, source: str = "") -> tuple[Body, list[str]]:
        """A request to count; parameters of the answer have no part in it and are not named as dropped."""
        if task.WhichOneof("task") != "count_tokens":
            raise unsupported(f"{NAME} only counts tokens", "task")
        origin = RESPONSES if source == NAME else source
        written, _ = request_writer.write_request(
            task.count_tokens.chat, model=model, stream=False, source=origin, options=self.options
        )
        members = jsontools.loads(written)
        return Body(jsontools.dumps({name: item for name, item in members.items() if name in _COUNTED})), []

    def read_outcome(self, body: bytes, content_type: str) -> Outcome:
        """How many tokens; a vendor charges nothing for the count."""
        value = object_of(body)
        tokens = value.get("input_tokens")
        if isinstance(tokens, bool) or not isinstance(tokens, int) or not 0 <= tokens < _MOST:
            raise faults.fault_in(value) if value.get("error") else bad_answer("the provider's answer holds no count")
        result = Result(count_tokens=CountTokensResult(input_tokens=tokens))
        for name, raw in extras(value, _ANSWER).items():
            result.extensions[name] = raw
        return Outcome(result, None)

    def write_outcome(self, outcome: Outcome, task: Task, *, request_id: str, model: str) -> Body:
        """An answer for a client."""
        out = {"object": OBJECT, "input_tokens": outcome.result.count_tokens.input_tokens}
        put_extras(out, outcome.result.extensions)
        return Body(jsontools.dumps(out))

    def meter(self) -> Meter:
        """There are no streams of this kind."""
        return NoStream()

    def read_usage(self, body: bytes, content_type: str) -> Usage | None:
        """Nothing is used by counting; refuses what is no answer."""
        return self.read_outcome(body, content_type).usage

    def pending(self, body: bytes) -> str:
        """Nothing: answers are whole."""
        return ""

    def fault_of(self, status: int, body: bytes, headers: Mapping[str, str]) -> MeshError:
        """A vendor's refusal or failure as a classified error."""
        return faults.fault_of(status, body, headers)


DIALECT: Final[TaskDialect] = OpenAIInputTokens()
