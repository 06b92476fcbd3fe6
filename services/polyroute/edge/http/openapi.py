"""The description of the HTTP door, OpenAPI 3.1 (https://spec.openapis.org/oas/v3.1.1).

Request bodies are described as far as Polyroute reads them; every further member goes to the vendor as it is.
"""

from typing import Any, Final

_KEY: Final[list[dict[str, list[str]]]] = [{"key": []}]


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _answer(description: str, schema: str, *, stream: bool = False) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": _ref(schema)}}
    if stream:
        content["text/event-stream"] = {"schema": {"type": "string", "description": "`data:` events, then `[DONE]`"}}
    return {"description": description, "content": content}


def _errors(*statuses: str) -> dict[str, Any]:
    return {status: _answer("an error", "Error") for status in statuses}


def _post(summary: str, request: str, answer: str, *, stream: bool) -> dict[str, Any]:
    return {
        "post": {
            "summary": summary,
            "operationId": request,
            "security": _KEY,
            "requestBody": {"required": True, "content": {"application/json": {"schema": _ref(request)}}},
            "responses": {
                "200": _answer("the answer", answer, stream=stream),
                **_errors("400", "401", "403", "404", "408", "413", "422", "429", "500", "502", "503", "504"),
            },
        }
    }


def _get(summary: str, answer: str, *, keyed: bool = True, media: str = "application/json") -> dict[str, Any]:
    schema = _ref(answer) if media == "application/json" else {"type": "string"}
    responses: dict[str, Any] = {"200": {"description": summary, "content": {media: {"schema": schema}}}}
    if keyed:
        responses |= _errors("401", "404", "503")
    return {"get": {"summary": summary, "security": _KEY if keyed else [], "responses": responses}}


def _object(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": True,
    }


_MODEL_NAME: Final = {"type": "string", "minLength": 1, "maxLength": 256}
_COUNT: Final = {"type": "integer", "minimum": 0}
_SCHEMAS: Final = {
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
    "ModelList": _object({"object": {"const": "list"}, "data": {"type": "array", "items": _ref("Model")}}, "data"),
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
_ID: Final = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}

DOCUMENT: Final[dict[str, Any]] = {
    "openapi": "3.1.0",
    "info": {
        "title": "Polyroute",
        "version": "1",
        "description": "One door to many model vendors. Every path also answers without its /v1.",
    },
    "paths": {
        "/v1/chat/completions": _post("Answers a conversation", "ChatCompletion", "ChatCompletionAnswer", stream=True),
        "/v1/completions": _post("Completes a text", "Completion", "CompletionAnswer", stream=True),
        "/v1/embeddings": _post("Makes vectors of texts", "Embedding", "EmbeddingAnswer", stream=False),
        "/v1/models": _get("Lists models and aliases", "ModelList"),
        "/v1/models/{id}": {"parameters": [_ID], **_get("Describes a model", "Model")},
        "/health/live": _get("The process runs", "Health", keyed=False),
        "/health/ready": _get("Calls can be answered", "Health", keyed=False),
        "/metrics": _get("Figures in Prometheus' text format", "Health", keyed=False, media="text/plain"),
    },
    "components": {
        "schemas": _SCHEMAS,
        "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "a key, `pr-...`"}},
    },
}
