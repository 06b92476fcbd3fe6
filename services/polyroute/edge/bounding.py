"""A bound on the answer, put into a request whose caller gave none: what the caller's budget still pays."""

from typing import Any, Final

from polyroute.api.chat.v1.chat_pb2 import ChatRequest, EncodedRequest
from polyroute.dialects import jsontools

# Where each format has it; formats that are not here always have a bound, or answer with nothing that has a length.
_MEMBERS: Final = {
    "openai.chat": "max_tokens",
    "openai.completions": "max_tokens",
    "openai.responses": "max_output_tokens",
}
_INNER: Final = {"gemini.generate": ("generationConfig", "maxOutputTokens")}


def bounded(body: Any, tokens: int) -> Any:
    """The request with at most so many tokens for its answer; the same when its format has no place for that."""
    if isinstance(body, ChatRequest):
        changed = ChatRequest()
        changed.CopyFrom(body)
        changed.max_output_tokens = tokens
        return changed
    if isinstance(body, EncodedRequest):
        return EncodedRequest(dialect=body.dialect, content_type=body.content_type, body=_rewritten(body, tokens))
    return body


def _rewritten(request: EncodedRequest, tokens: int) -> bytes:
    bound = str(tokens).encode()
    if request.dialect in _MEMBERS:
        return jsontools.rewrite(request.body, {_MEMBERS[request.dialect]: bound})
    if request.dialect in _INNER:
        outer, inner = _INNER[request.dialect]
        given = bytes(jsontools.members_of(request.body).get(outer, b"{}"))
        held = given if given.startswith(b"{") else b"{}"
        return jsontools.rewrite(request.body, {outer: jsontools.rewrite(held, {inner: bound})})
    return request.body
