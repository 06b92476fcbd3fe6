"""The wire formats that clients speak as well, from the vendor's side.

https://platform.openai.com/docs/api-reference, https://platform.claude.com/docs/en/api/messages,
https://ai.google.dev/api/generate-content.
"""

import base64
from typing import Any, Final

from tests.fakes.turns import MODEL, Call, Format, Heard, Turn, compact, data, halves, named, text_in, unpacked

_PLAIN: Final = str.maketrans("-_", "+/")


class OpenAiChat(Format):
    """`openai.chat`, with thoughts in `reasoning_content` as several vendors write them."""

    name = "openai.chat"

    def whole(self, turn: Turn) -> Any:
        message: dict[str, Any] = {"role": "assistant", "content": turn.text or None}
        if turn.reasoning:
            message["reasoning_content"] = turn.reasoning
        if turn.refusal:
            message["refusal"] = turn.refusal
        if turn.calls:
            message["tool_calls"] = [self._call(call) for call in turn.calls]
        choice = {"index": 0, "message": message, "finish_reason": self._finish(turn), "logprobs": None}
        return {"id": "c-1", "object": "chat.completion", "created": 1, "model": MODEL} | {
            "choices": [choice],
            "usage": self._usage(turn),
        }

    def stream(self, turn: Turn) -> list[bytes]:
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
        deltas += [{"reasoning_content": piece} for piece in halves(turn.reasoning)]
        deltas += [{"refusal": piece} for piece in halves(turn.refusal)]
        deltas += [{"content": piece} for piece in halves(turn.text)]
        for index, call in enumerate(turn.calls):
            deltas.append({"tool_calls": [{"index": index, **self._call(Call(call.name, "", call.id))}]})
            for piece in halves(call.arguments):
                deltas.append({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
        return [self._chunk(delta, None) for delta in deltas]

    def end(self, turn: Turn) -> list[bytes]:
        usage = {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL, "choices": []}
        last = usage | {"usage": self._usage(turn)}
        return [self._chunk({}, self._finish(turn)), data(last), b"data: [DONE]\n\n"]

    def broken(self, turn: Turn) -> bytes:
        return data(self.error(turn))

    def error(self, turn: Turn) -> Any:
        kind = {400: "invalid_request_error", 429: "rate_limit_error"}.get(turn.status, "server_error")
        return {"error": {"message": turn.says, "type": kind, "param": None, "code": None}}

    def hear(self, body: Any) -> Heard:
        heard = Heard(model=body["model"], stream=body.get("stream", False))
        for message in body["messages"]:
            content = message.get("content")
            if message["role"] == "tool":
                heard.results.append((message["tool_call_id"], text_in(content)))
                continue
            if text_in(content):
                role = "system" if message["role"] == "developer" else message["role"]
                heard.texts.append((role, text_in(content)))
            for entry in content if isinstance(content, list) else ():
                if entry["type"] == "image_url":
                    heard.pictures.append(unpacked(entry["image_url"]["url"]))
            for call in message.get("tool_calls") or ():
                heard.calls.append(Call(call["function"]["name"], call["function"]["arguments"], call["id"]))
        heard.tools = [tool["function"]["name"] for tool in body.get("tools", ())]
        heard.schema = body.get("response_format", {}).get("json_schema", {}).get("schema")
        return heard

    def _call(self, call: Call) -> Any:
        return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}

    def _chunk(self, delta: Any, finish: str | None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        head = {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
        return data(head | {"choices": [choice]})

    def _finish(self, turn: Turn) -> str:
        return "tool_calls" if turn.calls else "length" if turn.cut_short else "stop"

    def _usage(self, turn: Turn) -> Any:
        return {
            "prompt_tokens": turn.asked,
            "completion_tokens": turn.answered,
            "total_tokens": turn.asked + turn.answered,
            "prompt_tokens_details": {"cached_tokens": turn.cached},
            "completion_tokens_details": {"reasoning_tokens": turn.thought},
        }


class OpenAiResponses(Format):
    """`openai.responses`."""

    name = "openai.responses"

    def whole(self, turn: Turn) -> Any:
        return self._response(turn, "incomplete" if turn.cut_short else "completed", self._items(turn))

    def stream(self, turn: Turn) -> list[bytes]:
        events: list[dict[str, Any]] = [{"type": "response.created", "response": self._response(turn, "in_progress")}]
        for index, item in enumerate(self._items(turn)):
            at = {"output_index": index, "item_id": item["id"]}
            opened = {**item, "status": "in_progress"} | {
                name: "" if name == "arguments" else [] for name in ("arguments", "content", "summary") if name in item
            }
            events.append({"type": "response.output_item.added", "output_index": index, "item": opened})
            events += [{**event, **at} for event in self._inside(item)]
            events.append({"type": "response.output_item.done", "output_index": index, "item": item})
        return [self._event(number, event) for number, event in enumerate(events)]

    def _inside(self, item: Any) -> list[dict[str, Any]]:
        if item["type"] == "function_call":
            pieces = halves(item["arguments"])
            deltas = [{"type": "response.function_call_arguments.delta", "delta": piece} for piece in pieces]
            return [*deltas, {"type": "response.function_call_arguments.done", "arguments": item["arguments"]}]
        if item["type"] == "reasoning":
            return [event for number, part in enumerate(item["summary"]) for event in self._summary(number, part)]
        events: list[dict[str, Any]] = []
        for number, part in enumerate(item["content"]):
            member = "refusal" if part["type"] == "refusal" else "text"
            word = "refusal" if member == "refusal" else "output_text"
            head = {"content_index": number}
            empty = {**part, member: ""}
            events.append({"type": "response.content_part.added", **head, "part": empty})
            events += [{"type": f"response.{word}.delta", **head, "delta": one} for one in halves(part[member])]
            events.append({"type": f"response.{word}.done", **head, member: part[member]})
            events.append({"type": "response.content_part.done", **head, "part": part})
        return events

    def _summary(self, number: int, part: Any) -> list[dict[str, Any]]:
        word, head = "response.reasoning_summary", {"summary_index": number}
        return [
            {"type": f"{word}_part.added", **head, "part": {**part, "text": ""}},
            *({"type": f"{word}_text.delta", **head, "delta": piece} for piece in halves(part["text"])),
            {"type": f"{word}_text.done", **head, "text": part["text"]},
            {"type": f"{word}_part.done", **head, "part": part},
        ]

    def end(self, turn: Turn) -> list[bytes]:
        status = "incomplete" if turn.cut_short else "completed"
        return [self._event(len(self.stream(turn)), {"type": f"response.{status}", "response": self.whole(turn)})]

    def broken(self, turn: Turn) -> bytes:
        return self._event(98, {"type": "error", **self.error(turn)})

    def error(self, turn: Turn) -> Any:
        kind = {400: "invalid_request_error", 429: "rate_limit_error"}.get(turn.status, "server_error")
        return {"error": {"message": turn.says, "type": kind, "param": None, "code": None}}

    def hear(self, body: Any) -> Heard:
        heard = Heard(model=body["model"], stream=body.get("stream", False))
        if body.get("instructions"):
            heard.texts.append(("system", body["instructions"]))
        given = body["input"]
        items = [{"role": "user", "content": given}] if isinstance(given, str) else given
        for item in items:
            match item.get("type", "message"):
                case "message":
                    self._message(item, heard)
                case "function_call":
                    heard.calls.append(Call(item["name"], item["arguments"], item["call_id"]))
                case "function_call_output":
                    heard.results.append((item["call_id"], text_in(item["output"])))
                case "reasoning":
                    heard.seals.append(item.get("encrypted_content") or "")
        heard.tools = [tool["name"] for tool in body.get("tools", ())]
        heard.schema = body.get("text", {}).get("format", {}).get("schema")
        return heard

    def _message(self, item: Any, heard: Heard) -> None:
        content = item["content"]
        if text_in(content):
            heard.texts.append(("system" if item["role"] == "developer" else item["role"], text_in(content)))
        for entry in content if isinstance(content, list) else ():
            if entry["type"] == "input_image":
                heard.pictures.append(unpacked(entry["image_url"]))

    def _items(self, turn: Turn) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        if turn.reasoning or turn.seal:
            summary = [{"type": "summary_text", "text": turn.reasoning}] if turn.reasoning else []
            sealed = {"encrypted_content": turn.seal} if turn.seal else {}
            items.append({"type": "reasoning", "id": "rs_1", "summary": summary, **sealed})
        content: list[dict[str, Any]] = []
        if turn.text:
            content.append({"type": "output_text", "text": turn.text, "annotations": [], "logprobs": []})
        if turn.refusal:
            content.append({"type": "refusal", "refusal": turn.refusal})
        if content:
            message = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed"}
            items.append(message | {"content": content})
        for number, call in enumerate(turn.calls):
            item = {"type": "function_call", "id": f"fc_{number}", "call_id": call.id, "status": "completed"}
            items.append(item | {"name": call.name, "arguments": call.arguments})
        return items

    def _response(self, turn: Turn, status: str, output: list[dict[str, Any]] | None = None) -> Any:
        usage = {
            "input_tokens": turn.asked,
            "input_tokens_details": {"cached_tokens": turn.cached},
            "output_tokens": turn.answered,
            "output_tokens_details": {"reasoning_tokens": turn.thought},
            "total_tokens": turn.asked + turn.answered,
        }
        return {
            "id": "resp_1",
            "object": "response",
            "created_at": 1,
            "model": MODEL,
            "status": status,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "instructions": None,
            "metadata": {},
            "output": output or [],
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "usage": usage if output is not None else None,
        }

    def _event(self, number: int, event: dict[str, Any]) -> bytes:
        return named(event["type"], {**event, "sequence_number": number})


class AnthropicMessages(Format):
    """`anthropic.messages`."""

    name = "anthropic.messages"
    counts = ("cached",)

    def whole(self, turn: Turn) -> Any:
        message = self._message(turn)
        return message | {"content": self._blocks(turn), "stop_reason": self._stop(turn), "usage": self._usage(turn)}

    def stream(self, turn: Turn) -> list[bytes]:
        begun = self._usage(turn) | {"output_tokens": 1}
        events: list[dict[str, Any]] = [
            {"type": "message_start", "message": self._message(turn) | {"content": [], "usage": begun}}
        ]
        for index, block in enumerate(self._blocks(turn)):
            opened, deltas = self._opened(block)
            events.append({"type": "content_block_start", "index": index, "content_block": opened})
            events.append({"type": "ping"})
            events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
            events.append({"type": "content_block_stop", "index": index})
        return [named(event["type"], event) for event in events]

    def _opened(self, block: Any) -> tuple[Any, list[Any]]:
        match block["type"]:
            case "text":
                deltas = [{"type": "text_delta", "text": piece} for piece in halves(block["text"])]
                return block | {"text": ""}, deltas
            case "thinking":
                deltas = [{"type": "thinking_delta", "thinking": piece} for piece in halves(block["thinking"])]
                deltas.append({"type": "signature_delta", "signature": block["signature"]})
                return block | {"thinking": "", "signature": ""}, deltas
            case _:
                pieces = halves(compact(block["input"]))
                deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in ("", *pieces)]
                return block | {"input": {}}, deltas

    def end(self, turn: Turn) -> list[bytes]:
        delta = {"stop_reason": self._stop(turn), "stop_sequence": None}
        last = {"type": "message_delta", "delta": delta, "usage": {"output_tokens": turn.answered}}
        return [named("message_delta", last), named("message_stop", {"type": "message_stop"})]

    def broken(self, turn: Turn) -> bytes:
        return named("error", self.error(turn))

    def error(self, turn: Turn) -> Any:
        kind = {400: "invalid_request_error", 429: "rate_limit_error"}.get(turn.status, "overloaded_error")
        return {"type": "error", "error": {"type": kind, "message": turn.says}, "request_id": "req_1"}

    def hear(self, body: Any) -> Heard:
        heard = Heard(model=body["model"], stream=body.get("stream", False))
        if body.get("system"):
            heard.texts.append(("system", text_in(body["system"])))
        for message in body["messages"]:
            content = message["content"]
            blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
            for block in blocks:
                self._block(message["role"], block, heard)
        heard.tools = [tool["name"] for tool in body.get("tools", ())]
        heard.schema = body.get("output_config", {}).get("format", {}).get("schema")
        return heard

    def _block(self, role: str, block: Any, heard: Heard) -> None:
        match block["type"]:
            case "text":
                heard.texts.append((role, block["text"]))
            case "tool_use":
                heard.calls.append(Call(block["name"], compact(block["input"]), block["id"]))
            case "tool_result":
                heard.results.append((block["tool_use_id"], text_in(block["content"])))
            case "thinking":
                heard.seals.append(block["signature"])
            case "image":
                heard.pictures.append(base64.b64decode(block["source"]["data"]))

    def _message(self, turn: Turn) -> dict[str, Any]:
        head = {"id": "msg_1", "type": "message", "role": "assistant", "model": MODEL}
        return head | {"stop_reason": None, "stop_sequence": None}

    def _blocks(self, turn: Turn) -> list[dict[str, Any]]:
        blocks: list[dict[str, Any]] = []
        if turn.reasoning:
            blocks.append({"type": "thinking", "thinking": turn.reasoning, "signature": turn.seal})
        if turn.text or turn.refusal:
            blocks.append({"type": "text", "text": turn.text or turn.refusal})
        for call in turn.calls:
            blocks.append({"type": "tool_use", "id": call.id, "name": call.name, "input": call.given})
        return blocks

    def _stop(self, turn: Turn) -> str:
        if turn.refusal:
            return "refusal"
        return "tool_use" if turn.calls else "max_tokens" if turn.cut_short else "end_turn"

    def _usage(self, turn: Turn) -> Any:
        return {
            "input_tokens": turn.fresh,
            "cache_read_input_tokens": turn.cached,
            "cache_creation_input_tokens": 0,
            "output_tokens": turn.answered,
        }


class GeminiGenerate(Format):
    """`gemini.generate`: calls without ids, and with a seal on the first of them."""

    name = "gemini.generate"
    ids = False

    def whole(self, turn: Turn) -> Any:
        return self._answer(self._parts(turn), turn, last=True)

    def stream(self, turn: Turn) -> list[bytes]:
        pieces: list[dict[str, Any]] = []
        for part in self._parts(turn):
            pieces += [part | {"text": one} for one in halves(part["text"])] if "text" in part else [part]
        return [data(self._answer([part], turn, last=False)) for part in pieces]

    def end(self, turn: Turn) -> list[bytes]:
        return [data(self._answer([{"text": ""}], turn, last=True))]

    def broken(self, turn: Turn) -> bytes:
        return data({"error": {"code": 503, "message": turn.says, "status": "UNAVAILABLE"}})

    def error(self, turn: Turn) -> Any:
        status = "INVALID_ARGUMENT" if turn.status == 400 else "UNAVAILABLE"
        return {"error": {"code": turn.status, "message": turn.says, "status": status}}

    def hear(self, body: Any) -> Heard:
        heard = Heard()
        for part in body.get("systemInstruction", {}).get("parts", ()):
            heard.texts.append(("system", part["text"]))
        for content in body["contents"]:
            for part in content["parts"]:
                self._part("assistant" if content.get("role") == "model" else "user", part, heard)
        for tool in body.get("tools", ()):
            heard.tools += [one["name"] for one in tool.get("functionDeclarations", ())]
        config = body.get("generationConfig", {})
        heard.schema = config.get("responseJsonSchema") or config.get("responseSchema")
        return heard

    def _part(self, role: str, part: Any, heard: Heard) -> None:
        if part.get("thoughtSignature"):
            heard.seals.append(part["thoughtSignature"])
        if "functionCall" in part:
            call = part["functionCall"]
            heard.calls.append(Call(call["name"], compact(call.get("args", {})), call.get("id", "")))
        elif "functionResponse" in part:
            told = part["functionResponse"]
            heard.results.append((told["name"], next(iter(told["response"].values()))))
        elif "inlineData" in part:
            packed = part["inlineData"]["data"]  # in either alphabet: the SDK writes the one for addresses
            heard.pictures.append(base64.b64decode(packed.translate(_PLAIN)))
        elif part.get("text") and not part.get("thought"):
            heard.texts.append((role, part["text"]))

    def _parts(self, turn: Turn) -> list[dict[str, Any]]:
        parts: list[dict[str, Any]] = []
        if turn.reasoning:
            parts.append({"text": turn.reasoning, "thought": True})
        if turn.text or turn.refusal:
            parts.append({"text": turn.text or turn.refusal})
        for number, call in enumerate(turn.calls):
            sealed = {"thoughtSignature": turn.seal} if turn.seal and not number else {}
            parts.append({"functionCall": {"name": call.name, "args": call.given}, **sealed})
        return parts

    def _answer(self, parts: list[dict[str, Any]], turn: Turn, *, last: bool) -> Any:
        finish = {"finishReason": "MAX_TOKENS" if turn.cut_short else "STOP"} if last else {}
        candidate = {"content": {"role": "model", "parts": parts}, "index": 0, **finish}
        usage = {
            "promptTokenCount": turn.asked,
            "cachedContentTokenCount": turn.cached,
            "candidatesTokenCount": turn.spoken,
            "thoughtsTokenCount": turn.thought,
            "totalTokenCount": turn.asked + turn.answered,
        }
        return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": MODEL, "responseId": "r1"}


FORMATS: Final[tuple[Format, ...]] = (OpenAiChat(), OpenAiResponses(), AnthropicMessages(), GeminiGenerate())
