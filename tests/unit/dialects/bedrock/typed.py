"""Requests of `bedrock.converse` as conversations: what a caller would have to say so that this is sent.

No part of the product, which only writes this format: an independent reading to compare its writing with.
"""

import base64
import json
from typing import Any

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import ChatRequest, Media, Message, Part

TYPES = {
    "pdf": "application/pdf",
    "txt": "text/plain",
    "csv": "text/csv",
    "md": "text/markdown",
    "html": "text/html",
}


def raw(value: Any) -> bytes:
    """JSON."""
    return json.dumps(value).encode()


def media(source: dict[str, Any], media_type: str) -> Media:
    """Media by its bytes, its address, or its text."""
    if "s3Location" in source:
        return Media(url=source["s3Location"]["uri"], media_type=media_type)
    if "text" in source:
        return Media(data=source["text"].encode(), media_type=media_type)
    return Media(data=base64.b64decode(source["bytes"]), media_type=media_type)


def part_of(block: dict[str, Any]) -> Part:
    """A content block as a part."""
    [(kind, value)] = block.items()
    match kind:
        case "text":
            return Part(text=pb.TextPart(text=value))
        case "image":
            return Part(image=pb.ImagePart(media=media(value["source"], f"image/{value['format']}")))
        case "video":
            return Part(file=pb.FilePart(media=media(value["source"], f"video/{value['format']}")))
        case "document":
            file = pb.FilePart(media=media(value["source"], TYPES[value["format"]]))
            extras = {name: raw(value[name]) for name in ("name", "citations", "context") if name in value}
            return Part(file=file, extensions=extras)
        case "guardContent":
            return Part(text=pb.TextPart(text=value["text"]["text"]), extensions={"guardContent": raw(value)})
        case "json":
            return Part(text=pb.TextPart(text=json.dumps(value)), extensions={"json": raw(value)})
        case "toolUse":
            call = pb.ToolCall(id=value["toolUseId"], name=value["name"], arguments=json.dumps(value["input"]))
            return Part(tool_call=call)
        case "toolResult":
            parts = [part_of(inner) for inner in value["content"]]
            failed = value.get("status") == "error"
            return Part(tool_result=pb.ToolResult(tool_call_id=value["toolUseId"], parts=parts, failed=failed))
        case "reasoningContent":
            told = value["reasoningText"]
            state = pb.VendorState(dialect="bedrock.converse", kind="signature", data=told["signature"].encode())
            return Part(reasoning=pb.ReasoningPart(text=told["text"]), state=state)
    raise AssertionError(kind)


def add_blocks(message: Message, blocks: list[dict[str, Any]]) -> None:
    """Adds the parts of a message; a cache point belongs to the part before it."""
    held: list[dict[str, Any]] = []
    chars = 0
    for block in blocks:
        if "cachePoint" in block:
            message.parts[-1].extensions["cachePoint"] = raw(block["cachePoint"])
        elif "citationsContent" in block:
            text = "".join(piece["text"] for piece in block["citationsContent"].get("content", []))
            cited = {"citations": block["citationsContent"]["citations"]}
            held.append({"from": chars, "to": chars + len(text), "citationsContent": cited})
            message.parts.append(Part(text=pb.TextPart(text=text)))
            chars += len(text)
        else:
            message.parts.append(part_of(block))
            chars += len(block.get("text", ""))
    if held:
        message.extensions["contentBlocks"] = raw(held)


def request_of(value: dict[str, Any]) -> ChatRequest:
    """A request as a conversation."""
    request = ChatRequest(model="m")
    if value.get("system"):
        add_blocks(request.messages.add(role=pb.ROLE_SYSTEM), value["system"])
    for message in value["messages"]:
        role = pb.ROLE_ASSISTANT if message["role"] == "assistant" else pb.ROLE_USER
        add_blocks(request.messages.add(role=role), message["content"])
    add_inference(request, value.get("inferenceConfig", {}))
    add_tools(request, value.get("toolConfig", {}))
    form = value.get("outputConfig", {}).get("textFormat", {}).get("structure", {}).get("jsonSchema")
    if form:
        request.response_format.type = pb.ResponseFormat.TYPE_JSON_SCHEMA
        request.response_format.schema = form["schema"].encode()
        request.response_format.name = form.get("name", "")
        request.response_format.description = form.get("description", "")
    known = {"system", "messages", "inferenceConfig", "toolConfig", "outputConfig"}
    for name in value.keys() - known:
        request.extensions[name] = raw(value[name])
    return request


def add_inference(request: ChatRequest, value: dict[str, Any]) -> None:
    """Adds `inferenceConfig`."""
    if "maxTokens" in value:
        request.max_output_tokens = value["maxTokens"]
    if "temperature" in value:
        request.sampling.temperature = value["temperature"]
    if "topP" in value:
        request.sampling.top_p = value["topP"]
    request.stop.extend(value.get("stopSequences", []))


def add_tools(request: ChatRequest, value: dict[str, Any]) -> None:
    """Adds `toolConfig`."""
    for tool in value.get("tools", []):
        if "systemTool" in tool:
            request.tools.add(name=tool["systemTool"]["name"], extensions={"systemTool": raw(tool["systemTool"])})
            continue
        spec = tool["toolSpec"]
        request.tools.add(
            name=spec["name"],
            description=spec.get("description", ""),
            parameters=raw(spec["inputSchema"]["json"]),
            strict=spec.get("strict"),
        )
    choice = value.get("toolChoice", {})
    if "auto" in choice:
        request.tool_choice.mode = pb.ToolChoice.MODE_AUTO
    elif "any" in choice:
        request.tool_choice.mode = pb.ToolChoice.MODE_REQUIRED
    elif "tool" in choice:
        request.tool_choice.mode = pb.ToolChoice.MODE_NAMED
        request.tool_choice.name = choice["tool"]["name"]


def normal(value: Any) -> Any:
    """A request without what says nothing: empty members, defaults, texts of white space, two turns of one role."""
    if isinstance(value, dict):
        out = {name: normal(item) for name, item in value.items()}
        if out.get("status") == "success":
            del out["status"]
        for name in ("system", "inferenceConfig"):
            if name in out and not out[name]:
                del out[name]
        if "messages" in out:
            out["messages"] = turns(out["messages"])
        source = out.get("source")
        if isinstance(source, dict) and "text" in source and "citations" not in out:
            out["source"] = {"bytes": base64.b64encode(source["text"].encode()).decode()}
        return out
    if isinstance(value, list):
        return [normal(item) for item in value if not (isinstance(item, dict) and blank(item))]
    return value


def blank(block: dict[str, Any]) -> bool:
    """Whether a block is a text that says nothing."""
    return list(block) == ["text"] and isinstance(block["text"], str) and not block["text"].strip()


def turns(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Messages of one role after the other as one."""
    out: list[dict[str, Any]] = []
    for message in messages:
        if out and out[-1]["role"] == message["role"]:
            out[-1]["content"] += message["content"]
        elif message["content"]:
            out.append(message)
    return out
