"""Answers that a vendor keeps: their ids say whose they are, so that what follows reaches the same vendor.

A vendor knows only the answers that it made itself. The id of one that was passed on gets the provider's name behind it
(`resp_68af...@openai`), nothing is remembered, and any instance of the gateway can take the next request.
"""

import re
from typing import Final

from polyroute.edge.trail import Trail

_BETWEEN: Final = "@"
_ID: Final = re.compile(rb'"id"\s*:\s*"([^"\\@]{1,256})"')
_PREVIOUS: Final = re.compile(rb'("previous_response_id"\s*:\s*")([^"\\@]{1,256})@([^"\\]{1,128})(")')


class Pin:
    """Marks the id of one answer in everything that is said of it.

    Args:
        trail: Who answers, once that is known.
    """

    def __init__(self, trail: Trail) -> None:
        self._trail = trail
        self._old = self._new = b""
        self._looked = False

    def __call__(self, data: bytes) -> bytes:
        """The next piece of the answer."""
        if not self._looked and data:
            self._looked = True
            self._look(data)
        return data.replace(self._old, self._new) if self._old else data

    def _look(self, data: bytes) -> None:
        started, attempt = self._trail.started, self._trail.attempt
        if started is None or attempt is None or not started.passthrough:
            return  # an answer that was translated is kept by nobody
        found = _ID.search(data)
        if found is not None:
            self._old = b'"' + found[1] + b'"'
            self._new = b'"' + found[1] + f'{_BETWEEN}{attempt.provider}"'.encode()


def unpinned(body: bytes) -> tuple[bytes, str]:
    """A request with the vendor's own id of the answer that it follows, and whose that is; empty when not said."""
    if b'"previous_response_id"' not in body:
        return body, ""
    found = _PREVIOUS.search(body)
    if found is None:
        return body, ""
    return body[: found.start()] + found[1] + found[2] + found[4] + body[found.end() :], found[3].decode()


def split(name: str) -> tuple[str, str]:
    """The vendor's own id of an answer, and whose it is; empty when the id does not say."""
    own, _, provider = name.partition(_BETWEEN)
    return own, provider
