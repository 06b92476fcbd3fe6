"""The description of the HTTP door, OpenAPI 3.1 (https://spec.openapis.org/oas/v3.1.1).

Request bodies are described as far as Polyroute reads them; every further member goes to the vendor as it is.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from polyroute.edge.admin.openapi import SERVERS
from polyroute.edge.http.kept import KINDS
from polyroute.edge.http.openai import AZURE
from polyroute.edge.http.schemas import SCHEMAS, ref
from polyroute.edge.http.tasks import AZURE as AZURE_TASKS

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


def _gemini(method: str, summary: str, request: str, answer: str, *, stream: bool = False) -> dict[str, Any]:
    name = method[0].upper() + method[1:]
    return {"parameters": [_ID], **_post(summary, request, answer, stream=stream, name=name)}


def _relayed(summary: str, *verbs: str, parameters: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Paths at which a vendor's own API answers: whatever the body and the status are, they are the vendor's."""
    body: dict[str, Any] = {"content": {"*/*": {"schema": {}}}}
    operation: dict[str, Any] = {
        "summary": summary,
        "security": _KEY,
        "responses": {"default": {"description": "the vendor's own answer, or an error", **body}},
    }
    sending = {"post", "put", "patch"}
    described = {verb: operation | ({"requestBody": body} if verb in sending else {}) for verb in verbs}
    return {"parameters": [_KEEPER, *parameters], **described}


def _kept() -> dict[str, dict[str, Any]]:
    """Things that vendors keep."""
    found = {}
    for kind in KINDS:
        if kind != "responses":  # that path is a door of its own
            found[f"/v1/{kind}"] = _relayed(f"Makes and lists {kind}", "get", "post", parameters=())
        found[f"/v1/{kind}/{{path}}"] = _relayed(
            f"One of the {kind}, and what belongs to it", "get", "post", "delete", parameters=[_PATH]
        )
    return found


def _azure(described: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The same doors by Azure's paths, which name the model."""
    found = {}
    for rest in (*AZURE, *AZURE_TASKS):
        post = described[f"/v1{rest}"]["post"]
        (media,) = post["requestBody"]["content"]
        body = {"required": True, "content": {media: {"schema": {"type": "object"}}}}
        told = {
            "summary": f"{post['summary']}, by the path of Azure",
            "description": f"As `/v1{rest}`; the model is the path's.",
            "operationId": f"Azure{post['operationId']}",
            "requestBody": body,
        }
        found[f"/openai/deployments/{{model}}{rest}"] = {"parameters": [_MODEL, _VERSION], "post": post | told}
    return found


def _path(name: str, text: str = "") -> dict[str, Any]:
    told = {"description": text} if text else {}
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}, **told}


def _optional(place: str, name: str, text: str) -> dict[str, Any]:
    return {"name": name, "in": place, "required": False, "schema": {"type": "string"}, "description": text}


_FORM: Final = "multipart/form-data"
_ID: Final = _path("id")
_MODEL: Final = _path("model", "a model or an alias, where Azure's clients name a deployment")
_PROVIDER: Final = _path("provider", "of the configuration")
_PATH: Final = _path("path", "of one or more segments")
_VERSION: Final = _optional("query", "api-version", "not read")
_KEEPER: Final = _optional("header", "x-polyroute-provider", "whom to ask, where the path does not say so")
_DAYS: Final = [_optional("query", name, "such as 2026-01-31") for name in ("start_date", "end_date")]

_PATHS: Final[dict[str, dict[str, Any]]] = {
    "/v1/chat/completions": _post("Answers a conversation", "ChatCompletion", "ChatCompletionAnswer", stream=True),
    "/v1/completions": _post("Completes a text", "Completion", "CompletionAnswer", stream=True),
    "/v1/embeddings": _post("Makes vectors of texts", "Embedding", "EmbeddingAnswer", stream=False),
    "/v1/responses": _post("Answers in OpenAI's newer form", "Response", "ResponseAnswer", stream=True),
    "/v1/responses/compact": _post(
        "Makes a conversation shorter", "Response", "ResponseAnswer", stream=False, name="CompactResponse"
    ),
    "/v1/responses/input_tokens": _post(
        "Counts tokens in OpenAI's newer form", "Response", "TokenCountAnswer", stream=False, name="ResponseTokenCount"
    ),
    "/v1/messages": _post("Answers in Anthropic's form", "Message", "MessageAnswer", stream=True),
    "/v1/messages/count_tokens": _post("Counts tokens", "TokenCount", "TokenCountAnswer", stream=False),
    "/v1beta/models/{id}:generateContent": _gemini(
        "generateContent", "Answers in Gemini's form", "GenerateContent", "GenerateContentAnswer"
    ),
    "/v1beta/models/{id}:streamGenerateContent": _gemini(
        "streamGenerateContent",
        "Answers in Gemini's form as it is made",
        "GenerateContent",
        "GenerateContentAnswer",
        stream=True,
    ),
    "/v1beta/models/{id}:countTokens": _gemini(
        "countTokens", "Counts tokens in Gemini's form", "CountTokens", "CountTokensAnswer"
    ),
    "/v1beta/models/{id}:embedContent": _gemini(
        "embedContent", "Makes a vector in Gemini's form", "EmbedContent", "EmbedContentAnswer"
    ),
    "/v1beta/models/{id}:batchEmbedContents": _gemini(
        "batchEmbedContents", "Makes vectors in Gemini's form", "BatchEmbedContents", "BatchEmbedContentsAnswer"
    ),
    "/v1/rerank": _post("Orders documents by a query", "Rerank", "RerankAnswer", stream=False),
    "/v1/images/generations": _post("Makes pictures", "Image", "ImageAnswer", stream=False),
    "/v1/images/edits": _post("Edits pictures", "ImageEdit", "ImageAnswer", stream=False, media=_FORM),
    "/v1/images/variations": _post(
        "Makes pictures like one", "ImageVariation", "ImageAnswer", stream=False, media=_FORM
    ),
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
    "/v1beta/models": _get("Lists models and aliases in Gemini's form", "GeminiModelList"),
    "/v1beta/models/{id}": {"parameters": [_ID], **_get("Describes a model in Gemini's form", "GeminiModel")},
    "/v1/dashboard/billing/subscription": _get("What the key may spend at most", "Subscription"),
    "/v1/dashboard/billing/usage": {
        "parameters": _DAYS,
        **_get("What the key was charged, in cents", "BilledUsage"),
    },
    "/passthrough/{provider}/{path}": _relayed(
        "A vendor's own API", "get", "post", "put", "patch", "delete", parameters=[_PROVIDER, _PATH]
    ),
    "/": _get("What this is", "Root", keyed=False),
    "/health/live": _get("The process runs", "Health", keyed=False),
    "/health/ready": _get("Calls can be answered", "Health", keyed=False),
    "/metrics": _get("Figures in Prometheus' text format", "Health", keyed=False, media="text/plain"),
    "/openapi.json": _get("This description", "Description", keyed=False),
}

DOCUMENT: Final[dict[str, Any]] = {
    "openapi": "3.1.0",
    "info": {
        "title": "Polyroute",
        "version": "1",
        "description": "One door to many model vendors. Paths below /v1 also answer without it, and below /openai/v1 "
        "and /openai as Azure's clients ask; the methods of Gemini's models below /v1 too.",
    },
    "servers": SERVERS,
    "paths": {**_PATHS, **_azure(_PATHS), **_kept()},
    "components": {
        "schemas": SCHEMAS,
        "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "a key, `pr-...`"}},
    },
}
