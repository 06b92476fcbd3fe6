"""A vendor account that can be called: where it is now, and the headers that open it."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from polyroute.api.chat.v1.chat_pb2 import Operation
from polyroute.api.errors.v1 import errors_pb2
from polyroute.mesh.errors import MeshError
from polyroute.providers.http import Target, target
from polyroute.providers.vendor import Vendor

_FIXED: Final = {"content-type": "application/json", "accept-encoding": "identity", "user-agent": "polyroute"}


class Account:
    """One configured or discovered account of a vendor.

    Args:
        name: Its name in the catalog.
        vendor: The vendor's public facts.
        base_url: Its address; the vendor's own when empty.
        keys: Its keys, used in turn.
        headers: Headers sent with every request.
        discovered: It was found, not configured.
    """

    def __init__(
        self,
        name: str,
        vendor: Vendor,
        *,
        base_url: str = "",
        keys: tuple[str, ...] = (),
        headers: Mapping[str, str] | None = None,
        discovered: bool = False,
    ) -> None:
        self.name = name
        self.vendor = vendor
        self.discovered = discovered
        base = (base_url or vendor.base_url).rstrip("/")
        extra = dict(headers or {})
        self._targets = {
            operation: itertools.cycle([target(base + path, self._with_key(key, extra)) for key in keys or ("",)])
            for operation, path in vendor.paths.items()
            if base
        }

    def _with_key(self, key: str, extra: Mapping[str, str]) -> Mapping[str, str]:
        headers = {**_FIXED, **extra}
        if key:
            headers[self.vendor.auth_header] = self.vendor.auth_scheme + key
        if not self.vendor.quirks.keep_alive:
            headers["connection"] = "close"
        return headers

    @property
    def unavailable(self) -> str:
        """Why it cannot serve now; empty when it can."""
        return ""

    def dialect(self, operation: Operation.ValueType) -> str:
        """The dialect in which it offers an operation; empty when it does not offer it."""
        return self.vendor.dialects.get(operation, "")

    def target(self, operation: Operation.ValueType) -> Target:
        """Where to send a request for an operation, with the next of its keys.

        Raises:
            MeshError: FAULT_CONNECT when it is known to be unreachable now.
        """
        return next(self._targets[operation])


@dataclass(frozen=True)
class Place:
    """Where an account that moves is at the moment."""

    base_url: str
    key: str


class MovingAccount(Account):
    """An account whose address and key are asked for at every call: the embedded model's.

    Args:
        name: Its name in the catalog.
        vendor: The vendor's public facts.
        locate: Gives the place for an operation, or why there is none now.
        discovered: It was found, not configured.
    """

    def __init__(
        self,
        name: str,
        vendor: Vendor,
        locate: Callable[[Operation.ValueType], Place | str],
        *,
        discovered: bool,
    ) -> None:
        super().__init__(name, vendor, discovered=discovered)
        self._locate = locate

    @property
    def unavailable(self) -> str:
        """Why it cannot serve now; empty when it can."""
        place = self._locate(next(iter(self.vendor.dialects)))
        return place if isinstance(place, str) else ""

    def target(self, operation: Operation.ValueType) -> Target:
        """Where to send a request for an operation now."""
        place = self._locate(operation)
        if isinstance(place, str):
            raise MeshError.upstream(errors_pb2.FAULT_CONNECT, f"{self.name} is not ready: {place}", retry_after=2.0)
        return target(place.base_url + self.vendor.paths[operation], self._with_key(place.key, {}))
