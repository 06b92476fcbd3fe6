"""`openai.completions`: POST /v1/completions, the older form: one text in, its continuation out.

https://platform.openai.com/docs/api-reference/completions
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import ChatRequest, ChatResponse, Choice, Message, Part, RequestFacts
from polyroute.dialects import faults, jsontools, sse
from polyroute.dialects.dialect import NOTHING, AnswerFacts, Dialect, Framer, Meter, StreamReader, StreamWriter
from polyroute.dialects.jsontools import invalid
from polyroute.dialects.openai import chat_answer, facts, meter, parts, patch, request_reader, request_writer
from polyroute.dialects.openai.common import COMPLETIONS, create_time, finish_word, usage_json
from polyroute.dialects.openai.request_writer import Options
from polyroute.dialects.openai.stream_reader import OpenAIReader
from polyroute.dialects.openai.stream_writer import OpenAIWriter
from polyroute.dialects.openai_chat import END_MARKER
from polyroute.mesh.errors import MeshError

MAX_PROMPTS: Final = 2048
# What one turn of a conversation cannot say; a deployment of this dialect takes them as they are.
_OWN_MEMBERS: Final = ("echo", "suffix", "best_of")
# Here `logprobs` is a number, not a switch.
_LOGPROBS: Final = "logprobs"


class _Facts(facts.Common, gc=False):
    prompt: msgspec.Raw = msgspec.Raw()
    suffix: str | None = None
    best_of: int | None = None
    echo: bool | None = None
    logprobs: int | bool | None = None


_Prompt = str | list[str | int | list[int]]
_decode: Final = msgspec.json.Decoder(_Facts).decode
_decode_prompt: Final = msgspec.json.Decoder(_Prompt).decode


@dataclass(frozen=True, slots=True)
class OpenAICompletions:
    """The dialect; every method is as `dialect.Dialect` says.

    Attributes:
        options: What a vendor takes, where vendors differ.
    """

    options: Options = field(default_factory=Options)
    name: str = COMPLETIONS
    end_marker: bytes = END_MARKER
    lost_end: bytes = b""

    def read_facts(self, body: bytes, *, default_model: str = "") -> RequestFacts:
        """What routing needs of a client's request."""
        try:
            request = _decode(body)
            raw = bytes(request.prompt)
            facts.check_outer(jsontools.without_value(body, b'"prompt"', raw))
            tokens = prompt_tokens(raw, "prompt")
        except jsontools.BAD_JSON as error:
            jsontools.refuse(error)
        needs = {pb.CAPABILITY_LOGPROBS} if request.logprobs else set()
        if request.suffix:
            tokens += facts.text_bytes(request.suffix) // facts.BYTES_PER_TOKEN
        return facts.facts_of(request, pb.OPERATION_COMPLETION, tokens, needs, default_model, request.max_tokens)

    def patch_request(
        self, body: bytes, facts: RequestFacts, *, model: str, ask_usage: bool, drop: frozenset[str] = NOTHING
    ) -> bytes:
        """The client's own bytes, changed only where they must be."""
        return patch.patch_request(body, facts, model=model, ask_usage=ask_usage, drop=drop)

    def meter(self, *, hide_usage: bool) -> Meter:
        """A meter for one stream."""
        return meter.OpenAIMeter(hide_usage=hide_usage)

    def read_answer_facts(self, body: bytes) -> AnswerFacts:
        """What metering needs of a whole answer."""
        return meter.read_answer_facts(body)

    def read_request(self, body: bytes) -> ChatRequest:
        """A client's request as a conversation of one user message."""
        return _read_request(body)

    def write_request(
        self, request: ChatRequest, *, model: str, stream: bool, source: str = ""
    ) -> tuple[bytes, list[str]]:
        """A conversation of plain text as one prompt, and the parameters that were left out."""
        return _write_request(request, model=model, stream=stream, source=source, options=self.options)

    def read_answer(self, body: bytes) -> ChatResponse:
        """A vendor's whole answer."""
        return chat_answer.read_answer(body)

    def write_answer(self, response: ChatResponse, *, request_id: str, model: str) -> bytes:
        """An answer for a client; only its words, for that is all this format knows."""
        return _write_answer(response, request_id, model)

    def framing(self, content_type: str) -> Framer | None:
        """Server-sent events, or a whole answer."""
        return sse.framing(content_type)

    def reader(self) -> StreamReader:
        """A reader for one stream."""
        return OpenAIReader()

    def writer(self, *, request_id: str, model: str, include_usage: bool) -> StreamWriter:
        """A writer for one stream."""
        return OpenAIWriter(request_id=request_id, model=model, include_usage=include_usage, text=True)

    def fault_of(self, status: int, body: bytes, headers: Mapping[str, str]) -> MeshError:
        """A vendor's refusal or failure as a classified error."""
        return faults.fault_of(status, body, headers)


