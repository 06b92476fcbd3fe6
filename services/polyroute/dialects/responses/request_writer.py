"""Conversations into `openai.responses` requests.

Three kinds of origin are told apart. A request that came in this dialect goes out as it came, every id in place. A
typed one may hold state of this dialect, but what it was made from is not stored: without `store`, a vendor refuses
items by ids alone (https://developers.openai.com/docs/guides/reasoning), so only what stands for itself is sent. One
that came in another dialect has nothing of this one but state which that dialect carried for its client.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import ChatRequest, Message, Part
from polyroute.dialects import drawn, jsontools
from polyroute.dialects.jsontools import invalid
from polyroute.dialects.openai import parts
from polyroute.dialects.openai.common import CHAT
from polyroute.dialects.responses import actions, content, items, tools
from polyroute.dialects.responses.common import LOGPROBS, RESPONSES, made_id, own_state, unsupported
from polyroute.dialects.responses.request import ACTED, INSTRUCTIONS, OUTPUTS

_ROLE_NAMES: Final = {
    pb.ROLE_SYSTEM: "system",
    pb.ROLE_DEVELOPER: "developer",
    pb.ROLE_USER: "user",
    pb.ROLE_ASSISTANT: "assistant",
    pb.ROLE_TOOL: "user",
}
_SAMPLING: Final = ("temperature", "top_p", "top_logprobs")
_OTHER_SAMPLING: Final = ("top_k", "frequency_penalty", "presence_penalty", "seed")
# Members that mean the same in the sibling dialect.
_SHARED: Final = frozenset(
    {
        "service_tier",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "verbosity",
    }
)
# A bound on reasoning in tokens as an effort: the levels that https://ai.google.dev/gemini-api/docs/openai gives to
# efforts, read the other way round.
_EFFORTS: Final = ((0, "none"), (1024, "low"), (8192, "medium"))
_SEALED: Final = "reasoning.encrypted_content"  # the word in `include` that asks for it


@dataclass(frozen=True, slots=True)
class Options:
    """How the vendors of this dialect differ in what they take; a provider sets what its vendor needs.

    Attributes:
        store: Sent as `store` where the client did not come in this dialect; None sends nothing.
        sealed_reasoning: It knows `include: reasoning.encrypted_content`, which is asked for when a client of another
            dialect wants reasoning, so that the reasoning can come back with the next turn.
        open_reasoning: It takes reasoning text that no state of this dialect seals.
        instructions: The first messages of the system go into `instructions` where the client did not come in this
            dialect; otherwise they stay items.
        accepts: Members beyond the standard that it takes: `top_k`, `seed`, `stop`, ...
    """

    store: bool | None = False
    sealed_reasoning: bool = True
    open_reasoning: bool = False
    instructions: bool = True
    accepts: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Writing:
    """One request in the making."""

    options: Options
    source: str
    dropped: list[str] = field(default_factory=list)
    kinds: dict[str, int] = field(default_factory=dict)  # of the tools that calls other than of functions are of, by id
    waiting: list[str] = field(default_factory=list)  # ids that were made for calls without one, for their results
    calls: int = 0

    @property
    def foreign(self) -> bool:
        """It came in another dialect."""
        return self.source not in ("", RESPONSES)

    @property
    def exact(self) -> bool:
        """It came in this dialect."""
        return self.source == RESPONSES


def write_request(
    request: ChatRequest, *, model: str, stream: bool, source: str, options: Options
) -> tuple[bytes, list[str]]:
    """See `dialect.Outbound.write_request`."""
    writing = _Writing(options, source)
    try:
        out = _write(request, writing, model=model, stream=stream)
    except (ValueError, TypeError) as error:  # bytes of a typed caller that should be JSON and are not
        raise invalid("a member of the request that should be JSON is not") from error
    return jsontools.dumps(out), list(dict.fromkeys(writing.dropped))


def _write(request: ChatRequest, writing: _Writing, *, model: str, stream: bool) -> dict[str, Any]:
    out: dict[str, Any] = {"model": model}
    said = _without_instructions(request, writing, out)
    if not writing.exact:
        said = drawn.shown_by_users(said, writing.dropped, own=RESPONSES)
    out["input"] = [item for message in said for item in _items(message, writing)]
    listed = tools.write_tools(request, writing.dropped, foreign=writing.foreign)
    if listed:
        out["tools"] = listed
    if request.HasField("tool_choice"):
        choice = tools.write_choice(request, writing.dropped, foreign=writing.foreign)
        out |= {"tool_choice": choice} if choice is not None else {}
    if request.HasField("parallel_tool_calls"):
        out["parallel_tool_calls"] = request.parallel_tool_calls
    if request.HasField("max_output_tokens"):
        out["max_output_tokens"] = request.max_output_tokens
    if request.user:
        out["user"] = request.user
    if request.metadata:
        out["metadata"] = dict(request.metadata)
    _write_sampling(request, out, writing)
    _write_reasoning(request, out, writing)
    _write_text(request, out, writing)
    _write_include(request, out, writing)
    if stream:
        out["stream"] = True
    _write_rest(request, out, writing)
    return out


def _without_instructions(request: ChatRequest, writing: _Writing, out: dict[str, Any]) -> Sequence[Message]:
    """The messages but for those that make `instructions`, which this sets."""
    messages = list(request.messages)
    given: list[str] = []
    while messages and _instructs(messages[0], writing, first=not given):
        given += [part.text.text for part in messages.pop(0).parts]
    if given:
        out["instructions"] = "\n\n".join(given)
    return messages


def _instructs(message: Message, writing: _Writing, *, first: bool) -> bool:
    if message.role not in (pb.ROLE_SYSTEM, pb.ROLE_DEVELOPER) or not all(
        part.HasField("text") for part in message.parts
    ):
        return False
    if writing.exact:
        marked = message.parts and own_state(message.parts[0]) is not None
        return bool(first and marked and message.parts[0].state.kind == INSTRUCTIONS)
    return writing.options.instructions and bool(message.parts)


def _items(message: Message, writing: _Writing) -> Iterator[dict[str, Any]]:
    if message.name:
        writing.dropped.append("messages.name")
    if message.role == pb.ROLE_ASSISTANT:
        yield from _turn(message.parts, writing)
        return
    others = [part for part in message.parts if not part.HasField("tool_result")]
    for part in message.parts:
        if part.HasField("tool_result"):
            yield _output(part, writing)
    if others or message.role != pb.ROLE_TOOL:
        role = _ROLE_NAMES.get(message.role, "user")
        out = {
            "role": role,
            "content": content.write_content(others, foreign=writing.foreign, where="messages.content"),
        }
        kept = _kept_of(others) if writing.exact else {}
        yield {"type": "message", **kept, **out} if kept else out


def _kept_of(parts_of_message: list[Part]) -> dict[str, Any]:
    state = own_state(parts_of_message[0]) if parts_of_message else None
    item = (state or {}).get("item")
    return item if isinstance(item, dict) else {}


def _output(part: Part, writing: _Writing) -> dict[str, Any]:
    result = part.tool_result
    state = own_state(part)
    call_id = result.tool_call_id or (writing.waiting.pop(0) if writing.waiting else "")
    called = writing.kinds.get(call_id, pb.TOOL_KIND_FUNCTION)
    if state is not None and part.state.kind in ACTED:
        return {"type": part.state.kind, **state}
    if called in actions.OF_KIND and not writing.exact:
        action = actions.OF_KIND[called]
        return {"type": action.output, "call_id": call_id, **actions.output_of(action, result)}
    kind = "custom_tool_call_output" if called == pb.TOOL_KIND_CUSTOM else "function_call_output"
    if state is not None and part.state.kind in OUTPUTS:
        kind = part.state.kind
    said = content.write_content(result.parts, foreign=writing.foreign, where="messages.tool_result")
    return {"type": kind, **((state or {}) if writing.exact else {}), "call_id": call_id, "output": said}


def _turn(turn: Iterable[Part], writing: _Writing) -> Iterator[dict[str, Any]]:
    """The items of a turn of the assistant; a picture belongs to the item that says how it was drawn."""
    drawn: Part | None = None
    for group in items.groups(turn):
        first = group.parts[0]
        if group.kind == "image":
            if drawn is None:
                raise unsupported("pictures of the assistant cannot be sent to the provider", "messages.content")
            yield items.opaque_item(drawn, first)
            drawn = None
            continue
        if drawn is not None:
            yield items.opaque_item(drawn)
        drawn = first if group.kind == "opaque" and first.state.kind == items.IMAGE else None
        if drawn is None:
            yield from _item(group, writing)
    if drawn is not None:
        yield items.opaque_item(drawn)


def _item(group: items.Group, writing: _Writing) -> Iterator[dict[str, Any]]:
    match group.kind:
        case "call":
            yield _call(group.parts[0], writing)
        case "reasoning":
            yield from _reasoning(group.parts, writing)
        case "opaque":
            if _stands_alone(group.parts[0], writing):
                yield items.opaque_item(group.parts[0])
        case _:
            yield _message(group.parts, writing)


def _stands_alone(part: Part, writing: _Writing) -> bool:
    """Whether an opaque item means something to a vendor that has not stored it."""
    return writing.exact or part.state.kind != "item_reference"


def _call(part: Part, writing: _Writing) -> dict[str, Any]:
    item = items.call_item(part)
    if not part.tool_call.id:
        item["call_id"] = made_id("call", writing.calls, part.tool_call.name)
        writing.waiting.append(item["call_id"])
    writing.calls += 1
    if item["type"] != "function_call":
        writing.kinds[item["call_id"]] = part.tool_call.kind
    if not writing.exact:
        item.pop("id", None)
    return item


def _reasoning(group: list[Part], writing: _Writing) -> Iterator[dict[str, Any]]:
    own = own_state(group[-1]) is not None
    item = items.reasoning_item(group)
    if writing.exact and own:
        yield item
        return
    usable = item.get("encrypted_content") or (writing.options.open_reasoning and item.get("content"))
    if not own:
        usable = writing.options.open_reasoning and (item.get("content") or item["summary"])
    if usable:
        yield item
    else:
        writing.dropped.append("messages.reasoning")


def _message(group: list[Part], writing: _Writing) -> dict[str, Any]:
    kept = items.message_state(group)
    if not writing.exact:
        kept.pop("id", None)
    entries = [_entry(part, writing) for part in group]
    plain = len(entries) == 1 and set(entries[0]) == {"type", "text"} and not kept
    out: dict[str, Any] = {"role": "assistant", "content": entries[0]["text"] if plain else entries}
    return out if plain else {"type": "message", **kept, **out}


def _entry(part: Part, writing: _Writing) -> dict[str, Any]:
    match part.WhichOneof("part"):
        case "text":
            return items.text_entry(part)
        case "refusal":
            return {"type": "refusal", "refusal": part.refusal.text}
        case "reasoning":
            return items.opaque_item(part)
        case "audio" if writing.exact and part.audio.HasField("media"):
            return items.sound_entry(part.audio)
        case "audio" if part.audio.transcript:
            return {"type": "output_text", "text": part.audio.transcript}
        case kind:
            raise unsupported(f"this kind of content of the assistant cannot be sent: {kind}", "messages.content")


def _write_sampling(request: ChatRequest, out: dict[str, Any], writing: _Writing) -> None:
    sampling, accepts = request.sampling, writing.options.accepts
    for name in (*_SAMPLING, *_OTHER_SAMPLING):
        if sampling.HasField(name):
            if name in _SAMPLING or name in accepts:
                out[name] = getattr(sampling, name)
            else:
                writing.dropped.append(name)
    others: dict[str, Any] = {"logit_bias": dict(sampling.logit_bias), "stop": list(request.stop)}
    if request.HasField("choices") and request.choices > 1:
        others["n"] = request.choices
    for name, value in others.items():
        if value and name in accepts:
            out[name] = value
        elif value:
            writing.dropped.append(name)


def _write_reasoning(request: ChatRequest, out: dict[str, Any], writing: _Writing) -> None:
    asked = request.reasoning
    effort = asked.effort
    if not effort and asked.HasField("enabled") and not asked.enabled:
        effort = "none"
    elif not effort and asked.HasField("max_tokens"):
        effort = next((word for most, word in _EFFORTS if asked.max_tokens <= most), "high")
    said = {name: word for name, word in (("effort", effort), ("summary", asked.summary)) if word}
    kept = b"" if writing.foreign else request.extensions.get("reasoning", b"")
    rest = jsontools.loads(kept) if kept else {}
    if said or rest:
        out["reasoning"] = {**(rest if isinstance(rest, dict) else {}), **said}


def _write_text(request: ChatRequest, out: dict[str, Any], writing: _Writing) -> None:
    said: dict[str, Any] = {}
    if request.HasField("response_format"):
        form = tools.write_format(request.response_format, writing.dropped, foreign=writing.foreign)
        said |= {"format": form} if form is not None else {}
    if "verbosity" in request.extensions and writing.source in ("", RESPONSES, CHAT):
        said["verbosity"] = jsontools.loads(request.extensions["verbosity"])
    rest = jsontools.loads(request.extensions["text"]) if not writing.foreign and "text" in request.extensions else {}
    if said or rest:
        out["text"] = {**(rest if isinstance(rest, dict) else {}), **said}


def _write_include(request: ChatRequest, out: dict[str, Any], writing: _Writing) -> None:
    kept = b"" if writing.foreign else request.extensions.get("include", b"")
    words = jsontools.loads(kept) if kept else []
    include = list(words) if isinstance(words, list) else []
    if request.sampling.logprobs:
        include.append(LOGPROBS)
    # only models that reason know it: others refuse the request
    asked = bool(out.get("reasoning")) and out["reasoning"].get("effort") != "none"
    reasons = asked or any("encrypted_content" in item for item in out["input"])
    if reasons and not writing.exact and writing.options.sealed_reasoning and _SEALED not in include:
        include.append(_SEALED)
    if include:
        out["include"] = include


def _write_rest(request: ChatRequest, out: dict[str, Any], writing: _Writing) -> None:
    """The extensions that have no place of their own; `store` where nobody said anything about it."""
    written = {"tools", "include", "verbosity", "text", "reasoning"}
    if not writing.foreign:
        parts.put_extras(out, {name: raw for name, raw in request.extensions.items() if name not in written})
    else:
        shared = _SHARED if writing.source == CHAT else frozenset()
        parts.put_extras(out, {name: raw for name, raw in request.extensions.items() if name in shared - written})
        writing.dropped += sorted(name for name in request.extensions if name not in shared)
    if not writing.exact and writing.options.store is not None:
        out.setdefault("store", writing.options.store)
