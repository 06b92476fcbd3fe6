"""What the tests of dialects that only vendors speak share: drive a reader, put an answer in few words, break JSON.

A golden case is a folder of one of two kinds. A question is `request.json` in `openai.chat` and `upstream.json` with
the `body` that the vendor must get and the names that are `dropped`, or the `fault` and its `param`. An answer is
`response.sse`, `.ndjson` or `.json` as the vendor sends it and `expected.json` with what must be read, where a member
that is absent means: nothing of it.
"""

import json
import random
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest
from hypothesis import strategies as st

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects import openai_chat
from polyroute.dialects.dialect import BrokenStreamError, Outbound
from polyroute.dialects.events import assemble
from polyroute.mesh.errors import MeshError

Result = TypeVar("Result")
GOLDEN: Final = Path(__file__).parent / "golden"
TYPES: Final = {".sse": "text/event-stream;charset=UTF-8", ".ndjson": "application/x-ndjson", ".json": ""}
USAGE: Final = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
SCALARS: Final = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "text", "stop", "null", "error", "\ud7ff", "a\u0000b"])
)
VALUES: Final = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
)


def outcome(dialect: Outbound, pieces: Iterable[bytes], kind: str) -> tuple[list[pb.ChatEvent], str]:
    """The steps of a stream that arrives in these pieces, and the fault that ended it, if one did."""
    framer, reader = dialect.framing(TYPES[kind]), dialect.reader()
    assert framer is not None
    events: list[pb.ChatEvent] = []
    try:
        for piece in pieces:
            events += reader.feed(framer.feed(piece))
        events += reader.feed(framer.flush())
        events += reader.finish()
    except BrokenStreamError as error:
        return events + list(error.events), fault_name(error)
    except MeshError as error:
        return events, fault_name(error)
    return events, ""


def attempt(call: Callable[[], Result]) -> tuple[Result | None, MeshError | None]:
    """What a call gives, or the error that it raises."""
    try:
        return call(), None
    except MeshError as error:
        return None, error


def fault_name(error: MeshError) -> str:
    """Its fault in short."""
    return errors_pb2.Fault.Name(error.fault).removeprefix("FAULT_")


def read(dialect: Outbound, raw: bytes, kind: str) -> tuple[pb.ChatResponse, str]:
    """An answer, streamed or whole, as far as it can be read, and the fault that ended it."""
    if kind == ".json":
        response, error = attempt(lambda: dialect.read_answer(raw))
        return response or pb.ChatResponse(), fault_name(error) if error else ""
    events, fault = outcome(dialect, [raw], kind)
    return assemble(events), fault


def seen(response: pb.ChatResponse, fault: str) -> dict[str, Any]:
    """An answer in the terms of `expected.json`."""
    out: dict[str, Any] = {"fault": fault, "id": response.id, "model": response.model, "created": response.create_time}
    out["extensions"] = values(response.extensions)
    for choice in response.choices:
        parts = choice.message.parts
        out["parts"] = [of_part(part) for part in parts]
        out["finish"] = "" if fault else pb.FinishReason.Name(choice.finish_reason).removeprefix("FINISH_REASON_")
        out["vendor_finish"] = choice.vendor_finish_reason
        out["logprobs"] = json.loads(choice.logprobs or b"null")
        out["message"] = values(choice.message.extensions)
        out["choice"] = values(choice.extensions)
    usage = {name: getattr(response.usage, name) for name in USAGE if getattr(response.usage, name)}
    out["usage"] = usage | ({"other": dict(response.usage.other)} if response.usage.other else {})
    return {name: value for name, value in out.items() if value}


def of_part(part: pb.Part) -> list[Any]:
    """A part: its kind, its words, its seal."""
    kind = part.WhichOneof("part") or ""
    if kind == "tool_call":
        call = part.tool_call
        made = "*" if call.id.startswith("call_") and len(call.id) == len("call_") + 24 else call.id
        out: list[Any] = [kind, made, call.name, call.arguments]
    else:
        out = [kind, getattr(part, kind).text]
    if part.HasField("state"):
        out.append(f"{part.state.dialect}/{part.state.kind}")
    return out + ([values(part.extensions)] if part.extensions else [])


def values(extensions: Any) -> dict[str, Any]:
    """Extensions as values."""
    return {name: json.loads(raw) for name, raw in extensions.items()}


