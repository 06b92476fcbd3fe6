"""`anthropic.count_tokens`: POST /v1/messages/count_tokens, how many tokens a conversation of `anthropic.messages` has.

https://platform.claude.com/docs/en/api/messages-count-tokens. The request is that of a conversation without what is
about the answer alone; the answer is one number.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import RequestFacts, Usage
from polyroute.api.modality.v1.modality_pb2 import CountTokensResult, CountTokensTask, Result, Task
from polyroute.dialects import jsontools
from polyroute.dialects.anthropic import facts, faults, patch, request_reader, request_writer
from polyroute.dialects.anthropic.answer import check_answer, object_of
from polyroute.dialects.anthropic.common import NAME as MESSAGES
from polyroute.dialects.anthropic.common import WRONG_SHAPE, Options, bad_answer, extras, put_extras, unsupported
from polyroute.dialects.dialect import NOTHING, Meter
from polyroute.dialects.estimate import Frame
from polyroute.dialects.jsontools import invalid
from polyroute.dialects.task import Body, Outcome, TaskDialect
from polyroute.dialects.task_stream import NoStream
from polyroute.mesh.errors import MeshError

__all__ = ["DIALECT", "FRAME", "NAME", "AnthropicCountTokens"]

NAME: Final = "anthropic.count_tokens"
# What a count depends on; vendors refuse any other member of a conversation's request.
_COUNTED: Final = frozenset(
    {
        "cache_control",
        "context_management",
        "mcp_servers",
        "messages",
        "output_config",
        "output_format",
        "speed",
        "system",
        "thinking",
        "tool_choice",
        "tools",
    }
)
_MOST: Final = 1 << 53

# For `estimate.estimate_tokens`, where the vendor cannot be asked: a system prompt of some 500 tokens is added for
# tools, shorter ones for schemas and thinking, and the tokenizer cuts finer than most.
# https://platform.claude.com/docs/en/agents-and-tools/tool-use/overview#pricing
FRAME: Final = Frame(request=2.5, message=6, call=9, tools=500, tool=1, form=170, thinking=28, words=0.96, schema=1.4)


@dataclass(frozen=True, slots=True)
class AnthropicCountTokens:
    """The dialect; every method is as `task.TaskDialect` says.

    Attributes:
        options: What a vendor's models take, as for conversations.
    """

    options: Options = field(default_factory=Options)
    name: str = NAME

    def read_facts(self, body: Body, *, default_model: str = "") -> RequestFacts:
        """What routing needs of a client's request."""
        return facts.read_facts(body.data, default_model=default_model, operation=pb.OPERATION_COUNT_TOKENS)

    def patch_task(self, body: Body, *, model: str) -> Body:
        """The client's own bytes with another model's name."""
        data = patch.patch_request(body.data, RequestFacts(), model=model, drop=NOTHING, options=Options())
        return body._replace(data=data)

    def read_task(self, body: Body) -> Task:
        """A client's request."""
        return Task(count_tokens=CountTokensTask(chat=request_reader.read_request(body.data)))

    def write_task(self, task: Task, *, model: str, source: str = "") -> tuple[Body, list[str]]:
        """A request to count; parameters of the answer have no part in it and are not named as dropped."""
        if task.WhichOneof("task") != "count_tokens":
            raise unsupported(f"{NAME} only counts tokens", "task")
        chat = task.count_tokens.chat
        try:
            members, _ = request_writer.members_of(
                chat, source=MESSAGES if source == NAME else source, options=self.options
            )
            out = {"model": model} | {name: item for name, item in members.items() if name in _COUNTED}
        except WRONG_SHAPE as error:
            raise invalid("a member of the request is not valid JSON") from error
        return Body(jsontools.dumps(out)), []

    def read_outcome(self, body: bytes, content_type: str) -> Outcome:
        """How many tokens; a vendor charges nothing for the count."""
        value = object_of(body)
        tokens = value.get("input_tokens")
        if isinstance(tokens, bool) or not isinstance(tokens, int) or not 0 <= tokens < _MOST:
            check_answer(value)  # which raises the error that stands here instead
            raise bad_answer("the provider's answer holds no number of tokens")
        result = Result(count_tokens=CountTokensResult(input_tokens=tokens))
        for name, raw in extras(value, ("input_tokens",)).items():
            result.extensions[name] = raw
        return Outcome(result, None)

    def write_outcome(self, outcome: Outcome, task: Task, *, request_id: str, model: str) -> Body:
        """An answer for a client."""
        out = {"input_tokens": outcome.result.count_tokens.input_tokens}
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


DIALECT: Final[TaskDialect] = AnthropicCountTokens()
