"""How each public API wants things said that are not content: errors, keep-alives, ends of streams, headers.

OpenAI: https://platform.openai.com/docs/guides/error-codes. Anthropic: https://docs.anthropic.com/en/api/errors.
Gemini: errors are google.rpc.Status as JSON, https://cloud.google.com/apis/design/errors.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.edge.errors import Shape, body_of
from polyroute.edge.http import figures
from polyroute.edge.http.connection import Headers
from polyroute.edge.share import Figure
from polyroute.mesh.errors import DOMAIN, MeshError

COMMENT: Final = b": keep-alive\n\n"  # a comment, which every SSE reader skips
_OVERLOADED: Final = 529  # Anthropic's own status
_SEQUENCE: Final = re.compile(rb'"sequence_number":\s*(\d{1,18})')
_RESPONSE_ID: Final = re.compile(rb'"id":\s*"(resp_[\w@~.-]{1,512})"')


@dataclass(frozen=True, slots=True)
class Manners:
    """What is expected at one door besides content.

    Attributes:
        id_header: Header that names the call.
        fixed: Headers of every answer.
        ping: Keeps a stream alive before its first content.
        end: Closes a complete stream.
        error: A whole error body: from the error, its shape in OpenAI's terms, and the call's id.
        broken: What says inside a stream that it broke: from an error body, and the first and last piece before it.
        aside: An event at a stream's end that says why the call went where it went: from a JSON object.
        statuses: HTTP statuses that differ from OpenAI's.
        forwarded: Client headers that a vendor of the same dialect may see.
        limits: How the caller's limits stand, as headers.
    """

    id_header: bytes
    fixed: Headers
    ping: bytes
    end: bytes
    error: Callable[[MeshError, Shape, str], bytes]
    broken: Callable[[bytes, bytes, bytes], bytes]
    aside: Callable[[bytes], bytes]
    statuses: Mapping[int, int] = field(default_factory=dict)
    forwarded: frozenset[str] = frozenset()
    limits: Callable[[Iterable[Figure]], list[tuple[bytes, bytes]]] = figures.openai

    def status(self, shape: Shape) -> int:
        """The HTTP status of an error here."""
        return self.statuses.get(shape.status, shape.status)


def _openai_error(error: MeshError, shape: Shape, request_id: str) -> bytes:
    return body_of(error, shape)


def _data(body: bytes) -> bytes:
    return b"data: " + body + b"\n\n"


def _data_broken(body: bytes, first: bytes, last: bytes) -> bytes:
    return _data(body)


def _responses_broken(body: bytes, first: bytes, last: bytes) -> bytes:
    """First the event at which OpenAI's own clients raise, then the one that names the response failed (Codex).

    They go on with the numbers of the events before, without which the Vercel AI SDK reads neither.
    """
    error = orjson.loads(body)["error"]
    numbers = _SEQUENCE.findall(last)
    following = int(numbers[-1]) + 1 if numbers else 0
    found = _RESPONSE_ID.search(first)
    # documented with its members at the top, sent with them in `error`, and only there OpenAI's SDKs see them
    told = {
        "type": "error",
        "sequence_number": following,
        **{name: error[name] for name in ("code", "message", "param")},
        "error": error,
    }
    failed = {
        "type": "response.failed",
        "sequence_number": following + 1,
        "response": {
            "id": found[1].decode() if found else "",
            "object": "response",
            "status": "failed",
            "error": {"code": error["code"] or error["type"], "message": error["message"]},
            "output": [],
        },
    }
    return _named("error", told) + _named("response.failed", failed)


def _named(name: str, value: Mapping[str, Any]) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + orjson.dumps(value) + b"\n\n"


def _chunk_aside(told: bytes) -> bytes:
    """A chunk without choices, as the one that tells usage."""
    return _data(b'{"object":"chat.completion.chunk","choices":[],"polyroute":' + told + b"}")


def _member_aside(told: bytes) -> bytes:
    return _data(b'{"polyroute":' + told + b"}")


def _named_aside(told: bytes) -> bytes:
    return b'event: polyroute\ndata: {"type":"polyroute","polyroute":' + told + b"}\n\n"


_ANTHROPIC_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def _anthropic_error(error: MeshError, shape: Shape, request_id: str) -> bytes:
    kind = _ANTHROPIC_TYPES.get(shape.status, "invalid_request_error" if shape.status < 500 else "api_error")
    if error.reason == pb.REASON_BUDGET_EXHAUSTED:
        kind = "billing_error"
    told = {"type": kind, "message": shape.message or error.message}
    return orjson.dumps({"type": "error", "error": told, "request_id": request_id})


def _anthropic_broken(body: bytes, first: bytes, last: bytes) -> bytes:
    return b"event: error\ndata: " + body + b"\n\n"


_RPC_CODES: Final = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    413: "INVALID_ARGUMENT",
    422: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    504: "DEADLINE_EXCEEDED",
}


def _waiting(error: MeshError) -> list[dict[str, Any]]:
    """What Gemini's clients read of a refusal: which quota it is of, and when to come back."""
    found: list[dict[str, Any]] = []
    if error.reason == pb.REASON_RATE_LIMITED:
        violation = {"quotaMetric": error.metadata.get("limit", ""), "description": error.message}
        found.append({"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]})
    if error.retry_after is not None:
        delay = f"{error.retry_after:.3f}s"
        found.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay})
    return found


def _gemini_error(error: MeshError, shape: Shape, request_id: str) -> bytes:
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": (shape.code or shape.kind).upper(),
        "domain": DOMAIN,
        "metadata": {"requestId": request_id},
    }
    told = {
        "code": shape.status,
        "message": shape.message or error.message,
        "status": _RPC_CODES.get(shape.status, "UNAVAILABLE" if shape.status > 500 else "FAILED_PRECONDITION"),
        "details": [info, *_waiting(error)],
    }
    return orjson.dumps({"error": told})


OPENAI: Final = Manners(
    id_header=b"x-request-id",
    fixed=((b"openai-version", b"2020-10-01"),),
    ping=COMMENT,
    end=b"data: [DONE]\n\n",
    error=_openai_error,
    broken=_data_broken,
    aside=_chunk_aside,
)
RESPONSES: Final = Manners(
    id_header=b"x-request-id",
    fixed=OPENAI.fixed,
    ping=COMMENT,
    end=b"",
    error=_openai_error,
    broken=_responses_broken,
    aside=_named_aside,
)
ANTHROPIC: Final = Manners(
    id_header=b"request-id",
    fixed=(),
    ping=b'event: ping\ndata: {"type":"ping"}\n\n',
    end=b"",
    error=_anthropic_error,
    broken=_anthropic_broken,
    aside=_named_aside,
    statuses={503: _OVERLOADED},
    forwarded=frozenset({"anthropic-version", "anthropic-beta"}),
    limits=figures.anthropic,
)
GEMINI: Final = Manners(
    id_header=b"x-request-id",
    fixed=(),
    ping=COMMENT,
    end=b"",
    error=_gemini_error,
    broken=_data_broken,
    aside=_member_aside,
    limits=figures.none,
)
