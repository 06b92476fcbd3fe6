"""Messages to addresses that people give: signed, over HTTPS, and never to an address inside of our own network.

A name is resolved once and the connection goes to the address that was looked at, so that a name cannot mean a public
address when it is checked and a private one when it is used. Redirects are not followed, and of an answer only the
status is read.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from functools import cached_property
from typing import Final
from urllib.parse import SplitResult, quote, urlsplit

from aiohappyeyeballs import AddrInfoType, start_connection

from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth.money.alerts import Letter, signature
from polyroute.mesh.errors import MeshError

SECONDS: Final = 10.0  # for a whole message
SIGNATURE: Final = "polyroute-signature"
EVENT: Final = "polyroute-event-id"
AGENT: Final = "polyroute-alerts/1"

_STAGGER: Final = 0.25  # seconds until a second address of a name is tried beside the first (RFC 8305)
_PORTS: Final = {"https": 443, "http": 80}
_PLAIN: Final = "/%:@!$&'()*+,;=?~"  # what stays as it is in a path or a query, escapes above all
_LINES: Final = 200  # of an answer's head
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_GOOD: Final = range(200, 300)
_INTERIM: Final = range(100, 200)

# Finds the addresses of a host and a port.
Resolve = Callable[[str, int], Awaitable[Sequence[AddrInfoType]]]


class ForbiddenAddressError(OSError):
    """The address is not one of the public Internet."""


async def addresses(host: str, port: int) -> Sequence[AddrInfoType]:
    """All that the system knows of a host.

    Raises:
        OSError: It knows none.
    """
    return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)


class Webhook:
    """Sends letters.

    Args:
        private: Private addresses and plain HTTP are allowed: the operator's receiver is in the same network.
        resolve: Finds addresses.
    """

    def __init__(self, *, private: bool, resolve: Resolve = addresses) -> None:
        self._private = private
        self._resolve = resolve

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context()

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
        try:
            async with asyncio.timeout(SECONDS):
                status = await self._post(urlsplit(letter.url), letter, at)
        except ForbiddenAddressError as error:
            return str(error)
        except (OSError, EOFError, ValueError) as error:  # TimeoutError and ssl.SSLError are OSError
            return f"the receiver cannot be reached: {type(error).__name__}"
        return "" if status in _GOOD else f"the receiver answered {status}"

    async def _post(self, url: SplitResult, letter: Letter, at: int) -> int:
        host = url.hostname or ""
        host = host.encode("idna").decode() if _named(host) else host
        found = await self._resolve(host, url.port or _PORTS[url.scheme])
        if not self._private and not all(is_public(str(one[4][0])) for one in found):
            raise ForbiddenAddressError("the address is not a public one")
        secured = url.scheme == "https"
        with await start_connection(found, happy_eyeballs_delay=_STAGGER) as connected:
            reader, writer = await asyncio.open_connection(
                sock=connected, ssl=self._tls if secured else None, server_hostname=host if secured else None
            )
            try:
                writer.write(_head(url, host, letter, at) + letter.body)
                await writer.drain()
                return await _status(reader)
            finally:
                writer.transport.abort()

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


def _head(url: SplitResult, host: str, letter: Letter, at: int) -> bytes:
    place = f"[{host}]" if ":" in host else host
    query = f"?{quote(url.query, safe=_PLAIN)}" if url.query else ""
    lines = [
        f"POST {quote(url.path or '/', safe=_PLAIN)}{query} HTTP/1.1",
        f"host: {place}:{url.port}" if url.port else f"host: {place}",
        f"user-agent: {AGENT}",
        "content-type: application/json",
        f"content-length: {len(letter.body)}",
        f"{EVENT}: {letter.id}",
        f"{SIGNATURE}: {signature(letter.secret, at, letter.body)}",
        "connection: close",
    ]
    return "\r\n".join([*lines, "", ""]).encode("ascii")


async def _status(reader: asyncio.StreamReader) -> int:
    """An answer's status; what is sent before it, such as early hints, is passed over."""
    for _ in range(_LINES):
        line = await reader.readline()
        if not line:
            break
        if line.startswith(b"HTTP/1.") and (status := int(line.split(None, 2)[1])) not in _INTERIM:
            return status
    raise EOFError("the answer has no status")


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
