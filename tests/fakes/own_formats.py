"""The wire formats that only vendors speak.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html,
https://docs.cohere.com/reference/chat-stream, https://docs.ollama.com/api/chat,
https://www.alibabacloud.com/help/en/model-studio/qwen-api-via-dashscope.
"""

import base64
import zlib
from typing import Any, Final

import orjson

from tests.fakes.turns import MODEL, Call, Format, Heard, Turn, compact, data, halves, named, text_in, unpacked


def frame(kind: str, name: str, value: object) -> bytes:
    """One message of `application/vnd.amazon.eventstream`: prelude, headers, payload, and a CRC32 of each part."""
    about = {f":{kind}-type": name, ":content-type": "application/json", ":message-type": kind}
    headers = b"".join(
        bytes((len(key),)) + key.encode() + b"\x07" + len(text).to_bytes(2) + text.encode()
        for key, text in about.items()
    )
    payload = orjson.dumps(value)
    prelude = (16 + len(headers) + len(payload)).to_bytes(4) + len(headers).to_bytes(4)
    message = prelude + zlib.crc32(prelude).to_bytes(4) + headers + payload
    return message + zlib.crc32(message).to_bytes(4)


class BedrockConverse(Format):
    """`bedrock.converse`."""

    name = "bedrock.converse"
    kind = "application/vnd.amazon.eventstream"
    counts = ("cached",)

    def whole(self, turn: Turn) -> Any:
        message = {"role": "assistant", "content": self._blocks(turn)}
        return {"output": {"message": message}, "stopReason": self._stop(turn)} | self._metadata(turn)

    def stream(self, turn: Turn) -> list[bytes]:
        frames = [frame("event", "messageStart", {"role": "assistant"})]
        for index, block in enumerate(self._blocks(turn)):
            at = {"contentBlockIndex": index}
            if "toolUse" in block:
                start = {name: block["toolUse"][name] for name in ("toolUseId", "name")}
                frames.append(frame("event", "contentBlockStart", {**at, "start": {"toolUse": start}}))
            frames += [frame("event", "contentBlockDelta", {**at, "delta": delta}) for delta in self._deltas(block)]
            frames.append(frame("event", "contentBlockStop", at))
        return frames

    def _deltas(self, block: Any) -> list[Any]:
        if "toolUse" in block:
            return [{"toolUse": {"input": piece}} for piece in halves(compact(block["toolUse"]["input"]))]
        if "reasoningContent" in block:
            told = block["reasoningContent"]["reasoningText"]
            deltas = [{"reasoningContent": {"text": piece}} for piece in halves(told["text"])]
            return [*deltas, {"reasoningContent": {"signature": told["signature"]}}]
        return [{"text": piece} for piece in halves(block["text"])]

    def end(self, turn: Turn) -> list[bytes]:
        stop = frame("event", "messageStop", {"stopReason": self._stop(turn)})
        return [stop, frame("event", "metadata", self._metadata(turn))]

    def broken(self, turn: Turn) -> bytes:
        return frame("exception", "serviceUnavailableException", {"message": turn.says})

    def error(self, turn: Turn) -> Any:
        return {"message": turn.says}

    def hear(self, body: Any) -> Heard:
        heard = Heard()
        heard.texts += [("system", block["text"]) for block in body.get("system", ()) if "text" in block]
        for message in body["messages"]:
            for block in message["content"]:
                self._block(message["role"], block, heard)
        heard.tools = [one["toolSpec"]["name"] for one in body.get("toolConfig", {}).get("tools", ())]
        form = body.get("outputConfig", {}).get("textFormat", {}).get("structure", {}).get("jsonSchema", {})
        heard.schema = orjson.loads(form["schema"]) if "schema" in form else None
        return heard

    def _block(self, role: str, block: Any, heard: Heard) -> None:
        match block:
            case {"text": text}:
                heard.texts.append((role, text))
            case {"toolUse": call}:
                heard.calls.append(Call(call["name"], compact(call["input"]), call["toolUseId"]))
            case {"toolResult": told}:
                heard.results.append((told["toolUseId"], text_in(told["content"])))
            case {"reasoningContent": {"reasoningText": thoughts}}:
                heard.seals.append(thoughts.get("signature", ""))
            case {"image": picture}:
                heard.pictures.append(base64.b64decode(picture["source"]["bytes"]))

    def _blocks(self, turn: Turn) -> list[dict[str, Any]]:
        blocks: list[dict[str, Any]] = []
        if turn.reasoning:
            told = {"text": turn.reasoning, "signature": turn.seal}
            blocks.append({"reasoningContent": {"reasoningText": told}})
        if turn.text or turn.refusal:
            blocks.append({"text": turn.text or turn.refusal})
        for call in turn.calls:
            blocks.append({"toolUse": {"toolUseId": call.id, "name": call.name, "input": call.given}})
        return blocks

    def _stop(self, turn: Turn) -> str:
        return "tool_use" if turn.calls else "max_tokens" if turn.cut_short else "end_turn"

    def _metadata(self, turn: Turn) -> Any:
        usage = {
            "inputTokens": turn.fresh,
            "cacheReadInputTokens": turn.cached,
            "cacheWriteInputTokens": 0,
            "outputTokens": turn.answered,
            "totalTokens": turn.asked + turn.answered,
        }
        return {"usage": usage, "metrics": {"latencyMs": 1}}


