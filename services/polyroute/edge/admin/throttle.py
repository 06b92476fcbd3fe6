"""Bounds how often an address may try credentials that turn out to be wrong."""

import secrets
from collections import OrderedDict
from collections.abc import Callable, Generator
from contextlib import contextmanager
from hashlib import blake2b
from typing import Final

from polyroute.api.errors.v1 import errors_pb2
from polyroute.edge.strangers import Strangers
from polyroute.mesh.errors import MeshError

TRIES: Final = 20  # at once; one of them is forgiven every three seconds
GOOD: Final = 1_000  # credentials that worked and need not be counted
_WRONG: Final = (errors_pb2.REASON_CREDENTIAL_INVALID, errors_pb2.REASON_CREDENTIAL_MISSING)


class Throttle:
    """Counts tries by address.

    A credential that has worked here is not counted any more: who guesses cannot lock out who knows.

    Args:
        clock: Seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._tries = Strangers(TRIES, clock, proxied=True)
        self._good: OrderedDict[bytes, None] = OrderedDict()
        self._salt = secrets.token_bytes(16)  # the process's memory holds no credential

    @contextmanager
    def trying(self, address: str, credential: str) -> Generator[None]:
        """The time of a request, whose credential is counted until it has proved good.

        Raises:
            MeshError: REASON_RATE_LIMITED, the address has no try left.
        """
        self.begin(address, credential)
        try:
            yield
        except MeshError as error:
            if error.reason in _WRONG:
                self.bad(credential)
            raise
        self.good(address, credential)

    def begin(self, address: str, credential: str) -> None:
        """Counts a try.

        Raises:
            MeshError: REASON_RATE_LIMITED, the address has none left.
        """
        if self._digest(credential) not in self._good:
            self._tries.take(address)

    def good(self, address: str, credential: str) -> None:
        """The credential of a try was a good one."""
        digest = self._digest(credential)
        if digest not in self._good:
            self._good[digest] = None
            if len(self._good) > GOOD:
                self._good.popitem(last=False)
            self._tries.known(address)

    def bad(self, credential: str) -> None:
        """The credential of a try was a wrong one, or has become one."""
        self._good.pop(self._digest(credential), None)

    def _digest(self, credential: str) -> bytes:
        data = credential.encode("utf-8", "surrogatepass")
        return blake2b(data, key=self._salt, digest_size=16).digest()
