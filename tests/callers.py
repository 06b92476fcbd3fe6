"""Four clients in few lines, one for each API that the gateway serves: what the SDKs do, without the SDKs.

Each writes a question, reads a whole answer or a stream as that API's documentation says, and goes on with the
conversation by sending back exactly what it got, as the SDKs do.
"""

import base64
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from tests.fakes.turns import Call, compact

SCHEMA: Final = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
DESCRIPTION: Final = "tells the weather"
MOST: Final = 4096  # tokens of an answer


@dataclass(slots=True)
class Said:
    """An answer as its caller sees it.

    Attributes:
        text: Its words.
        reasoning: Its thoughts.
        calls: Tools that it asks for.
        finish: `stop`, `tools`, `length` or whatever else the API says.
        asked: Tokens of the question, those from a cache included.
        cached: Those from a cache.
        answered: Tokens of the answer, thoughts included.
        thought: Tokens of thoughts, where the API tells them.
        error: The words of an error.
        ended: A stream had the API's end.
        raw: What goes back into the conversation.
    """

    text: str = ""
    reasoning: str = ""
    calls: list[Call] = field(default_factory=list)
    finish: str = ""
    asked: int = 0
    cached: int = 0
    answered: int = 0
    thought: int = 0
    error: str = ""
    ended: bool = False
    raw: Any = None


class Caller(ABC):
    """A client of one API."""

    dialect: str
    ids: bool = True  # calls have ids that the client sends back

    @abstractmethod
    def path(self, model: str, *, stream: bool) -> str:
        """Where to POST."""

    @abstractmethod
    def question(
        self,
        model: str,
        text: str,
        *,
        stream: bool = False,
        tools: Sequence[str] = (),
        picture: bytes = b"",
        schema: bool = False,
    ) -> Any:
        """The body of a question with instructions; with tools that take a city, or for an answer that is one."""

    @abstractmethod
    def whole(self, body: bytes) -> Said:
        """Reads a whole answer or an error."""

    @abstractmethod
    def streamed(self, body: bytes) -> Said:
        """Reads a stream."""

    @abstractmethod
    def followed(self, question: Any, said: Said, results: Sequence[str]) -> Any:
        """The next question: the same conversation, the answer as it came, and the result of each call."""


def frames(body: bytes) -> Iterator[tuple[str, bytes]]:
    """The events of a stream, with their names; comments and an unfinished last event are left out."""
    for frame in body.decode().split("\n\n")[:-1]:
        lines = [line.partition(": ") for line in frame.split("\n") if not line.startswith(":")]
        words = "\n".join(value for name, _, value in lines if name == "data")
        if lines:
            yield next((value for name, _, value in lines if name == "event"), ""), words.encode()


def values(body: bytes) -> Iterator[Any]:
    """The data of events whose names must be the types in them."""
    for name, words in frames(body):
        value = orjson.loads(words)
        assert name == value["type"]
        yield value