class CohereChat(Format):
    """`cohere.chat`."""

    name = "cohere.chat"
    counts = ("cached",)

    def whole(self, turn: Turn) -> Any:
        message: dict[str, Any] = {"role": "assistant", "content": self._content(turn)}
        if turn.calls:
            message["tool_calls"] = [self._call(call) for call in turn.calls]
        return {"id": "r-1", "message": message, "finish_reason": self._finish(turn), "usage": self._usage(turn)}

    def stream(self, turn: Turn) -> list[bytes]:
        start: dict[str, Any] = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
        events: list[dict[str, Any]] = [{"type": "message-start", "id": "r-1", "delta": {"message": start}}]
        for index, entry in enumerate(self._content(turn)):
            word = entry["type"]
            opened = {"message": {"content": {"type": word, word: ""}}}
            events.append({"type": "content-start", "index": index, "delta": opened})
            for piece in halves(entry[word]):
                said = {"message": {"content": {word: piece}}}
                events.append({"type": "content-delta", "index": index, "delta": said})
            events.append({"type": "content-end", "index": index})
        for index, call in enumerate(turn.calls):
            opened = {"message": {"tool_calls": self._call(Call(call.name, "", call.id))}}
            events.append({"type": "tool-call-start", "index": index, "delta": opened})
            for piece in halves(call.arguments):
                delta = {"message": {"tool_calls": {"function": {"arguments": piece}}}}
                events.append({"type": "tool-call-delta", "index": index, "delta": delta})
            events.append({"type": "tool-call-end", "index": index})
        return [named(event["type"], event) for event in events]

    def end(self, turn: Turn) -> list[bytes]:
        delta = {"finish_reason": self._finish(turn), "usage": self._usage(turn)}
        return [named("message-end", {"type": "message-end", "delta": delta}), b"data: [DONE]\n\n"]

    def broken(self, turn: Turn) -> bytes:
        return named("message-end", {"type": "message-end", "delta": {"finish_reason": "ERROR", "error": turn.says}})

    def error(self, turn: Turn) -> Any:
        return {"id": "e-1", "message": turn.says}

    def hear(self, body: Any) -> Heard:
        heard = Heard(model=body["model"], stream=body.get("stream", False))
        for message in body["messages"]:
            content = message.get("content")
            if message["role"] == "tool":
                heard.results.append((message["tool_call_id"], text_in(content)))
                continue
            if text_in(content):
                heard.texts.append((message["role"], text_in(content)))
            for entry in content if isinstance(content, list) else ():
                if entry["type"] == "image_url":
                    heard.pictures.append(unpacked(entry["image_url"]["url"]))
            for call in message.get("tool_calls", ()):
                heard.calls.append(Call(call["function"]["name"], call["function"]["arguments"], call["id"]))
        heard.tools = [tool["function"]["name"] for tool in body.get("tools", ())]
        form = body.get("response_format", {})
        heard.schema = form.get("json_schema") or form.get("schema")
        return heard

    def _content(self, turn: Turn) -> list[dict[str, Any]]:
        thoughts = [{"type": "thinking", "thinking": turn.reasoning}] if turn.reasoning else []
        words = turn.text or turn.refusal
        return [*thoughts, *([{"type": "text", "text": words}] if words else [])]

    def _call(self, call: Call) -> Any:
        return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}

    def _finish(self, turn: Turn) -> str:
        return "TOOL_CALL" if turn.calls else "MAX_TOKENS" if turn.cut_short else "COMPLETE"

    def _usage(self, turn: Turn) -> Any:
        billed = {"input_tokens": 2, "output_tokens": 1}
        tokens = {"input_tokens": turn.asked, "output_tokens": turn.answered}
        return {"billed_units": billed, "tokens": tokens, "cached_tokens": turn.cached}