def golden(folder: str, kind: str) -> pytest.MarkDecorator:
    """The cases of a folder that are questions (`request`) or answers (`response`)."""
    found = sorted(path.parent for path in (GOLDEN / folder).glob(f"*/{kind}.*"))
    return pytest.mark.parametrize("case", found, ids=[path.name for path in found])


def check_question(dialect: Outbound, case: Path) -> None:
    """The request of a case is written as it says."""
    chat = openai_chat.DIALECT.read_request((case / "request.json").read_bytes())
    stream = json.loads((case / "request.json").read_bytes()).get("stream", False)
    expected = json.loads((case / "upstream.json").read_text())

    written, error = attempt(lambda: dialect.write_request(chat, model="up-1", stream=stream, source="openai.chat"))

    if error:
        assert expected == {"fault": fault_name(error), "param": error.metadata["param"]}
    if written:
        assert expected == {"body": json.loads(written[0]), "dropped": written[1]}


def check_answer(dialect: Outbound, case: Path) -> None:
    """The answer of a case is read as it says, in one piece and byte by byte."""
    [path] = case.glob("response.*")
    raw = path.read_bytes()
    expected = json.loads((case / "expected.json").read_text())

    assert expected == seen(*read(dialect, raw, path.suffix))
    if path.suffix != ".json":
        single = outcome(dialect, [raw[place : place + 1] for place in range(len(raw))], path.suffix)
        assert outcome(dialect, [raw], path.suffix) == single


def check_cut(dialect: Outbound, raw: bytes, kind: str, ended: Callable[[bytes], bool], seed: str) -> None:
    """A stream cut anywhere is a prefix of the whole, and complete only where its vendor said that it was."""
    chance = random.Random(seed)
    whole, _ = outcome(dialect, [raw], kind)
    for place in {chance.randrange(len(raw)) for _ in range(16)}:
        events, fault = outcome(dialect, [raw[:place]], kind)
        assert fault or ended(raw[:place]), f"complete when cut at {place}"
        steps = [event for event in events if event.WhichOneof("event") not in ("finished", "usage")]
        assert all(bare(one) == bare(other) for one, other in zip(steps, whole, strict=False)), f"no prefix at {place}"


def bare(event: pb.ChatEvent) -> pb.ChatEvent:
    """A step without the members that travel with it."""
    copy = pb.ChatEvent()
    copy.CopyFrom(event)
    copy.extensions.clear()
    return copy


def pieces_of(raw: bytes, seed: str) -> list[bytes]:
    """The same bytes in random pieces."""
    chance = random.Random(seed)
    places = sorted(chance.randrange(len(raw)) for _ in range(20))
    return [raw[start:end] for start, end in zip([0, *places], [*places, len(raw)], strict=True)]


def places_in(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something stands in a JSON value."""
    found = [path]
    if isinstance(value, dict):
        found += [place for name, item in value.items() for place in places_in(item, (*path, name))]
    elif isinstance(value, list):
        found += [place for number, item in enumerate(value) for place in places_in(item, (*path, number))]
    return found


def replaced(value: Any, path: tuple[Any, ...], item: Any) -> Any:
    """A JSON value with one thing in it replaced."""
    if not path:
        return item
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(value[path[0]], path[1:], item)
    return copy


@st.composite
def broken(draw: st.DrawFn, samples: list[Any]) -> Any:
    """One of some JSON values with something else in one or two of its places."""
    value = draw(st.sampled_from(samples))
    for _ in range(draw(st.integers(1, 2))):
        value = replaced(value, draw(st.sampled_from(places_in(value))), draw(VALUES))
    return value


def check_robust(dialect: Outbound, events: list[Any], names: list[str]) -> None:
    """Whatever stands in these events and bodies, a reader gives steps or an error of the vendor."""
    reader = dialect.reader()
    for name, value in zip(names, events, strict=True):
        data = json.dumps(value).encode()
        errors = [attempt(partial(reader.feed, [(name, data)]))[1], attempt(partial(dialect.read_answer, data))[1]]
        assert all(error.reason == errors_pb2.REASON_UPSTREAM for error in errors if error)
    _, end = attempt(reader.finish)
    assert end is None or end.fault == errors_pb2.FAULT_TRUNCATED
