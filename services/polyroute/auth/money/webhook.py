"""Messages to addresses that people give: signed, over HTTPS, and never to an address inside of our own network.

A name is resolved once and the connection goes to the address that was looked at, so that a name cannot mean a public
address when it is checked and a private one when it is used. Redirects are not followed.
"""

import ipaddress
import socket
from typing import Final, Self
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth.money.alerts import Letter, signature
from polyroute.mesh.errors import MeshError

SECONDS: Final = 10.0
SIGNATURE: Final = "polyroute-signature"
EVENT: Final = "polyroute-event-id"
AGENT: Final = "polyroute-alerts/1"

_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_GOOD: Final = range(200, 300)


class ForbiddenAddressError(OSError):
    """The address is not one of the public Internet."""


class Webhook:
    """Sends letters.

    Args:
        private: Private addresses and plain HTTP are allowed: the operator's receiver is in the same network.
    """

    def __init__(self, *, private: bool) -> None:
        self._private = private
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        resolver = ThreadedResolver() if self._private else PublicResolver(ThreadedResolver())
        connector = aiohttp.TCPConnector(resolver=resolver, use_dns_cache=False, limit=16)
        timeout = aiohttp.ClientTimeout(total=SECONDS)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def check(self, url: str) -> None:
        """Refuses an address that nothing is sent to.

        Raises:
            MeshError: REASON_INVALID_REQUEST.
        """
        if problem := self._problem(url):
            raise MeshError(errors_pb2.REASON_INVALID_REQUEST, problem, metadata={"param": "alert.url"})

    async def send(self, letter: Letter, at: int) -> str:
        """Sends a letter; what went wrong, or nothing."""
        if problem := self._problem(letter.url):
            return problem
        if self._session is None:
            return "nothing is sent at the moment"
        headers = {
            "content-type": "application/json",
            "user-agent": AGENT,
            EVENT: letter.id,
            SIGNATURE: signature(letter.secret, at, letter.body),
        }
        try:
            async with self._session.post(
                letter.url, data=letter.body, headers=headers, allow_redirects=False
            ) as response:
                return "" if response.status in _GOOD else f"the receiver answered {response.status}"
        except ForbiddenAddressError as error:
            return str(error)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            return f"the receiver cannot be reached: {type(error).__name__}"

    def _problem(self, url: str) -> str:
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname or "", parts.port
        except ValueError:
            return "the address cannot be read"
        if parts.scheme not in ("https", "http") or not host or parts.username or parts.password:
            return "an address is https://, a host and a path, without a password"
        if self._private:
            return ""
        if parts.scheme != "https":
            return "messages go over https only"
        return "" if _named(host) or is_public(host) else "the address is not a public one"


class PublicResolver(AbstractResolver):
    """Finds only addresses of the public Internet.

    Args:
        inner: Finds all of them.
    """

    def __init__(self, inner: AbstractResolver) -> None:
        self._inner = inner

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of a host.

        Raises:
            ForbiddenAddressError: One of them is not public.
        """
        found = await self._inner.resolve(host, port, family)
        if not all(is_public(one["host"]) for one in found):
            raise ForbiddenAddressError("the address is not a public one")
        return found

    async def close(self) -> None:
        """Lets the inner one go."""
        await self._inner.close()


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public Internet, also when it carries another one inside."""
    try:
        known = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(known, ipaddress.IPv6Address):
        inner = known.ipv4_mapped or known.sixtofour
        if known in _NAT64:
            inner = ipaddress.IPv4Address(int(known) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        if known.teredo is not None:
            return False
    return known.is_global and not known.is_multicast and not known.is_reserved


def _named(host: str) -> bool:
    """Whether a host is a name, and no address in any of the ways that systems read one (`127.1`, `0x7f.1`)."""
    try:
        socket.inet_aton(host)
    except OSError:
        return ":" not in host
    return False