class OllamaChat(Format):
    """`ollama.chat`, of a server so old that its calls have no ids."""

    name = "ollama.chat"
    kind = "application/x-ndjson"
    ids = False
    counts = ()

    def whole(self, turn: Turn) -> Any:
        message: dict[str, Any] = {"role": "assistant", "content": turn.text or turn.refusal}
        if turn.reasoning:
            message["thinking"] = turn.reasoning
        if turn.calls:
            message["tool_calls"] = [self._call(call) for call in turn.calls]
        return self._line(message) | self._last(turn)

    def stream(self, turn: Turn) -> list[bytes]:
        messages: list[dict[str, Any]] = [{"content": "", "thinking": piece} for piece in halves(turn.reasoning)]
        messages += [{"content": piece} for piece in halves(turn.text or turn.refusal)]
        messages += [{"content": "", "tool_calls": [self._call(call)]} for call in turn.calls]
        return [orjson.dumps(self._line({"role": "assistant", **one})) + b"\n" for one in messages]

    def end(self, turn: Turn) -> list[bytes]:
        return [orjson.dumps(self._line({"role": "assistant", "content": ""}) | self._last(turn)) + b"\n"]

    def broken(self, turn: Turn) -> bytes:
        return orjson.dumps({"error": turn.says}) + b"\n"

    def error(self, turn: Turn) -> Any:
        return {"error": turn.says}

    def hear(self, body: Any) -> Heard:
        heard = Heard(model=body["model"], stream=body.get("stream", True))
        for message in body["messages"]:
            if message["role"] == "tool":
                heard.results.append((message.get("tool_name", ""), message["content"]))
                continue
            if message["content"]:
                heard.texts.append((message["role"], message["content"]))
            heard.pictures += [base64.b64decode(one) for one in message.get("images", ())]
            for call in message.get("tool_calls", ()):
                heard.calls.append(Call(call["function"]["name"], compact(call["function"]["arguments"])))
        heard.tools = [tool["function"]["name"] for tool in body.get("tools", ())]
        heard.schema = body.get("format")
        return heard

    def _call(self, call: Call) -> Any:
        return {"function": {"name": call.name, "arguments": call.given}}

    def _line(self, message: dict[str, Any]) -> dict[str, Any]:
        return {"model": MODEL, "created_at": "2026-01-01T00:00:00Z", "message": message, "done": False}

    def _last(self, turn: Turn) -> dict[str, Any]:
        reason = "length" if turn.cut_short else "stop"
        counts = {"prompt_eval_count": turn.asked, "eval_count": turn.answered, "total_duration": 1}
        return {"done": True, "done_reason": reason, **counts}


