"""Etags (https://google.aip.dev/154): what tells whether a thing is still as somebody has read it.

An etag is a digest of what is set of a thing, and not of what moves by itself: what is spent of a budget changes with
every call, and whoever raises its amount does not mind.
"""

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any, Final, TypeVar

from google.protobuf.message import Message

from polyroute.api.errors.v1 import errors_pb2
from polyroute.mesh.errors import MeshError

_BYTES: Final = 12
_MOVING: Final[Mapping[str, tuple[str, ...]]] = {"Budget": ("spent_nanos", "held_nanos", "start_time", "end_time")}

M = TypeVar("M", bound=Message)


def etag_of(thing: Message) -> str:
    """The etag of a thing as it is."""
    copy = type(thing)()
    copy.CopyFrom(thing)
    for name in ("etag", *_MOVING.get(thing.DESCRIPTOR.name, ())):
        copy.ClearField(name)
    return blake2b(copy.SerializeToString(deterministic=True), digest_size=_BYTES).hexdigest()


def tagged(thing: M) -> M:
    """The thing, with its etag."""
    told: Any = thing  # every resource has the field, and no common type says so
    told.etag = etag_of(thing)
    return thing


def all_tagged(things: Iterable[M]) -> Iterable[M]:
    """Things, each with its etag."""
    return map(tagged, things)


def check_etag(thing: Message | None, etag: str, resource: str) -> None:
    """Refuses to go on where a thing is not as whoever wants to change it has read it.

    Args:
        thing: As it is; None when it is not there.
        etag: The one that was read; empty where any will do.
        resource: Its name.

    Raises:
        MeshError: REASON_CHANGED.
    """
    if etag and (thing is None or etag_of(thing) != etag):
        raise MeshError(
            errors_pb2.REASON_CHANGED,
            "another change came first: read it again, and send its etag of now",
            metadata={"resource": resource, "param": "etag"},
        )
