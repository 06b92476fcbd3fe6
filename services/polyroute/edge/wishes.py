"""What a request body says to Polyroute itself, taken out before a vendor sees it.

`provider`, `models`, `region` and `max_latency_ms` are members of the body in every dialect: whoever cannot add members
through a client's extra-body option can use the forms of the model's name instead.
"""

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Final, NamedTuple

from polyroute.api.chat.v1.chat_pb2 import CAPABILITY_TOOLS, ChatRequest, RequestFacts
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.router.v1.router_pb2 import (
    URGENCY_HIGH,
    URGENCY_LOW,
    URGENCY_NORMAL,
    URGENCY_UNSPECIFIED,
    Hints,
    Preferences,
    Urgency,
)
from polyroute.dialects import jsontools, multipart
from polyroute.dialects.preferences import read_models, read_preferences
from polyroute.dialects.task import Body
from polyroute.mesh.errors import MeshError

AUTO: Final = "auto"
_MEMBERS: Final = ("provider", "models", "region", "max_latency_ms")
_QUOTED: Final = jsontools.quoted(frozenset(_MEMBERS))
_IN_FORM: Final = re.compile(b'name="?(?:%b)["\\[;\\s]' % "|".join(_MEMBERS).encode())
_CODE: Final = (b"```", b"def ", b"function ", b"#include", b"public class", b"SELECT ", b"import ", b"</")
_LEAST_CODE: Final = 2  # of these in a body that holds program code; any text may hold one
_LONGEST_REGION: Final = 64
URGENCY: Final = "x-polyroute-urgency"
URGENCIES: Final = {"": URGENCY_UNSPECIFIED, "low": URGENCY_LOW, "normal": URGENCY_NORMAL, "high": URGENCY_HIGH}


class Wishes(NamedTuple):
    """A body and what it asked of routing.

    Attributes:
        body: Without the members that are not a vendor's.
        preferences: What the caller wants of the deployments; None when it says nothing.
        model: The first of `models`, for a body that names no other.
    """

    body: bytes
    preferences: Preferences | None = None
    model: str = ""


def taken(body: bytes) -> Wishes:
    """Takes a caller's wishes out of a JSON body; any other body is left for its reader to refuse.

    Raises:
        MeshError: REASON_INVALID_REQUEST; metadata `param` names what is wrong.
    """
    if not jsontools.holds(body, _QUOTED):
        return Wishes(body)
    members = jsontools.members_of(body)
    said: dict[str, bytes] = {name: bytes(members[name]) for name in _MEMBERS if name in members}
    if not said:
        return Wishes(body)
    return _read(said)._replace(body=jsontools.rewrite(body, {}, said))


def taken_of_form(form: Body) -> tuple[Wishes, str]:
    """Takes a caller's wishes out of a form: `provider` as JSON, or `provider[only][]` as clients write objects there.

    Returns:
        What it asks, and the media type of what is left, whose boundary may be another one.

    Raises:
        MeshError: REASON_INVALID_REQUEST; metadata `param` names what is wrong.
    """
    if _IN_FORM.search(form.data) is None:
        return Wishes(form.data), form.content_type
    fields = multipart.read(form)
    ours = [field for field in fields if field.name.partition("[")[0] in _MEMBERS]
    if not ours:
        return Wishes(form.data), form.content_type
    said: dict[str, Any] = {}
    for field in ours:
        _put(said, field)
    left = multipart.write(field for field in fields if field not in ours)
    return _read({name: jsontools.dumps(value) for name, value in said.items()})._replace(
        body=left.data
    ), left.content_type


def _read(said: Mapping[str, bytes]) -> Wishes:
    """What members say, as JSON; without a body."""
    preferences = read_preferences(said.get("provider", b"null"))
    models = read_models(said.get("models", b"null"))
    preferences.models.extend(models)
    _region(preferences, said.get("region", b"null"))
    _latency(preferences, said.get("max_latency_ms", b"null"))
    return Wishes(b"", preferences, models[0] if models else "")