class DashscopeGeneration(Format):
    """`dashscope.generation`; models that see have content in lists."""

    name = "dashscope.generation"
    kind = "text/event-stream;charset=UTF-8"

    def whole(self, turn: Turn) -> Any:
        message: dict[str, Any] = {"role": "assistant", "content": turn.text or turn.refusal}
        if turn.reasoning:
            message["reasoning_content"] = turn.reasoning
        if turn.calls:
            message["tool_calls"] = [self._call(number, call) for number, call in enumerate(turn.calls)]
        return self._answer(message, turn, self._finish(turn))

    def stream(self, turn: Turn) -> list[bytes]:
        messages: list[dict[str, Any]] = [
            {"content": "", "reasoning_content": piece} for piece in halves(turn.reasoning)
        ]
        messages += [{"content": piece} for piece in halves(turn.text or turn.refusal)]
        for number, call in enumerate(turn.calls):
            first, *rest = halves(call.arguments)
            messages.append({"content": "", "tool_calls": [self._call(number, Call(call.name, first, call.id))]})
            for piece in rest:
                more = {"index": number, "id": "", "type": "function", "function": {"arguments": piece}}
                messages.append({"content": "", "tool_calls": [more]})
        return [self._event({"role": "assistant", **one}, turn, "null") for one in messages]

    def end(self, turn: Turn) -> list[bytes]:
        return [self._event({"role": "assistant", "content": ""}, turn, self._finish(turn))]

    def broken(self, turn: Turn) -> bytes:
        told = {"code": "InternalError", "message": turn.says, "request_id": "q-1"}
        return b"id:9\nevent:error\n:HTTP_STATUS/500\n" + data(told)

    def error(self, turn: Turn) -> Any:
        code = "InvalidParameter" if turn.status == 400 else "ServiceUnavailable"
        return {"code": code, "message": turn.says, "request_id": "q-1"}

    def hear(self, body: Any) -> Heard:
        parameters = body["parameters"]
        heard = Heard(model=body["model"], stream=parameters.get("incremental_output", False))
        for message in body["input"]["messages"]:
            content = message["content"]
            if message["role"] == "tool":
                heard.results.append((message["tool_call_id"], text_in(content)))
                continue
            if text_in(content):
                heard.texts.append((message["role"], text_in(content)))
            for entry in content if isinstance(content, list) else ():
                if "image" in entry:
                    heard.pictures.append(unpacked(entry["image"]))
            for call in message.get("tool_calls", ()):
                heard.calls.append(Call(call["function"]["name"], call["function"]["arguments"], call["id"]))
        heard.tools = [tool["function"]["name"] for tool in parameters.get("tools", ())]
        heard.schema = parameters.get("response_format", {}).get("json_schema", {}).get("schema")
        return heard

    def _call(self, number: int, call: Call) -> Any:
        function = {"name": call.name, "arguments": call.arguments}
        return {"index": number, "id": call.id, "type": "function", "function": function}

    def _finish(self, turn: Turn) -> str:
        return "tool_calls" if turn.calls else "length" if turn.cut_short else "stop"

    def _event(self, message: dict[str, Any], turn: Turn, finish: str) -> bytes:
        told = orjson.dumps(self._answer(message, turn, finish))
        return b"id:1\nevent:result\n:HTTP_STATUS/200\ndata:" + told + b"\n\n"

    def _answer(self, message: dict[str, Any], turn: Turn, finish: str) -> Any:
        usage = {
            "input_tokens": turn.asked,
            "output_tokens": turn.answered,
            "total_tokens": turn.asked + turn.answered,
            "prompt_tokens_details": {"cached_tokens": turn.cached},
            "output_tokens_details": {"reasoning_tokens": turn.thought},
        }
        choice = {"finish_reason": finish, "message": message}
        return {"output": {"choices": [choice]}, "usage": usage, "request_id": "q-1"}


OWN_FORMATS: Final[tuple[Format, ...]] = (BedrockConverse(), CohereChat(), OllamaChat(), DashscopeGeneration())
