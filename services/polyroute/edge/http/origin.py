"""Where a request comes from when proxies stand before the door: the nearest hop that is not one of them.

A proxy adds the address that it was called from at the end of a header; whatever stands before that was written by
whoever called it, and may be a lie. So hops are read from the end, only as far as proxies that the operator trusts have
written them, and only from the one header that they write: another one would pass them untouched from anybody.
"""

import ipaddress
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from polyroute.edge.config import HttpConfig
from polyroute.edge.http.body import Scope

MOST_HOPS: Final = 32  # more proxies stand before nothing

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Origins:
    """Puts a request's origin in the place of its peer.

    Args:
        config: Which proxies there are, and where they write.
    """

    def __init__(self, config: HttpConfig) -> None:
        self._name = config.forwarded_by.encode()
        self._hops = _forwarded if config.forwarded_by == "forwarded" else _listed
        self._trusted = config.trusted_proxies
        self._trusts = lru_cache(maxsize=1024)(self._trusted_address)

    def tell(self, scope: Scope) -> None:
        """Has `client` of an HTTP scope be where the request comes from; the peer's where nothing says better."""
        client = scope.get("client")
        if client is None or not self._trusts(client[0]):
            return
        lines = [value for name, value in scope["headers"] if name == self._name]
        if lines and (address := self._origin(b",".join(lines).decode("latin-1"))) is not None:
            scope["client"] = (address, 0)

    def _origin(self, said: str) -> str | None:
        """The last hop that is no trusted proxy; the first one where all are; None when a proxy wrote no address."""
        address = None
        for number, hop in enumerate(self._hops(said)):
            parsed = _address(hop)
            if parsed is None or number == MOST_HOPS:
                return None
            address = str(parsed)
            if not self._trusts(address):
                break
        return address

    def _trusted_address(self, host: str) -> bool:
        address = _address(host)
        return address is not None and any(address in network for network in self._trusted)


def _listed(said: str) -> Iterator[str]:
    """The hops of `x-forwarded-for`, from its end."""
    rest: str | None = said
    while rest is not None:
        before, comma, hop = rest.rpartition(",")
        yield hop.strip()
        rest = before if comma else None


def _forwarded(said: str) -> Iterator[str]:
    """The hops of `forwarded` (RFC 7239, section 4), from its end; empty for one that says nothing of `for`."""
    for element in _split(said, ","):
        values = [value for name, _, value in (pair.partition("=") for pair in _split(element, ";")) if _is_for(name)]
        yield values[0].strip().strip('"') if len(values) == 1 else ""


def _is_for(name: str) -> bool:
    return name.strip().lower() == "for"


def _split(text: str, separator: str) -> Iterator[str]:
    """The parts between separators outside of quoted strings.

    From the end, as the quotes of what a proxy has added are balanced, whatever stands before it.
    """
    end, quoted = len(text), False
    for at in range(end - 1, -1, -1):
        if text[at] == '"' and not _escaped(text, at):
            quoted = not quoted
        elif text[at] == separator and not quoted:
            yield text[at + 1 : end]
            end = at
    yield text[:end]


def _escaped(text: str, at: int) -> bool:
    """Whether an odd number of backslashes stands before a place."""
    first = at
    while first and text[first - 1] == "\\":
        first -= 1
    return (at - first) % 2 == 1


def _address(hop: str) -> Address | None:
    """The address of a hop, which may have a port after it; None when it has none, such as `unknown` or `_hidden`."""
    if hop.startswith("["):
        host, bracket, port = hop[1:].partition("]")
        if not bracket or (port and not _is_port(port)):
            return None
    elif hop.count(":") == 1:
        host, _, number = hop.partition(":")
        if not _is_port(":" + number):
            return None
    else:
        host = hop
    if "%" in host:  # a zone names a link of the proxy's machine
        return None
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_port(text: str) -> bool:
    return text[0] == ":" and text[1:].isascii() and text[1:].isdigit() and len(text) <= len(":65535")
