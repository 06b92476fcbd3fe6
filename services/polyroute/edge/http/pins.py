"""Answers that a vendor keeps: what they name is marked, so that what follows reaches the same key of the same vendor.

A vendor knows only what it made itself. The id of an answer that was passed on gets a mark behind it, and so does what
the vendor sealed; see `marks`. Nothing is remembered, and any instance of the gateway can take the next request.
"""

import re
from typing import Final, NamedTuple

from polyroute.edge.marks import suffix
from polyroute.edge.references import SEALED
from polyroute.edge.trail import Trail

_ID: Final = re.compile(rb'"id"\s*:\s*"([^"\\@]{1,256})"')
_SEALED: Final = re.compile(rb'("encrypted_content"\s*:\s*")([^"\\]+)(?=")')
_QUOTED: Final = b'"encrypted_content"'
_FILE: Final = re.compile(rb'("file_id"\s*:\s*")(file[-_][A-Za-z0-9_-]{6,128})(?=")')  # as vendors' ids are, not tools'
_FILES: Final = b'"file_id"'


class Keeper(NamedTuple):
    """Who keeps what an answer names.

    Attributes:
        mark_key: The secret of the caller's project.
        provider: The provider.
        key_mark: Fingerprint of its key.
    """

    mark_key: bytes
    provider: str
    key_mark: bytes

    def suffix(self, own: str) -> str:
        """The mark of one id."""
        return suffix(self.mark_key, own, self.provider, self.key_mark)


class Pin:
    """Marks the id of one answer, and what is sealed in it, in everything that is said of it.

    Args:
        trail: Who answers, once that is known.
        stored: The answer itself can be asked for again.
        sealed: What is sealed in it is for the key that sealed it.
    """

    def __init__(self, trail: Trail, *, stored: bool = True, sealed: bool = True) -> None:
        self._trail = trail
        self._stored = stored
        self._seals = sealed
        self._keeper: Keeper | None = None
        self._replaced: list[tuple[bytes, bytes]] = []
        self._looked = False

    def __call__(self, data: bytes) -> bytes:
        """The next piece of the answer: whole events, or the whole."""
        if not self._looked and data:
            self._looked = True
            self._look(data)
        for old, new in self._replaced:
            data = data.replace(old, new)
        if self._keeper is not None:
            if self._seals and _QUOTED in data:
                data = _SEALED.sub(self._marked, data)
            if _FILES in data:
                data = _FILE.sub(self._marked, data)
        return data

    def _look(self, data: bytes) -> None:
        trail = self._trail
        started, attempt = trail.started, trail.attempt
        if started is None or attempt is None or not started.passthrough or not trail.mark_key:
            return  # an answer that was translated is kept by nobody
        self._keeper = Keeper(trail.mark_key, trail.keeper or attempt.provider, started.key_mark)
        for one in trail.named:
            if one.suffix and one.param != SEALED:
                self._replace(one.own.encode(), one.suffix.encode())
        found = _ID.search(data) if self._stored else None
        if found is not None and all(one.own.encode() != found[1] for one in trail.named):
            self._replace(found[1], self._keeper.suffix(found[1].decode()).encode())

    def _replace(self, own: bytes, mark: bytes) -> None:
        self._replaced.append((b'"' + own + b'"', b'"' + own + mark + b'"'))

    def _marked(self, found: re.Match[bytes]) -> bytes:
        assert self._keeper is not None  # noqa: S101 - the caller looked
        return found[1] + found[2] + self._keeper.suffix(found[2].decode()).encode()