def prompt_tokens(raw: bytes, member: str) -> int:
    """Tokens of a prompt or input in any of its forms: text, texts, token ids, lists of token ids."""
    if not raw or raw == b"null":
        raise invalid(f"the request has no {member}", member)
    try:
        prompt = _decode_prompt(raw)
    except msgspec.ValidationError:
        raise invalid(f"{member} is neither text, a list of texts, nor token ids", member) from None
    if isinstance(prompt, str):
        return facts.text_bytes(prompt) // facts.BYTES_PER_TOKEN
    kinds = {type(item) for item in prompt}
    if len(kinds) != 1:
        raise invalid(f"{member} is empty or mixes texts and token ids", member)
    if kinds != {int} and len(prompt) > MAX_PROMPTS:
        raise invalid(f"more than {MAX_PROMPTS} entries in {member}", member)
    size = tokens = 0
    for item in prompt:
        if isinstance(item, str):
            size += facts.text_bytes(item)
        else:
            tokens += 1 if isinstance(item, int) else len(item)
    return tokens + size // facts.BYTES_PER_TOKEN


def _read_request(body: bytes) -> ChatRequest:
    value = {name: bytes(raw) for name, raw in jsontools.members_of(body).items()}
    for name in _OWN_MEMBERS:
        given = jsontools.loads(value.pop(name, b"null"))
        if given not in (None, False, "") and not (
            name == "best_of" and given in (1, jsontools.loads(value.get("n", b"1")))
        ):
            raise invalid(f"{name} is only served by a deployment that speaks {COMPLETIONS}", name)
    prompt = jsontools.loads(value.pop("prompt", b"null"))
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise invalid(
            f"only a single text prompt is served by a deployment that does not speak {COMPLETIONS}", "prompt"
        )
    logprobs = jsontools.loads(value.pop(_LOGPROBS, b"null"))
    value["messages"] = jsontools.dumps([{"role": "user", "content": prompt}])
    request = request_reader.read_request(
        b"{" + b",".join(jsontools.dumps(k) + b":" + v for k, v in value.items()) + b"}"
    )
    if isinstance(logprobs, int) and logprobs:
        request.sampling.logprobs = True
        request.sampling.top_logprobs = min(max(logprobs, 0), 20)
    return request


def _write_request(
    request: ChatRequest, *, model: str, stream: bool, source: str, options: Options
) -> tuple[bytes, list[str]]:
    prompt = "\n\n".join(_text_of(message) for message in request.messages)
    plain = ChatRequest()
    plain.CopyFrom(request)
    del plain.messages[:]
    for name in ("tools", "tool_choice", "parallel_tool_calls", "response_format", "reasoning"):
        plain.ClearField(name)
    dropped = [name for name in ("tools", "tool_choice", "response_format", "reasoning") if _given(request, name)]
    body, more = request_writer.write_request(plain, model=model, stream=stream, source=source, options=options)
    out = jsontools.loads(body)
    del out["messages"]
    if out.pop(_LOGPROBS, None):
        out[_LOGPROBS] = out.pop("top_logprobs", 1)
    return jsontools.dumps({"prompt": prompt} | out), dropped + more


def _given(request: ChatRequest, name: str) -> bool:
    return bool(request.tools) if name == "tools" else request.HasField(name)  # type: ignore[arg-type] # names above


def _text_of(message: Message) -> str:
    if any(not part.HasField("text") for part in message.parts):
        raise invalid(f"only text can be expressed in {COMPLETIONS}", "messages")
    return "".join(part.text.text for part in message.parts)


def _write_answer(response: ChatResponse, request_id: str, model: str) -> bytes:
    out: dict[str, Any] = {
        "id": f"cmpl-{request_id}",
        "object": "text_completion",
        "created": create_time(response.create_time, request_id),
        "model": model,
        "choices": [_write_choice(choice) for choice in response.choices],
    }
    if response.HasField("usage"):
        out["usage"] = usage_json(response.usage)
    parts.put_extras(out, response.extensions)
    return jsontools.dumps(out)


def _write_choice(choice: Choice) -> dict[str, Any]:
    words = (part for part in choice.message.parts if part.HasField("text"))
    return {
        "index": choice.index,
        "text": "".join(_word(part) for part in words),
        "logprobs": jsontools.loads(choice.logprobs) if choice.logprobs else None,
        "finish_reason": finish_word(choice.finish_reason),
    }


def _word(part: Part) -> str:
    return part.text.text


DIALECT: Final[Dialect] = OpenAICompletions()
