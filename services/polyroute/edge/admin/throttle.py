"""Bounds how often an address may try credentials that turn out to be wrong."""

import ipaddress
import secrets
from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b
from typing import Final

from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.mesh.errors import MeshError

TRIES: Final = 20
SECONDS: Final = 3.0  # after which one of them is forgiven
ADDRESSES: Final = 10_000  # known at once; the one that was seen longest ago is forgotten
GOOD: Final = 1_000  # credentials that worked and need not be counted
_V6_PREFIX: Final = 64  # what one subscriber is given (RFC 6177)


class Throttle:
    """Counts tries by address.

    A try is counted before its credential is judged, so that many at once gain nothing, and forgiven when it was good.
    A credential that has worked here is not counted any more: who guesses cannot lock out who knows.

    Args:
        clock: Seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._free_at: OrderedDict[str, float] = OrderedDict()  # when all tries of an address will be forgiven
        self._good: OrderedDict[bytes, None] = OrderedDict()
        self._salt = secrets.token_bytes(16)  # the process's memory holds no credential

    def begin(self, address: str, credential: str) -> None:
        """Counts a try.

        Raises:
            MeshError: REASON_RATE_LIMITED, the address has none left.
        """
        if self._digest(credential) in self._good:
            return
        now, address = self._clock(), _network(address)
        free = max(now, self._free_at.get(address, now)) + SECONDS
        if free - now > TRIES * SECONDS:
            wait = free - now - TRIES * SECONDS
            raise MeshError(pb.REASON_RATE_LIMITED, "too many wrong credentials from this address", retry_after=wait)
        self._keep(address, free)

    def good(self, address: str, credential: str) -> None:
        """The credential of a try was a good one."""
        digest, address = self._digest(credential), _network(address)
        if digest not in self._good:
            self._good[digest] = None
            if len(self._good) > GOOD:
                self._good.popitem(last=False)
            if address in self._free_at:
                self._keep(address, self._free_at[address] - SECONDS)

    def bad(self, credential: str) -> None:
        """The credential of a try was a wrong one, or has become one."""
        self._good.pop(self._digest(credential), None)

    def _keep(self, address: str, free: float) -> None:
        self._free_at[address] = free
        self._free_at.move_to_end(address)
        if len(self._free_at) > ADDRESSES:
            self._free_at.popitem(last=False)

    def _digest(self, credential: str) -> bytes:
        data = credential.encode("utf-8", "surrogatepass")
        return blake2b(data, key=self._salt, digest_size=16).digest()


def _network(address: str) -> str:
    """What counts as one address: of IPv6 its network."""
    try:
        parsed = ipaddress.IPv6Address(address)
    except ValueError:
        return address
    return str(parsed.ipv4_mapped or ipaddress.IPv6Network((int(parsed), _V6_PREFIX), strict=False))
