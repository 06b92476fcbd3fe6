"""Opaque state: this dialect's own, and another dialect's on its way through a client of this one.

Own state stands in `Part.state` under these kinds:
- `signature`: seals a thinking block. Empty: the vendor gave none, but the block ended.
- `redacted_thinking`: the encrypted form of withheld thinking.
- `citations`: a text block's citations, a JSON list. Empty: the block ended, and another text follows.
- `content_block`: a block that the contract has no part for (the vendor's own tools and their results, compaction), as
  JSON.

Another vendor's state (a thought signature, encrypted reasoning) must survive the client as well. Clients return
thinking blocks unchanged, so it travels as a signature, or as a block of its own beside the part it belongs to, with a
mark in front. A vendor that gets such a block would refuse the whole request: `patch` takes them out.
"""

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any, Final, NamedTuple

from polyroute.api.chat.v1.chat_pb2 import Part, VendorState
from polyroute.dialects import jsontools
from polyroute.dialects.anthropic.common import NAME

SIGNATURE: Final = "signature"
REDACTED: Final = "redacted_thinking"
CITATIONS: Final = "citations"
BLOCK: Final = "content_block"

_IDLE: Final = frozenset({"id", "status"})

MARK: Final = "polyroute.v1:"
ITSELF, NEXT, PREVIOUS = "itself", "next", "previous"


class Carried(NamedTuple):
    """What a marked signature holds.

    Attributes:
        state: The state; None when the other vendor had given none.
        of: Which part it belongs to: the block itself, the next or the previous part.
        summary: The reasoning is a summary.
    """

    state: VendorState | None
    of: str = ITSELF
    summary: bool = False


def own(kind: str, data: bytes | str) -> VendorState:
    """A state of this dialect."""
    return VendorState(dialect=NAME, kind=kind, data=data.encode() if isinstance(data, str) else data)


def own_data(part: Part, kind: str) -> bytes | None:
    """The data of a part's own state of this kind; None when it has none."""
    if not part.HasField("state"):
        return None
    state = part.state
    return state.data if state.dialect == NAME and state.kind == kind else None


def is_foreign(part: Part) -> bool:
    """Whether a part carries another dialect's state."""
    return part.HasField("state") and part.state.dialect != NAME


def worth_carrying(state: VendorState) -> VendorState | None:
    """Another dialect's state; None when it holds nothing but ids of what its vendor keeps, and whether it is done."""
    try:
        held = jsontools.loads(state.data)
    except ValueError:
        return state  # opaque, as seals are
    return None if _idle(held) else state


def _idle(held: object) -> bool:
    return isinstance(held, dict) and all(
        name in _IDLE or (isinstance(item, dict) and _idle(item)) for name, item in held.items()
    )


def own_block(block: dict[str, Any]) -> VendorState:
    """The state that keeps a whole block."""
    return own(BLOCK, jsontools.dumps(block))


def carry(state: VendorState | None, *, of: str = ITSELF, summary: bool = False) -> str:
    """Another dialect's state as text that clients of this one keep."""
    held: dict[str, Any] = {}
    if state is not None:
        data = urlsafe_b64encode(state.data).decode()
        held = {"dialect": state.dialect, "kind": state.kind, "data": data}
    if of != ITSELF:
        held["of"] = of
    if summary:
        held["summary"] = True
    return MARK + (urlsafe_b64encode(jsontools.dumps(held)).decode() if held else "")


def carried(text: object) -> Carried | None:
    """What `carry` wrote; None for anything else, and nothing inside for what was tampered with."""
    if not isinstance(text, str) or not text.startswith(MARK):
        return None
    try:
        held = jsontools.loads(urlsafe_b64decode(text[len(MARK) :].encode("ascii")) or b"{}")
        if not isinstance(held, dict):
            return Carried(None)
        of, summary = held.get("of", ITSELF), held.get("summary") is True
        if "dialect" not in held:
            return Carried(None, of, summary)
        state = VendorState(dialect=held["dialect"], kind=held["kind"], data=urlsafe_b64decode(held["data"]))
    except (binascii.Error, ValueError, TypeError, LookupError):
        return Carried(None)
    return Carried(state if state.dialect != NAME else None, of, summary)
