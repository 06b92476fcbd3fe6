"""Secrets sealed for one reader."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyroute.mesh.sealing import Opener, PrivateKey, PublicKey, SealError, sealed_for

KEY, OTHER = PrivateKey.fresh(), PrivateKey.fresh()


@given(content=st.binary(max_size=64), names=st.lists(st.text(max_size=8), max_size=3))
def test_what_is_sealed_comes_out(content: bytes, names: list[str]) -> None:
    """Under the same names; never twice the same envelope."""
    one, two = (KEY.public.seal(content, *names) for _ in range(2))

    assert content == Opener([OTHER, KEY]).open(one, *names) == Opener([KEY]).open(two, *names)
    assert one != two
    assert KEY.public.id == sealed_for(one)


@given(place=st.integers(0, 80), bit=st.integers(0, 7))
def test_what_was_changed_does_not_open(place: int, bit: int) -> None:
    """Whichever bit it is."""
    envelope = bytearray(KEY.public.seal(b"secret-of-a-vendor", "openai", "main"))
    envelope[place % len(envelope)] ^= 1 << bit

    with pytest.raises(SealError):
        Opener([KEY]).open(bytes(envelope), "openai", "main")


@pytest.mark.parametrize("names", [(), ("openai",), ("openai", "other"), ("open", "aimain"), ("main", "openai")])
def test_envelope_in_anothers_place_does_not_open(names: tuple[str, ...]) -> None:
    """The names it was sealed under are part of it."""
    envelope = KEY.public.seal(b"secret", "openai", "main")

    with pytest.raises(SealError, match="under other names"):
        Opener([KEY]).open(envelope, *names)


def test_only_the_reader_opens() -> None:
    """The error says for whom it was sealed, and nothing of what."""
    envelope = KEY.public.seal(b"secret", "a")

    with pytest.raises(SealError, match=KEY.public.id):
        Opener([OTHER]).open(envelope, "a")


def test_keys_are_read_as_they_are_written() -> None:
    """And what is none is refused; a private key shows nothing of itself."""
    assert KEY == PrivateKey.read(KEY.text)
    assert KEY.public == PublicKey.read(str(KEY.public))
    assert KEY.text[7:] not in repr(KEY)
    for text in ("", "x25519:", "x25519:AAAA", KEY.text.removeprefix("x25519:"), "x25519:" + "*" * 44):
        with pytest.raises(SealError):
            PublicKey.read(text)
    with pytest.raises(SealError):
        sealed_for(b"\x02" + b"x" * 100)
