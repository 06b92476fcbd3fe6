"""The description of the HTTP door, OpenAPI 3.1 (https://spec.openapis.org/oas/v3.1.1).

Request bodies are described as far as Polyroute reads them; every further member goes to the vendor as it is.
"""

from typing import Any, Final

from polyroute.edge.http.schemas import SCHEMAS, ref

_KEY: Final[list[dict[str, list[str]]]] = [{"key": []}]


def _answer(description: str, schema: str, *, stream: bool = False) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": ref(schema)}}
    if stream:
        content["text/event-stream"] = {"schema": {"type": "string", "description": "`data:` events, then `[DONE]`"}}
    return {"description": description, "content": content}


def _errors(*statuses: str) -> dict[str, Any]:
    return {status: _answer("an error", "Error") for status in statuses}


def _post(
    summary: str, request: str, answer: str, *, stream: bool, media: str = "application/json", name: str = ""
) -> dict[str, Any]:
    return {
        "post": {
            "summary": summary,
            "operationId": name or request,
            "security": _KEY,
            "requestBody": {"required": True, "content": {media: {"schema": ref(request)}}},
            "responses": {
                "200": _answer("the answer", answer, stream=stream),
                **_errors("400", "401", "403", "404", "408", "413", "422", "429", "500", "502", "503", "504"),
            },
        }
    }


def _get(summary: str, answer: str, *, keyed: bool = True, media: str = "application/json") -> dict[str, Any]:
    schema = ref(answer) if media == "application/json" else {"type": "string"}
    responses: dict[str, Any] = {"200": {"description": summary, "content": {media: {"schema": schema}}}}
    if keyed:
        responses |= _errors("401", "404", "503")
    return {"get": {"summary": summary, "security": _KEY if keyed else [], "responses": responses}}


def _sound(summary: str, request: str) -> dict[str, Any]:
    described = _post(summary, request, "Health", stream=False)
    described["post"]["responses"]["200"] = {
        "description": "the sound",
        "content": {"audio/*": {"schema": {"type": "string", "format": "binary"}}},
    }
    return described


_FORM: Final = "multipart/form-data"
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
        "/v1/responses": _post("Answers in OpenAI's newer form", "Response", "ResponseAnswer", stream=True),
        "/v1/messages": _post("Answers in Anthropic's form", "Message", "MessageAnswer", stream=True),
        "/v1/messages/count_tokens": _post("Counts tokens", "TokenCount", "TokenCountAnswer", stream=False),
        "/v1beta/models/{id}:generateContent": {
            "parameters": [_ID],
            **_post("Answers in Gemini's form", "GenerateContent", "GenerateContentAnswer", stream=False),
        },
        "/v1beta/models/{id}:streamGenerateContent": {
            "parameters": [_ID],
            **_post(
                "Answers in Gemini's form as it is made",
                "GenerateContent",
                "GenerateContentAnswer",
                stream=True,
                name="StreamGenerateContent",
            ),
        },
        "/v1/rerank": _post("Orders documents by a query", "Rerank", "RerankAnswer", stream=False),
        "/v1/images/generations": _post("Makes pictures", "Image", "ImageAnswer", stream=False),
        "/v1/images/edits": _post("Edits pictures", "ImageEdit", "ImageAnswer", stream=False, media=_FORM),
        "/v1/audio/speech": _sound("Turns text to sound", "Speech"),
        "/v1/audio/transcriptions": _post(
            "Turns sound to text", "Transcription", "TranscriptionAnswer", stream=True, media=_FORM
        ),
        "/v1/audio/translations": _post(
            "Turns sound to English text",
            "Transcription",
            "TranscriptionAnswer",
            stream=False,
            media=_FORM,
            name="Translation",
        ),
        "/v1/moderations": _post("Checks content", "Moderation", "ModerationAnswer", stream=False),
        "/v1/models": _get("Lists models and aliases", "ModelList"),
        "/v1/models/{id}": {"parameters": [_ID], **_get("Describes a model", "Model")},
        "/health/live": _get("The process runs", "Health", keyed=False),
        "/health/ready": _get("Calls can be answered", "Health", keyed=False),
        "/metrics": _get("Figures in Prometheus' text format", "Health", keyed=False, media="text/plain"),
    },
    "components": {
        "schemas": SCHEMAS,
        "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "a key, `pr-...`"}},
    },
}
