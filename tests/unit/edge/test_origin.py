"""Where a request comes from: what proxies say of it, and what callers pretend."""

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from polyroute.edge.config import HttpConfig
from polyroute.edge.http.origin import MOST_HOPS, Origins

PROXY, INNER, CALLER = "10.0.0.2", "10.0.0.3", "203.0.113.9"
LIE = "198.51.100.1"


@cache
def origins(by: str) -> Origins:
    """Of proxies that write one header."""
    return Origins(HttpConfig.model_validate({"trusted_proxies": ["10.0.0.0/8", "fd00::/8"], "forwarded_by": by}))


def seen(peer: str, *lines: tuple[str, str], by: str = "x-forwarded-for") -> str:
    """Where a request with these headers comes from."""
    headers = [(name.encode(), value.encode("latin-1")) for name, value in lines]
    scope = {"type": "http", "client": (peer, 4711), "headers": headers}
    origins(by).tell(scope)
    return str(scope["client"][0])


@pytest.mark.parametrize(
    ("said", "origin"),
    [
        (CALLER, CALLER),
        (f"{LIE}, {CALLER}", CALLER),
        (f"{LIE},{CALLER},{INNER}", CALLER),
        (f"{PROXY}, {LIE}, {CALLER}", CALLER),
        (f"garbage, {CALLER}", CALLER),
        (f"{CALLER}:50123", CALLER),
        ("2001:db8::7", "2001:db8::7"),
        ("[2001:db8::7]:443", "2001:db8::7"),
        (f"::ffff:{CALLER}", CALLER),
        (f"{LIE}, fd00::1", LIE),
        (f"10.9.9.9, {INNER}", "10.9.9.9"),  # all are of the operator's own networks: the first one has called
    ],
)
def test_the_last_hop_that_is_no_proxy(said: str, origin: str) -> None:
    """Whatever stands before it was written by whoever it is."""
    assert origin == seen(PROXY, ("x-forwarded-for", said))


@pytest.mark.parametrize(
    "said",
    [
        *("", ",", "unknown", f"{CALLER}, ", f"{LIE}, _hidden", "1.2.3", "1.2.3.4:", "1.2.3.4:99999999", "[::1"),
        *("[::1]x", "fe80::1%eth0", "1.2.3.4.5", "0x7f.1", "١٢.1.1.1".encode().decode("latin-1"), "a" * 60_000),
        ", ".join([INNER] * (MOST_HOPS + 2)),
    ],
)
def test_what_is_malformed_says_nothing(said: str) -> None:
    """Then it is the peer's own address."""
    assert PROXY == seen(PROXY, ("x-forwarded-for", said))
    assert PROXY == seen(PROXY, ("forwarded", said), by="forwarded")


def test_nobody_else_is_believed() -> None:
    """Neither who is no proxy, nor a header that the proxies do not write."""
    assert LIE == seen(LIE, ("x-forwarded-for", CALLER))
    assert PROXY == seen(PROXY, ("forwarded", f"for={LIE}"), ("x-real-ip", LIE))
    assert PROXY == seen(PROXY, ("x-forwarded-for", LIE), by="forwarded")
    assert CALLER == seen(PROXY, ("forwarded", f"for={LIE}"), ("x-forwarded-for", CALLER))
    assert "" == seen("", ("x-forwarded-for", CALLER))


def test_a_header_that_comes_in_several_lines_is_one() -> None:
    """A proxy may add a line of its own (RFC 9110, section 5.3)."""
    lines = [("x-forwarded-for", LIE), ("accept", "*/*"), ("x-forwarded-for", CALLER)]

    assert CALLER == seen(PROXY, *lines)


def test_peer_as_a_socket_for_both_families_shows_it() -> None:
    """Is the same proxy."""
    assert CALLER == seen(f"::ffff:{PROXY}", ("x-forwarded-for", CALLER))


@pytest.mark.parametrize(
    ("said", "origin"),
    [
        (f"for={CALLER}", CALLER),
        (f'For="{CALLER}:8080";proto=https;by={PROXY}', CALLER),
        ('proto=https;for="[2001:db8::7]:4711"', "2001:db8::7"),
        (f"for={LIE}, for={CALLER}, for={INNER};host=example.org", CALLER),
        (f'for="{LIE}, for={CALLER}', CALLER),  # a quote that the caller has left open
        (f'for={LIE};x="\\", for={CALLER};host="a, b;for={LIE}"', CALLER),
        (f'for={CALLER};host="a\\", for={LIE}"', CALLER),  # the caller's own host, as a proxy quotes it
        (f"for=_hidden, for={CALLER}", CALLER),
        (f"for={CALLER}, for=unknown", PROXY),
        (f"for={CALLER}, for={LIE};for={CALLER}", PROXY),
        (f"for={CALLER}, by={PROXY}", PROXY),
        (f"{CALLER}", PROXY),
    ],
)
def test_forwarded(said: str, origin: str) -> None:
    """As RFC 7239, section 4, has it."""
    assert origin == seen(PROXY, ("forwarded", said), by="forwarded")


@given(st.text(st.characters(codec="latin-1"), max_size=80) | st.text('",;\\=for[]1.: ', max_size=60))
def test_whatever_a_caller_writes_it_stays_where_it_is(said: str) -> None:
    """What its proxy adds is believed."""
    assert CALLER == seen(PROXY, ("x-forwarded-for", f"{said}, {CALLER}"))
    assert CALLER == seen(PROXY, ("forwarded", f'{said}, for="{CALLER}"'), by="forwarded")


def test_long_headers_cost_little() -> None:
    """Where a proxy passes them on as they are."""
    for said in ('"' * 60_000, '\\"' * 30_000, ";" * 60_000, "," * 60_000, f"{INNER}," * 5_000):
        assert PROXY == seen(PROXY, ("forwarded", said), by="forwarded")


@pytest.mark.parametrize("network", ["0.0.0.0/0", "::/0", "10.0.0.1/8", "proxy.example.org", "*"])
def test_networks_that_are_none_of_proxies(network: str) -> None:
    """Everybody is not a proxy, and neither is a name."""
    with pytest.raises(ValidationError):
        HttpConfig.model_validate({"trusted_proxies": [network]})