class ChatCaller(Caller):
    """https://platform.openai.com/docs/api-reference/chat."""

    dialect = "openai.chat"

    def path(self, model: str, *, stream: bool) -> str:
        return "/v1/chat/completions"

    def question(
        self,
        model: str,
        text: str,
        *,
        stream: bool = False,
        tools: Sequence[str] = (),
        picture: bytes = b"",
        schema: bool = False,
    ) -> Any:
        content: Any = text
        if picture:
            url = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
            content = [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": url}}]
        messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": content}]
        body: dict[str, Any] = {"model": model, "messages": messages, "max_tokens": MOST}
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        if tools:
            functions = [{"name": name, "description": DESCRIPTION, "parameters": SCHEMA} for name in tools]
            body["tools"] = [{"type": "function", "function": function} for function in functions]
        if schema:
            named = {"name": "city", "schema": SCHEMA, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": named}
        return body

    def whole(self, body: bytes) -> Said:
        value = orjson.loads(body)
        if "error" in value:
            return Said(error=value["error"]["message"])
        choice = value["choices"][0]
        assert value["object"] == "chat.completion"
        return self._said(choice["message"], choice["finish_reason"], value["usage"])

    def streamed(self, body: bytes) -> Said:
        message: dict[str, Any] = {"role": "assistant", "content": None}
        finish, usage, error, ended = "", None, "", False
        for name, words in frames(body):
            assert not name
            ended = words == b"[DONE]"
            value = {} if ended else orjson.loads(words)
            error = error or value.get("error", {}).get("message", "")
            usage = value.get("usage") or usage
            for choice in value.get("choices", ()):
                self._take(choice["delta"], message)
                finish = choice["finish_reason"] or finish
        said = self._said(message, finish, usage or {})
        said.error, said.ended = error, ended
        return said

    def _take(self, delta: dict[str, Any], message: dict[str, Any]) -> None:
        """As the SDK's accumulator: texts are joined, lists with an index merged, others kept."""
        for name in ("content", "reasoning_content", "refusal"):
            if delta.get(name):
                message[name] = (message.get(name) or "") + delta[name]
        message.setdefault("reasoning_details", []).extend(delta.get("reasoning_details", ()))
        for piece in delta.get("tool_calls", ()):
            calls = message.setdefault("tool_calls", [])
            if piece["index"] == len(calls):
                calls.append({name: value for name, value in piece.items() if name != "index"})
            else:
                calls[piece["index"]]["function"]["arguments"] += piece["function"]["arguments"]

    def _said(self, message: dict[str, Any], finish: str, usage: dict[str, Any]) -> Said:
        calls = [
            Call(call["function"]["name"], call["function"]["arguments"], call["id"])
            for call in message.get("tool_calls") or ()
        ]
        return Said(
            text=message.get("content") or message.get("refusal") or "",
            reasoning=message.get("reasoning_content") or "",
            calls=calls,
            finish={"tool_calls": "tools"}.get(finish, finish),
            asked=usage.get("prompt_tokens", 0),
            cached=(usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0),
            answered=usage.get("completion_tokens", 0),
            thought=(usage.get("completion_tokens_details") or {}).get("reasoning_tokens", 0),
            raw={name: value for name, value in message.items() if value != []},
        )

    def followed(self, question: Any, said: Said, results: Sequence[str]) -> Any:
        told = [
            {"role": "tool", "tool_call_id": call.id, "content": result}
            for call, result in zip(said.calls, results, strict=True)
        ]
        return question | {"messages": [*question["messages"], said.raw, *told]}


class ResponsesCaller(Caller):
    """https://platform.openai.com/docs/api-reference/responses, without anything stored."""

    dialect = "openai.responses"

    def path(self, model: str, *, stream: bool) -> str:
        return "/v1/responses"

    def question(
        self,
        model: str,
        text: str,
        *,
        stream: bool = False,
        tools: Sequence[str] = (),
        picture: bytes = b"",
        schema: bool = False,
    ) -> Any:
        content: Any = text
        if picture:
            url = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
            content = [{"type": "input_text", "text": text}, {"type": "input_image", "image_url": url}]
        body: dict[str, Any] = {
            "model": model,
            "instructions": "be brief",
            "input": [{"role": "user", "content": content}],
            "max_output_tokens": MOST,
            "store": False,
            "include": ["reasoning.encrypted_content"],
            "stream": stream,
        }
        if tools:
            functions = [{"name": name, "description": DESCRIPTION, "parameters": SCHEMA} for name in tools]
            body["tools"] = [{"type": "function", "strict": False, **function} for function in functions]
        if schema:
            body["text"] = {"format": {"type": "json_schema", "name": "city", "schema": SCHEMA, "strict": True}}
        return body

    def whole(self, body: bytes) -> Said:
        value = orjson.loads(body)
        if value.get("object") != "response":
            return Said(error=value["error"]["message"])
        return self._said(value)

    def streamed(self, body: bytes) -> Said:
        """The last event has it all; whoever reads the deltas must have the same."""
        last: Any = {}
        error, texts = "", {"text": "", "reasoning": "", "arguments": ""}
        items: dict[int, Any] = {}
        for number, value in enumerate(values(body)):
            last = value
            kind = value["type"]
            if kind == "error":
                error = value["error"]["message"]
                assert error == value["message"]  # of both forms that are in use
            assert number == value["sequence_number"]
            if kind in ("response.output_text.delta", "response.refusal.delta"):
                texts["text"] += value["delta"]
            elif kind in ("response.reasoning_summary_text.delta", "response.reasoning_text.delta"):
                texts["reasoning"] += value["delta"]
            elif kind == "response.function_call_arguments.delta":
                texts["arguments"] += value["delta"]
            elif kind == "response.output_item.done":
                items[value["output_index"]] = value["item"]
        if error:
            assert last["type"] == "response.failed"
            return Said(text=texts["text"], error=error)
        said = self._said(last["response"])
        said.ended = last["type"] in ("response.completed", "response.incomplete")
        assert [items[index] for index in range(len(items))] == said.raw
        assert (said.text, said.reasoning) == (texts["text"], texts["reasoning"])
        assert "".join(call.arguments for call in said.calls) == texts["arguments"]
        return said

    def _said(self, response: Any) -> Said:
        said = Said(raw=response["output"])
        for item in said.raw:
            if item["type"] == "reasoning":
                said.reasoning += "".join(part["text"] for part in item["summary"] or item.get("content") or ())
            elif item["type"] == "function_call":
                said.calls.append(Call(item["name"], item["arguments"], item["call_id"]))
            else:
                said.text += "".join(part.get("text") or part.get("refusal", "") for part in item["content"])
        stopped = (response.get("incomplete_details") or {}).get("reason") or ""
        said.finish = {"max_output_tokens": "length"}.get(stopped, stopped) or ("tools" if said.calls else "stop")
        usage = response["usage"]
        said.asked, said.answered = usage["input_tokens"], usage["output_tokens"]
        said.cached = usage["input_tokens_details"]["cached_tokens"]
        said.thought = usage["output_tokens_details"]["reasoning_tokens"]
        return said

    def followed(self, question: Any, said: Said, results: Sequence[str]) -> Any:
        told = [
            {"type": "function_call_output", "call_id": call.id, "output": result}
            for call, result in zip(said.calls, results, strict=True)
        ]
        return question | {"input": [*question["input"], *said.raw, *told]}


class MessagesCaller(Caller):
    """https://platform.claude.com/docs/en/api/messages."""

    dialect = "anthropic.messages"

    def path(self, model: str, *, stream: bool) -> str:
        return "/v1/messages"

    def question(
        self,
        model: str,
        text: str,
        *,
        stream: bool = False,
        tools: Sequence[str] = (),
        picture: bytes = b"",
        schema: bool = False,
    ) -> Any:
        content: Any = text
        if picture:
            source = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(picture).decode()}
            content = [{"type": "text", "text": text}, {"type": "image", "source": source}]
        body: dict[str, Any] = {
            "model": model,
            "max_tokens": MOST,
            "system": "be brief",
            "messages": [{"role": "user", "content": content}],
            "stream": stream,
        }
        if tools:
            body["tools"] = [{"name": name, "description": DESCRIPTION, "input_schema": SCHEMA} for name in tools]
        if schema:
            body["output_config"] = {"format": {"type": "json_schema", "schema": SCHEMA}}
        return body

    def whole(self, body: bytes) -> Said:
        value = orjson.loads(body)
        if value["type"] == "error":
            return Said(error=value["error"]["message"])
        return self._said(value["content"], value["stop_reason"], value["usage"])

    def streamed(self, body: bytes) -> Said:
        blocks: list[dict[str, Any]] = []
        usage: dict[str, Any] = {}
        finish, error, ended = "", "", False
        for value in values(body):
            match value["type"]:
                case "message_start":
                    usage |= value["message"]["usage"]
                case "content_block_start":
                    assert value["index"] == len(blocks)
                    blocks.append(value["content_block"])
                case "content_block_delta":
                    self._take(value["delta"], blocks[value["index"]])
                case "message_delta":
                    finish = value["delta"]["stop_reason"]
                    usage |= {name: count for name, count in value["usage"].items() if count is not None}
                case "message_stop":
                    ended = True
                case "error":
                    error = value["error"]["message"]
        for block in blocks:
            if block["type"] == "tool_use" and not error:
                block["input"] = orjson.loads(block.pop("written", "") or "{}")
        said = self._said(blocks, finish, usage)
        said.error, said.ended = error, ended
        return said

    def _take(self, delta: dict[str, Any], block: dict[str, Any]) -> None:
        match delta:
            case {"type": "text_delta", "text": piece}:
                block["text"] += piece
            case {"type": "thinking_delta", "thinking": piece}:
                block["thinking"] += piece
            case {"type": "signature_delta", "signature": seal}:
                block["signature"] = seal
            case {"type": "input_json_delta", "partial_json": piece}:
                block["written"] = block.get("written", "") + piece

    def _said(self, blocks: list[dict[str, Any]], stop: str, usage: dict[str, Any]) -> Said:
        cached = usage.get("cache_read_input_tokens") or 0
        return Said(
            text="".join(block["text"] for block in blocks if block["type"] == "text"),
            reasoning="".join(block["thinking"] for block in blocks if block["type"] == "thinking"),
            calls=[
                Call(block["name"], compact(block["input"]), block["id"])
                for block in blocks
                if block["type"] == "tool_use"
            ],
            finish={"end_turn": "stop", "tool_use": "tools", "max_tokens": "length"}.get(stop, stop),
            asked=usage.get("input_tokens", 0) + cached + (usage.get("cache_creation_input_tokens") or 0),
            cached=cached,
            answered=usage.get("output_tokens", 0),
            raw=blocks,
        )

    def followed(self, question: Any, said: Said, results: Sequence[str]) -> Any:
        told = [
            {"type": "tool_result", "tool_use_id": call.id, "content": result}
            for call, result in zip(said.calls, results, strict=True)
        ]
        turns = [{"role": "assistant", "content": said.raw}, {"role": "user", "content": told}]
        return question | {"messages": [*question["messages"], *turns]}


class GeminiCaller(Caller):
    """https://ai.google.dev/api/generate-content; results are told by the tool's name, as the SDK's users do."""

    dialect = "gemini.generate"
    ids = False

    def path(self, model: str, *, stream: bool) -> str:
        return f"/v1beta/models/{model}:{'streamGenerateContent?alt=sse' if stream else 'generateContent'}"

    def question(
        self,
        model: str,
        text: str,
        *,
        stream: bool = False,
        tools: Sequence[str] = (),
        picture: bytes = b"",
        schema: bool = False,
    ) -> Any:
        parts: list[dict[str, Any]] = [{"text": text}]
        if picture:
            parts.append({"inlineData": {"mimeType": "image/png", "data": base64.b64encode(picture).decode()}})
        body: dict[str, Any] = {
            "systemInstruction": {"parts": [{"text": "be brief"}]},
            "contents": [{"role": "user", "parts": parts}],
            "generationConfig": {"maxOutputTokens": MOST},
        }
        if tools:
            functions = [{"name": name, "description": DESCRIPTION, "parametersJsonSchema": SCHEMA} for name in tools]
            body["tools"] = [{"functionDeclarations": functions}]
        if schema:
            body["generationConfig"] |= {"responseMimeType": "application/json", "responseJsonSchema": SCHEMA}
        return body

    def whole(self, body: bytes) -> Said:
        value = orjson.loads(body)
        if "error" in value:
            return Said(error=value["error"]["message"])
        said = Said(raw=[])
        self._take(value, said)
        return said

    def streamed(self, body: bytes) -> Said:
        said = Said(raw=[])
        for name, words in frames(body):
            assert not name
            value = orjson.loads(words)
            if "error" in value:
                said.error = value["error"]["message"]
            else:
                self._take(value, said)
        said.ended = bool(said.finish)
        return said

    def _take(self, value: Any, said: Said) -> None:
        candidate = value["candidates"][0] if value.get("candidates") else {}
        for part in candidate.get("content", {}).get("parts", ()):
            said.raw.append(part)
            if part.get("thought"):
                said.reasoning += part.get("text", "")
            elif "functionCall" in part:
                call = part["functionCall"]
                said.calls.append(Call(call["name"], compact(call.get("args", {})), call.get("id", "")))
            else:
                said.text += part.get("text", "")
        stop = candidate.get("finishReason")
        if stop:
            calls = "tools" if said.calls else "stop"
            said.finish = {"STOP": calls, "MAX_TOKENS": "length"}.get(stop, stop)
        usage = value.get("usageMetadata", {})
        said.asked = usage.get("promptTokenCount", said.asked)
        said.cached = usage.get("cachedContentTokenCount", said.cached)
        said.thought = usage.get("thoughtsTokenCount", said.thought)
        said.answered = usage.get("candidatesTokenCount", said.answered - said.thought) + said.thought

    def followed(self, question: Any, said: Said, results: Sequence[str]) -> Any:
        told = [
            {"functionResponse": {"name": call.name, "response": {"output": result}}}
            for call, result in zip(said.calls, results, strict=True)
        ]
        turns = [{"role": "model", "parts": said.raw}, {"role": "user", "parts": told}]
        return question | {"contents": [*question["contents"], *turns]}


CALLERS: Final[tuple[Caller, ...]] = (ChatCaller(), ResponsesCaller(), MessagesCaller(), GeminiCaller())
