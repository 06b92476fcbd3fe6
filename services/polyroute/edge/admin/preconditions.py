"""What HTTP has for etags (RFC 9110, sections 8.8.3 and 13.1.1), and the contract as a field."""

import re
from typing import Any, Final

from google.protobuf.message import Message

from polyroute.edge.admin.transcoding import invalid

IF_MATCH: Final = "if-match"
ETAG: Final = "etag"
FAILED: Final = 412
_ONE: Final = re.compile(r'"([^"]*)"|([^\s",]+)')


def expect(request: Message, header: str) -> bool:
    """Has a request go on only where a thing has the etag of a header; whether it names one.

    Args:
        request: Gets the etag, in the field that it has for it or in the resource that it brings.
        header: The value of `if-match`; empty where there is none.

    Raises:
        MeshError: REASON_INVALID_REQUEST, it is not one etag, or contradicts the body, or nothing here has etags.
    """
    value = header.strip()
    if value in ("", "*"):
        return False
    found = _ONE.fullmatch(value.removeprefix("W/"))
    if found is None:
        raise invalid(IF_MATCH, "is not one etag")
    place = _place(request)
    if place is None:
        raise invalid(IF_MATCH, "what is here has no etag")
    etag = value if value.startswith("W/") else found[1] or found[2] or ""  # a weak one is never the same as ours
    if getattr(place, ETAG) not in ("", etag):
        raise invalid(IF_MATCH, "is another etag than that of the body")
    place.etag = etag
    return True


def told(answer: Message) -> dict[str, str]:
    """The header with the etag of what an answer shows; none where it shows many things, or one without."""
    place = _place(answer)
    return {ETAG: f'"{place.etag}"'} if place is not None and place.etag else {}


def _place(message: Message) -> Any:
    """Where a message has its etag: itself, or in the resource that it holds; None for nowhere."""
    fields = message.DESCRIPTOR.fields
    if any(field.name == ETAG for field in fields):
        return message
    for field in fields:
        kind = field.message_type
        if kind is not None and not field.is_repeated and ETAG in kind.fields_by_name:
            return getattr(message, field.name)
    return None
