"""JSON Schemas of what the HTTP doors read and answer, as far as Polyroute itself cares."""

from typing import Any, Final


def ref(name: str) -> dict[str, str]:
    """A reference to a schema by its name."""
    return {"$ref": f"#/components/schemas/{name}"}


def _object(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": True,
    }


_MODEL_NAME: Final = {"type": "string", "minLength": 1, "maxLength": 256}
_COUNT: Final = {"type": "integer", "minimum": 0}
_FILE: Final = {"type": "string", "format": "binary"}
SCHEMAS: Final = {
    "ChatCompletion": _object(
        {
            "model": _MODEL_NAME,
            "messages": {"type": "array", "minItems": 1, "items": _object({"role": {"type": "string"}}, "role")},
            "stream": {"type": ["boolean", "null"]},
            "stream_options": {"type": ["object", "null"]},
            "max_tokens": {"type": ["integer", "null"], "minimum": 0},
            "max_completion_tokens": {"type": ["integer", "null"], "minimum": 0},
            "tools": {"type": ["array", "null"], "items": {"type": "object"}},
        },
        "model",
        "messages",
    ),
    "Completion": _object(
        {
            "model": _MODEL_NAME,
            "prompt": {"type": ["string", "array"]},
            "stream": {"type": ["boolean", "null"]},
            "max_tokens": {"type": ["integer", "null"], "minimum": 0},
        },
        "model",
        "prompt",
    ),
    "Embedding": _object(
        {
            "model": _MODEL_NAME,
            "input": {"type": ["string", "array"]},
            "encoding_format": {"type": ["string", "null"], "enum": ["float", "base64", None]},
            "dimensions": {"type": ["integer", "null"], "minimum": 1},
        },
        "model",
        "input",
    ),
    "Response": _object(
        {
            "model": _MODEL_NAME,
            "input": {"type": ["string", "array"]},
            "stream": {"type": ["boolean", "null"]},
            "max_output_tokens": {"type": ["integer", "null"], "minimum": 0},
            "tools": {"type": ["array", "null"], "items": {"type": "object"}},
            "previous_response_id": {"type": ["string", "null"]},
        },
        "model",
    ),
    "Message": _object(
        {
            "model": _MODEL_NAME,
            "messages": {"type": "array", "minItems": 1, "items": _object({"role": {"type": "string"}}, "role")},
            "max_tokens": {"type": "integer", "minimum": 0},
            "stream": {"type": ["boolean", "null"]},
        },
        "model",
        "messages",
        "max_tokens",
    ),
    "TokenCount": _object({"model": _MODEL_NAME, "messages": {"type": "array"}}, "model", "messages"),
    "GenerateContent": _object({"contents": {"type": ["array", "object", "string"]}}, "contents"),
    "CountTokens": _object({"contents": {"type": ["array", "object", "string"]}}),
    "CountTokensAnswer": _object({"totalTokens": _COUNT}, "totalTokens"),
    "EmbedContent": _object({"content": {"type": "object"}}, "content"),
    "EmbedContentAnswer": _object({"embedding": {"type": "object"}}, "embedding"),
    "BatchEmbedContents": _object({"requests": {"type": "array", "minItems": 1}}, "requests"),
    "BatchEmbedContentsAnswer": _object({"embeddings": {"type": "array"}}, "embeddings"),
    "Rerank": _object(
        {
            "model": _MODEL_NAME,
            "query": {"type": "string", "minLength": 1},
            "documents": {"type": "array", "minItems": 1, "items": {"type": ["string", "object"]}},
            "top_n": {"type": ["integer", "null"], "minimum": 1},
            "return_documents": {"type": ["boolean", "null"]},
        },
        "model",
        "query",
        "documents",
    ),
    "Image": _object(
        {
            "model": _MODEL_NAME,
            "prompt": {"type": "string"},
            "n": {"type": ["integer", "null"], "minimum": 1},
            "size": {"type": ["string", "null"]},
            "response_format": {"type": ["string", "null"]},
        },
        "model",
        "prompt",
    ),
    "ImageEdit": _object({"model": _MODEL_NAME, "prompt": {"type": "string"}, "image": _FILE}, "model", "image"),
    "ImageVariation": _object({"model": _MODEL_NAME, "image": _FILE}, "model", "image"),
    "Speech": _object(
        {
            "model": _MODEL_NAME,
            "input": {"type": "string", "minLength": 1},
            "voice": {"type": ["string", "object", "null"]},
            "response_format": {"type": ["string", "null"]},
            "speed": {"type": ["number", "null"]},
        },
        "model",
        "input",
    ),
    "Transcription": _object(
        {"model": _MODEL_NAME, "file": _FILE, "language": {"type": "string"}, "response_format": {"type": "string"}},
        "model",
        "file",
    ),
    "Moderation": _object({"model": _MODEL_NAME, "input": {"type": ["string", "array"]}}, "model", "input"),
    "ResponseAnswer": _object({"output": {"type": "array"}, "usage": {"type": ["object", "null"]}}, "output"),
    "MessageAnswer": _object({"content": {"type": "array"}, "usage": {"type": "object"}}, "content"),
    "TokenCountAnswer": _object({"input_tokens": _COUNT}, "input_tokens"),
    "GenerateContentAnswer": _object({"candidates": {"type": "array"}}),
    "RerankAnswer": _object({"results": {"type": "array"}}, "results"),
    "ImageAnswer": _object({"data": {"type": "array"}}, "data"),
    "TranscriptionAnswer": _object({"text": {"type": "string"}}, "text"),
    "ModerationAnswer": _object({"results": {"type": "array"}}, "results"),
    "ChatCompletionAnswer": _object({"choices": {"type": "array"}, "usage": {"type": "object"}}, "choices"),
    "CompletionAnswer": _object({"choices": {"type": "array"}, "usage": {"type": "object"}}, "choices"),
    "EmbeddingAnswer": _object({"data": {"type": "array"}, "usage": {"type": "object"}}, "data"),
    "Model": _object(
        {"id": {"type": "string"}, "object": {"const": "model"}, "created": _COUNT, "owned_by": {"type": "string"}},
        "id",
        "object",
        "created",
        "owned_by",
    ),
    "ModelList": _object({"object": {"const": "list"}, "data": {"type": "array", "items": ref("Model")}}, "data"),
    "GeminiModel": _object({"name": {"type": "string"}}, "name"),
    "GeminiModelList": _object({"models": {"type": "array", "items": ref("GeminiModel")}}, "models"),
    "Subscription": _object(
        {"hard_limit_usd": {"type": "number"}, "access_until": {"type": "integer"}}, "hard_limit_usd"
    ),
    "BilledUsage": _object({"total_usage": {"type": "number", "description": "in cents"}}, "total_usage"),
    "Root": _object({"name": {"const": "polyroute"}, "openapi": {"type": "string"}}, "name"),
    "Description": _object({"openapi": {"type": "string"}, "paths": {"type": "object"}}, "openapi", "paths"),
    "Health": _object({"status": {"type": "string"}}, "status"),
    "Error": _object(
        {
            "error": _object(
                {
                    "message": {"type": "string"},
                    "type": {"type": "string"},
                    "param": {"type": ["string", "null"]},
                    "code": {"type": ["string", "null"]},
                },
                "message",
                "type",
            )
        },
        "error",
    ),
}
