"""The pass-through of a request: the client's own bytes, with little changed or nothing."""

import re
from typing import Final

from polyroute.dialects import jsontools
from polyroute.dialects.dialect import NOTHING
from polyroute.dialects.gemini.common import CARRIED

_MODEL: Final = re.compile(rb'"model"[ \t\r\n]*:')
# Another vendor's state, which only came through this format (see `common.state_of`): this vendor would refuse it.
_FOREIGN: Final = re.compile(rb'"%b[A-Za-z0-9+/_=-]*"' % CARRIED.encode())


def patch_request(body: bytes, *, model: str, unsigned: str, drop: frozenset[str] = NOTHING) -> bytes:
    """See `dialect.Dialect.patch_request`: the model stands in the address, and is set in a body that names it too.

    Args:
        body: A body that `read_facts` accepted.
        model: The model's id in the vendor's words.
        unsigned: Stands for signatures that another vendor's model made.
        drop: Top-level members that must not reach the vendor.
    """
    if CARRIED.encode() in body:
        body = _FOREIGN.sub(jsontools.dumps(unsigned), body)
    named = _MODEL.search(body) is not None
    held = any(b'"' + name.encode() + b'"' in body for name in drop)
    if not named and not held:
        return body
    members = jsontools.members_of(body)
    changes = {"model": jsontools.dumps(resource(model))} if "model" in members else {}
    gone = drop & members.keys() - changes.keys()
    return jsontools.rewrite(body, changes, gone) if changes or gone else body


def resource(model: str) -> str:
    """A model's name with the folder that this API puts before it."""
    return model if "/" in model else f"models/{model}"
