"""What a conversation of one format carries that another format's vendors would refuse as unknown members."""

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Final

from polyroute.api.chat.v1.chat_pb2 import ChatRequest, Part

# Members that formats share: how a tool is shaped is told in the same words by all that have such tools.
_SHARED: Final = ("custom.", "function.")
# Members of a request, by its format, that stand for content which only one vendor holds.
_BOUND: Final[Mapping[str, tuple[str, ...]]] = {
    "openai.responses": ("previous_response_id", "conversation", "prompt"),
    "anthropic.messages": ("container",),
    "gemini.generate": ("cachedContent", "cached_content"),
}


def bound_by(request: ChatRequest, source: str) -> str:
    """The member by which a request is bound to vendors of its own format; empty when it says everything itself."""
    return next((name for name in _BOUND.get(source, ()) if name in request.extensions), "")


def stripped(request: ChatRequest, accepts: frozenset[str]) -> tuple[ChatRequest, list[str]]:
    """A request without the extensions inside its messages and tools that came from another format.

    Args:
        request: The conversation; not changed, and the answer itself when there is nothing to take out.
        accepts: Names that the vendor takes all the same.

    Returns:
        The request and the names that were taken out, each once.
    """
    gone = {name for held in _held(request) for name in held if _foreign(name, accepts)}
    if not gone:
        return request, []
    changed = ChatRequest()
    changed.CopyFrom(request)
    for held in _held(changed):
        for name in gone & set(held):
            del held[name]
    return changed, sorted(gone)


def _foreign(name: str, accepts: frozenset[str]) -> bool:
    return name not in accepts and not name.startswith(_SHARED)


def _held(request: ChatRequest) -> Iterator[MutableMapping[str, bytes]]:
    """Every map of extensions inside a request but its own."""
    for message in request.messages:
        yield message.extensions
        for part in message.parts:
            yield from _of_part(part)
    for tool in request.tools:
        yield tool.extensions


def _of_part(part: Part) -> Iterator[MutableMapping[str, bytes]]:
    yield part.extensions
    if part.HasField("tool_result"):
        for inner in part.tool_result.parts:
            yield inner.extensions