def _put(said: dict[str, Any], field: multipart.Field) -> None:
    """Puts one field of a form where its name says: `a[b][]` is the next of the list `b` of the object `a`."""
    name, *inner = field.name.replace("]", "").split("[")
    text = field.data.decode("utf-8", "replace")
    place: Any = said
    path = [name, *inner]
    for step, following in pairwise(path):
        place = place.setdefault(step, [] if not following else {}) if isinstance(place, dict) else None
    value = _value(text)
    if isinstance(place, dict):
        place[path[-1]] = value
    elif isinstance(place, list) and not path[-1]:
        place.append(value)
    else:
        raise MeshError(pb.REASON_INVALID_REQUEST, f"{name} is no object", metadata={"param": name})


def _value(text: str) -> Any:
    """The value of a field: JSON where it is some, and else the text."""
    try:
        return jsontools.loads(text.encode())
    except ValueError:
        return text


def _loaded(name: str, raw: bytes) -> Any:
    try:
        return jsontools.loads(raw)
    except ValueError:  # a number beyond all bounds, or half a surrogate pair
        raise MeshError(pb.REASON_INVALID_REQUEST, f"{name} cannot be read", metadata={"param": name}) from None


def _region(preferences: Preferences, raw: bytes) -> None:
    region = _loaded("region", raw)
    if region is None:
        return
    if not isinstance(region, str) or not 0 < len(region) <= _LONGEST_REGION:
        raise MeshError(pb.REASON_INVALID_REQUEST, "region is no name of a region", metadata={"param": "region"})
    preferences.regions.append(region)


def _latency(preferences: Preferences, raw: bytes) -> None:
    bound = _loaded("max_latency_ms", raw)
    if bound is None:
        return
    if isinstance(bound, bool) or not isinstance(bound, (int, float)) or bound <= 0:
        raise MeshError(
            pb.REASON_INVALID_REQUEST,
            "max_latency_ms is no number of milliseconds",
            metadata={"param": "max_latency_ms"},
        )
    most = preferences.latency_milliseconds
    most.max = min(bound, most.max) if most.HasField("max") else bound


def hints(body: bytes, facts: RequestFacts, urgency: str = "") -> Hints | None:
    """What the content looks like, for a call whose model is to be chosen by it; None for any other.

    Args:
        body: The request's.
        facts: What was read from it.
        urgency: `low`, `normal`, `high`, or empty.

    Raises:
        MeshError: REASON_INVALID_REQUEST; the urgency is none of these.
    """
    if not _left_to_us(facts):
        return None
    return Hints(
        urgency=_urgency(urgency),
        code=sum(mark in body for mark in _CODE) >= _LEAST_CODE,
        tools=body.count(b'"parameters"') if CAPABILITY_TOOLS in facts.needs else 0,
        messages=body.count(b'"role"'),
    )


def typed_hints(chat: ChatRequest, facts: RequestFacts, urgency: str = "") -> Hints | None:
    """The same of a typed conversation.

    Raises:
        MeshError: As `hints`.
    """
    if not _left_to_us(facts):
        return None
    text = "".join([part.text.text for message in chat.messages for part in message.parts if part.HasField("text")])
    return Hints(
        urgency=_urgency(urgency),
        code=sum(mark.decode() in text for mark in _CODE) >= _LEAST_CODE,
        tools=len(chat.tools),
        messages=len(chat.messages),
    )


def _left_to_us(facts: RequestFacts) -> bool:
    return facts.model == AUTO or facts.model.startswith(AUTO + ":")


def _urgency(word: str) -> Urgency.ValueType:
    found = URGENCIES.get(word.lower())
    if found is None:
        raise MeshError(
            pb.REASON_INVALID_REQUEST,
            f"{URGENCY} must be low, normal or high, not {word[:20]!r}",
            metadata={"param": URGENCY},
        )
    return found
