"""Whom an address stands for."""

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final

_V6_PREFIX: Final = 64


def subscriber(address: str) -> str:
    """What counts as one address: of IPv6 the network that one subscriber is given (RFC 6177)."""
    try:
        parsed = IPv6Address(address)
    except ValueError:
        return address
    return str(parsed.ipv4_mapped or IPv6Network((int(parsed), _V6_PREFIX), strict=False))


def public(address: str) -> bool:
    """Whether an address is one of the internet, behind which no proxy of one's own can stand."""
    try:
        parsed: IPv4Address | IPv6Address = ip_address(address)
    except ValueError:
        return False
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return (mapped or parsed).is_global
