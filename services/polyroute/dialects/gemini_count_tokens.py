"""`gemini.count_tokens`: POST /v1beta/models/MODEL:countTokens, how many tokens a conversation has.

https://ai.google.dev/api/tokens. A request is `{"contents": [...]}`, or a whole request of `gemini.generate` as
`{"generateContentRequest": {...}}`, which alone can hold instructions and tools; on the vendor's cloud both stand
beside the contents instead.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import RequestFacts, Usage
from polyroute.api.modality.v1.modality_pb2 import CountTokensResult, CountTokensTask, Result, Task
from polyroute.dialects import jsontools
from polyroute.dialects.asking import bad_answer, count_in, json_of_callers, unsupported
from polyroute.dialects.dialect import Meter
from polyroute.dialects.gemini import facts, faults, patch, request, request_writer
from polyroute.dialects.gemini.common import NAME as GENERATE
from polyroute.dialects.gemini.common import camel, loads
from polyroute.dialects.gemini.request_writer import Options
from polyroute.dialects.jsontools import invalid
from polyroute.dialects.openai.meter import object_of
from polyroute.dialects.openai.parts import extras, put_extras
from polyroute.dialects.task import Body, Outcome, TaskDialect, TaskOutbound
from polyroute.dialects.task_stream import NoStream
from polyroute.mesh.errors import MeshError

__all__ = ["DIALECT", "NAME", "GeminiCountTokens"]

NAME: Final = "gemini.count_tokens"
_INNER: Final = ("generateContentRequest", "generate_content_request")
# What a count depends on; the vendor's cloud refuses any other member.
_COUNTED: Final = frozenset({"contents", "systemInstruction", "tools", "generationConfig"})
_ANSWER: Final = frozenset({"totalTokens", "cachedContentTokenCount", "error"})


@dataclass(frozen=True, slots=True)
class GeminiCountTokens:
    """The dialect; every method is as `task.TaskDialect` says.

    Attributes:
        options: What a vendor's models take, as for conversations.
        wrapped: Instructions and tools stand in `generateContentRequest`; False where they stand beside the contents.
    """

    options: Options = field(default_factory=Options)
    wrapped: bool = True
    name: str = NAME

    def read_facts(self, body: Body, *, default_model: str = "") -> RequestFacts:
        """What routing needs of a client's request; `default_model` is the one in the address."""
        inner = _inner(body.data)
        return facts.read_facts(inner or body.data, default_model=default_model, operation=pb.OPERATION_COUNT_TOKENS)

    def patch_task(self, body: Body, *, model: str) -> Body:
        """The client's own bytes with another model's name where they hold one."""
        members = jsontools.members_of(body.data)
        name = next((name for name in _INNER if name in members), "")
        unsigned = self.options.unsigned_calls
        if not name:
            return body._replace(data=patch.patch_request(body.data, model=model, unsigned=unsigned))
        inner = patch.patch_request(bytes(members[name]), model=model, unsigned=unsigned)
        return body._replace(data=jsontools.rewrite(body.data, {name: inner}))

    def read_task(self, body: Body) -> Task:
        """A client's request."""
        return Task(count_tokens=CountTokensTask(chat=request.read_request(_inner(body.data) or body.data)))

    def write_task(self, task: Task, *, model: str, source: str = "") -> tuple[Body, list[str]]:
        """A request to count; parameters of the answer have no part in it and are not named as dropped."""
        if task.WhichOneof("task") != "count_tokens":
            raise unsupported(f"{NAME} only counts tokens", "task")
        chat = task.count_tokens.chat
        with json_of_callers():
            members, _ = request_writer.write_object(
                chat, source=GENERATE if source == NAME else source, options=self.options
            )
            counted: dict[str, Any] = {name: item for name, item in members.items() if name in _COUNTED}
            if self.wrapped:
                counted = {"generateContentRequest": {"model": patch.resource(model)} | counted}
            return Body(jsontools.dumps(counted)), []

    def read_outcome(self, body: bytes, content_type: str) -> Outcome:
        """How many tokens; a vendor charges nothing for the count."""
        value = object_of(body)
        tokens = value.get("totalTokens")
        if isinstance(tokens, bool) or not isinstance(tokens, int) or not 0 <= tokens < 1 << 53:
            raise faults.fault_in(value) if value.get("error") else bad_answer("the provider's answer holds no count")
        cached = count_in(value.get("cachedContentTokenCount"))
        result = Result(count_tokens=CountTokensResult(input_tokens=tokens, cached_tokens=cached))
        for name, raw in extras(value, _ANSWER).items():
            result.extensions[name] = raw
        return Outcome(result, None)

    def write_outcome(self, outcome: Outcome, task: Task, *, request_id: str, model: str) -> Body:
        """An answer for a client."""
        count = outcome.result.count_tokens
        out = {"totalTokens": count.input_tokens}
        if count.cached_tokens:
            out["cachedContentTokenCount"] = count.cached_tokens
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


def _inner(body: bytes) -> bytes:
    """The request of a conversation inside a request to count; empty when that is one itself."""
    try:
        value = camel({name: raw for name, raw in jsontools.members_of(body).items() if name in (*_INNER, "contents")})
        inner = bytes(value.get(_INNER[0], b""))
        if inner and "contents" in value:
            raise invalid("the request has contents in two places", "generateContentRequest")
        if inner and not isinstance(loads(inner), dict):
            raise invalid("expected an object", "generateContentRequest")
    except ValueError:
        raise invalid("the body is not valid JSON") from None
    return inner


DIALECT: Final[TaskDialect] = GeminiCountTokens()
# As the cloud's form of the API has it: https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/count-tokens.
PLAIN: Final[TaskOutbound] = GeminiCountTokens(wrapped=False, name="gemini.count_tokens_plain")
