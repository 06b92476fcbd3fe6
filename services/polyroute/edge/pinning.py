"""Has a call made by whoever keeps what it refers to: one provider, and the one of its keys that made it.

What a vendor keeps belongs to the project that had it made. An id without the project's mark names nothing that is the
caller's, and is refused as one that does not exist, unless the operator lets unmarked ids pass.
"""

from collections.abc import Sequence
from typing import Any

from polyroute.api.chat.v1.chat_pb2 import ChatRequest, EncodedRequest
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.modality.v1.modality_pb2 import Task
from polyroute.api.router.v1.router_pb2 import Preferences
from polyroute.edge import references
from polyroute.edge.call import Call, Relayed
from polyroute.edge.marks import Named, opened
from polyroute.mesh.errors import MeshError


def pin(call: Call, mark_key: bytes, *, unmarked: bool) -> None:
    """Binds a call to the provider and the key that have what it refers to, and puts it into the vendor's words.

    Args:
        call: The call; most refer to nothing and stay as they are.
        mark_key: The secret of the caller's project.
        unmarked: Ids without a mark may be used.

    Raises:
        MeshError: REASON_NOT_FOUND, it names what is not its project's; REASON_INVALID_REQUEST, it names things
            that no one key has.
    """
    found = _references(call)
    call.raw = b""
    if not found:
        return
    provider, key_mark = _keeper(found, mark_key, unmarked=unmarked)
    call.facts.bound = True
    call.trail.named = found
    if not provider:
        return
    call.body = _without_marks(call.body, found)
    call.key_mark = key_mark
    preferences = Preferences()
    if call.preferences is not None:
        preferences.CopyFrom(call.preferences)
    preferences.only[:] = [provider]
    call.preferences = preferences


def pin_relay(call: Relayed, mark_key: bytes, *, unmarked: bool) -> None:
    """Binds a request for a vendor's own API, which is in the vendor's words already, in the same way.

    Raises:
        MeshError: As `pin`.
    """
    call.trail.named = call.named
    if call.named:
        _, call.request.key_mark = _keeper(call.named, mark_key, unmarked=unmarked)


def _keeper(found: Sequence[Named], mark_key: bytes, *, unmarked: bool) -> tuple[str, bytes]:
    """Who has all of it: the provider and the fingerprint of its key; both empty when no mark says so."""
    keepers: set[tuple[str, bytes]] = set()
    for one in found:
        key_mark = opened(mark_key, one)
        if key_mark is not None:
            keepers.add((one.provider, key_mark))
        elif one.suffix or not unmarked:
            raise missing(one)
    if len(keepers) > 1:
        names = ", ".join(sorted({provider for provider, _ in keepers}))
        raise MeshError(
            pb.REASON_INVALID_REQUEST,
            f"what the request refers to was made with different keys of {names}: no vendor has all of it",
            metadata={"param": found[0].param},
        )
    return next(iter(keepers), ("", b""))


def missing(one: Named) -> MeshError:
    """What is told of an id that is not its caller's: no more than of one that never was."""
    said = {"resource": one.own[:256], "param": one.param}
    return MeshError(pb.REASON_NOT_FOUND, f"there is no {one.own[:256]}", metadata=said)


def _references(call: Call) -> list[Named]:
    body = call.body
    if isinstance(body, EncodedRequest):
        if "multipart" in body.content_type:  # forms carry what they are about
            return []
        return references.in_body(call.raw or body.body, body.dialect)
    return references.in_typed(body) if isinstance(body, (ChatRequest, Task)) else []


def _without_marks(body: Any, found: Sequence[Named]) -> Any:
    if isinstance(body, EncodedRequest):
        plain = references.without_marks(body.body, found)
        return EncodedRequest(dialect=body.dialect, content_type=body.content_type, body=plain)
    references.take_marks_out(body)
    return body
