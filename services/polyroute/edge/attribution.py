"""Whom and what a call is for, in the caller's own words: end user, workflow, step and tags, from headers and body.

They end on the call's record, usage is added up by them, and the operator's rules choose policies by tags. Nothing of
them decides what a caller may do.
"""

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote

from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.dialects import jsontools
from polyroute.edge.trail import Trail
from polyroute.mesh.errors import MeshError

TAGS_HEADER: Final = "x-polyroute-tags"
WORKFLOW_HEADER: Final = "x-polyroute-workflow"
NODE_HEADER: Final = "x-polyroute-node"
WEBUI_USER_HEADER: Final = "x-openwebui-user-id"

TAGS: Final = 16  # of headers, and of a body; with the lengths, OpenAI's own bounds of `metadata`
NAME_CHARS: Final = 64
VALUE_CHARS: Final = 512
ID_CHARS: Final = 128
USER_BYTES: Final = 512  # as the contract bounds it

# A prompt that only says `user` in the roles of its messages is not parsed for it.
_SAID: Final = re.compile(rb'"(?:metadata|user|safety_identifier)"[ \t\r\n]*(?::|\Z)')


def from_headers(trail: Trail, headers: Mapping[str, str]) -> None:
    """Takes what headers, or the metadata of an RPC, say of a call into its trail.

    Values are percent-encoded UTF-8: `x-polyroute-tags: team=a,feature=caf%C3%A9`. Open WebUI names its user in a
    header of its own (ENABLE_FORWARD_USER_INFO_HEADERS), which counts where the body names none.

    Raises:
        MeshError: REASON_INVALID_REQUEST; metadata `param` names the header.
    """
    if (workflow := headers.get(WORKFLOW_HEADER)) is not None:
        trail.workflow = _id(workflow, WORKFLOW_HEADER)
    if (node := headers.get(NODE_HEADER)) is not None:
        trail.node = _id(node, NODE_HEADER)
    if (user := headers.get(WEBUI_USER_HEADER)) is not None:
        trail.user = _user(unquote(user))
    if (tags := headers.get(TAGS_HEADER)) is not None:
        trail.tags = {**trail.tags, **_tags(tags)}


def from_body(trail: Trail, body: bytes) -> None:
    """Takes what a JSON body says of its call into the trail; what headers said before stands.

    `user`, else `safety_identifier`, else `metadata.user_id` is the end user. Of the rest of `metadata`, `workflow_id`
    and `node_id` are what their names say, and everything else is a tag.

    Raises:
        MeshError: REASON_INVALID_REQUEST; metadata `param` names the member.
    """
    if not jsontools.holds(body, _SAID):
        return
    members = jsontools.members_of(body)
    metadata = _metadata(_value(members, "metadata"))
    users = (_value(members, name) for name in ("user", "safety_identifier"))
    take(trail, metadata, next((_user(user) for user in users if user), ""))


def take(trail: Trail, metadata: Mapping[str, str], user: str = "") -> None:
    """Takes a user and what stands in `metadata` into a trail; what headers said before stands."""
    rest = dict(metadata)
    named = rest.pop("user_id", "")
    trail.user = user or _user(named) or trail.user
    workflow, node = rest.pop("workflow_id", ""), rest.pop("node_id", "")
    trail.workflow = trail.workflow or _bounded(workflow, ID_CHARS, "metadata.workflow_id")
    trail.node = trail.node or _bounded(node, ID_CHARS, "metadata.node_id")
    trail.tags = {**rest, **trail.tags}


def _value(members: Mapping[str, Any], name: str) -> Any:
    if name not in members:
        return None
    try:
        return jsontools.loads(bytes(members[name]))
    except ValueError:  # a number beyond all bounds
        raise _bad(name, "cannot be read") from None


def _metadata(given: Any) -> dict[str, str]:
    """OpenAI's `metadata`, https://platform.openai.com/docs/api-reference/chat/create: texts by short names."""
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise _bad("metadata", "is no object of texts")
    if len(given) > TAGS:
        raise _bad("metadata", f"holds more than {TAGS} members")
    found = {}
    for name, value in given.items():
        param = f"metadata.{name}"[: NAME_CHARS + 9]
        if not name or len(name) > NAME_CHARS:
            raise _bad(param, f"is named by nothing, or by more than {NAME_CHARS} characters")
        if value is None:
            continue
        if not isinstance(value, str):
            raise _bad(param, "is no text")
        found[name] = _bounded(value, VALUE_CHARS, param)
    return found


def _user(given: Any) -> str:
    if not isinstance(given, str):
        raise _bad("user", "is no text")
    if len(given.encode()) > USER_BYTES:
        raise _bad("user", f"is longer than {USER_BYTES} bytes")
    return given


def _tags(header: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for piece in filter(None, map(str.strip, header.split(","))):
        name, equals, value = piece.partition("=")
        name, value = _decoded(name), _decoded(value)
        if not equals or not name or len(name) > NAME_CHARS:
            raise _bad(TAGS_HEADER, f"is no list of name=value with names of 1 to {NAME_CHARS} characters")
        found[name] = _bounded(value, VALUE_CHARS, TAGS_HEADER)
    if len(found) > TAGS:
        raise _bad(TAGS_HEADER, f"holds more than {TAGS} tags")
    return found


def _id(header: str, param: str) -> str:
    return _bounded(_decoded(header, param), ID_CHARS, param)


def _decoded(text: str, param: str = TAGS_HEADER) -> str:
    try:
        found = unquote(text.strip(), errors="strict")
    except UnicodeDecodeError:
        found = "\0"
    if not found.isprintable():
        raise _bad(param, "is no printable text, percent-encoded where it is not ASCII")
    return found


def _bounded(text: str, most: int, param: str) -> str:
    if len(text) > most:
        raise _bad(param, f"is longer than {most} characters")
    return text


def _bad(param: str, problem: str) -> MeshError:
    return MeshError(pb.REASON_INVALID_REQUEST, f"{param} {problem}", metadata={"param": param})
