"""Requests and answers of `xai.grpc` in the JSON form of their messages, for tests that show them."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict, ParseDict

from polyroute.dialects import grpc_frames
from xai.api.v1.chat_pb2 import (
    CompletionMessage,
    CompletionOutput,
    GetChatCompletionChunk,
    GetChatCompletionResponse,
    GetCompletionsRequest,
)


def sent(body: bytes) -> dict[str, Any]:
    """A request."""
    found: dict[str, Any] = MessageToDict(GetCompletionsRequest.FromString(body), preserving_proto_field_name=True)
    return found


def chunk(**members: Any) -> GetChatCompletionChunk:
    """A piece of an answer."""
    return ParseDict(members, GetChatCompletionChunk())


def bytes_of(chunks: Iterable[GetChatCompletionChunk], status: dict[str, str] | None) -> bytes:
    """A stream; without a status it was cut."""
    frames = [grpc_frames.frame(one.SerializeToString()) for one in chunks]
    return b"".join([*frames, grpc_frames.trailers(status) if status else b""])


def stream_of(case: Path) -> bytes:
    """The stream of a golden case."""
    stream = json.loads((case / "stream.json").read_text())
    return bytes_of([chunk(**one) for one in stream["chunks"]], stream.get("status"))


def whole(chunks: Iterable[GetChatCompletionChunk]) -> bytes:
    """The answer that pieces make, as the vendor's own client puts them together."""
    out = GetChatCompletionResponse()
    outputs: dict[int, CompletionOutput] = {}
    for one in chunks:
        out.id, out.model, out.system_fingerprint = one.id, one.model, one.system_fingerprint
        out.created.CopyFrom(one.created)
        if one.HasField("usage"):
            out.usage.CopyFrom(one.usage)
        out.citations.extend(one.citations)
        out.output_files.extend(one.output_files)
        out.service_tier = one.service_tier or out.service_tier
        for piece in one.outputs:
            output = outputs.setdefault(piece.index, CompletionOutput(index=piece.index))
            said: CompletionMessage = output.message
            said.role = piece.delta.role
            said.content += piece.delta.content
            said.reasoning_content += piece.delta.reasoning_content
            said.encrypted_content += piece.delta.encrypted_content
            said.tool_calls.extend(piece.delta.tool_calls)
            said.citations.extend(piece.delta.citations)
            output.logprobs.content.extend(piece.logprobs.content)
            output.finish_reason = piece.finish_reason
    out.outputs.extend(outputs.values())
    return out.SerializeToString()
