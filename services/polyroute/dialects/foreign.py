"""What of one format has no place in another: members of requests, that vendors would refuse, and of answers."""

from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Final

from polyroute.api.chat.v1.chat_pb2 import ChatEvent, ChatRequest, ChatResponse, Part
from polyroute.dialects import states

# Members that formats share: how a tool is shaped is told in the same words by all that have such tools.
_SHARED: Final = ("custom.", "function.")
# Members of a request, by its format, that stand for content which only one vendor holds.
_BOUND: Final[Mapping[str, tuple[str, ...]]] = {
    "openai.responses": ("previous_response_id", "conversation", "prompt"),
    "anthropic.messages": ("container",),
    "gemini.generate": ("cachedContent", "cached_content"),
}

# Members of answers that other formats may fill, by the client's format; a prefix says whose member it is, as in steps.
_PLACES: Final[Mapping[str, frozenset[str]]] = {
    "openai.chat": frozenset({"service_tier", "system_fingerprint", "delta.annotations", states.OF_PART}),
    "openai.completions": frozenset({"service_tier", "system_fingerprint"}),
    "openai.responses": frozenset({"service_tier", "delta.annotations", states.OF_PART}),
    "anthropic.messages": frozenset({"choice.stop_sequence"}),
}
_NOWHERE: Final = frozenset[str]()


def settle_answer(response: ChatResponse, target: str) -> None:
    """Takes out of an answer what the client's format, which is not the vendor's, has no place for."""
    places = _PLACES.get(target, _NOWHERE)
    _settle(response.extensions, places)
    for choice in response.choices:
        _settle(choice.extensions, places, "choice.")
        _settle(choice.message.extensions, places, "delta.")
        for part in choice.message.parts:
            _settle(part.extensions, places, "tool_call." if part.HasField("tool_call") else "delta.")


def settle_steps(steps: Iterable[ChatEvent], target: str) -> None:
    """The same, for the steps of an answer."""
    places = _PLACES.get(target, _NOWHERE)
    for step in steps:
        if step.extensions:
            _settle(step.extensions, places)


def _settle(extensions: MutableMapping[str, bytes], places: frozenset[str], level: str = "") -> None:
    if not extensions:  # most have none
        return
    for name in [name for name in extensions if level + name not in places]:
        del extensions[name]


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
