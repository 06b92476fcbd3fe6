"""Secrets sealed for one reader: whoever keeps them, or sees them on the way, cannot open them.

An envelope is made for a public key: an ephemeral X25519 key agrees on a secret with it (RFC 7748), HKDF-SHA256 makes
that a key (RFC 5869), and AES-256-GCM seals the content together with the names that it belongs to. An envelope that is
put in another's place does not open.

    version (1) | id of the sealing key (8) | ephemeral public key (32) | nonce (12) | content and tag
"""

import base64
import binascii
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

PREFIX: Final = "x25519:"
VERSION: Final = 1
_ID: Final = 8
_KEY: Final = 32
_NONCE: Final = 12
_TAG: Final = 16
_HEAD: Final = 1 + _ID + _KEY + _NONCE
_INFO: Final = b"polyroute sealed 1"


class SealError(Exception):
    """An envelope cannot be opened, or a key cannot be read. The text holds nothing secret."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """For whom something is sealed."""

    raw: bytes

    @classmethod
    def read(cls, text: str) -> "PublicKey":
        """The key in a text such as `x25519:...`.

        Raises:
            SealError: It is none.
        """
        return cls(_bytes(text))

    @property
    def id(self) -> str:
        """Tells it from others: 16 hexadecimal digits."""
        return _id(self.raw).hex()

    def __str__(self) -> str:
        """As `read` takes it."""
        return PREFIX + base64.urlsafe_b64encode(self.raw).decode()

    def seal(self, content: bytes, *names: str) -> bytes:
        """An envelope that only the private key opens, and only under these names."""
        ephemeral = X25519PrivateKey.generate()
        public = ephemeral.public_key().public_bytes_raw()
        key = _derived(ephemeral.exchange(X25519PublicKey.from_public_bytes(self.raw)), public, self.raw)
        nonce = os.urandom(_NONCE)
        head = bytes([VERSION]) + _id(self.raw) + public + nonce
        return head + AESGCM(key).encrypt(nonce, content, _bound(head, names))


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """Who opens what is sealed."""

    raw: bytes = field(repr=False)

    @classmethod
    def fresh(cls) -> "PrivateKey":
        """A new one."""
        return cls(X25519PrivateKey.generate().private_bytes_raw())

    @classmethod
    def read(cls, text: str) -> "PrivateKey":
        """The key in a text such as `x25519:...`.

        Raises:
            SealError: It is none.
        """
        return cls(_bytes(text))

    @property
    def public(self) -> PublicKey:
        """For sealing."""
        return PublicKey(X25519PrivateKey.from_private_bytes(self.raw).public_key().public_bytes_raw())

    @property
    def text(self) -> str:
        """As `read` takes it: the secret itself."""
        return PREFIX + base64.urlsafe_b64encode(self.raw).decode()


class Opener:
    """Opens envelopes that were sealed for any of some keys.

    Args:
        keys: The one in use first; those that follow open what was sealed before.
    """

    def __init__(self, keys: Iterable[PrivateKey]) -> None:
        self.keys = tuple(keys)
        self._by_id: Mapping[str, PrivateKey] = {key.public.id: key for key in self.keys}

    def open(self, envelope: bytes, *names: str) -> bytes:
        """What is in an envelope.

        Raises:
            SealError: It was sealed for another key, under other names, or was changed since.
        """
        key_id = sealed_for(envelope)
        private = self._by_id.get(key_id)
        if private is None:
            raise SealError(f"it was sealed for another key: {key_id}")
        head, content = envelope[:_HEAD], envelope[_HEAD:]
        ephemeral = head[1 + _ID : 1 + _ID + _KEY]
        try:
            shared = X25519PrivateKey.from_private_bytes(private.raw).exchange(
                X25519PublicKey.from_public_bytes(ephemeral)
            )
            key = _derived(shared, ephemeral, private.public.raw)
            return AESGCM(key).decrypt(head[-_NONCE:], content, _bound(head, names))
        except (InvalidTag, ValueError):
            raise SealError("it was sealed under other names, or was changed since") from None


def sealed_for(envelope: bytes) -> str:
    """Id of the key that an envelope was sealed for.

    Raises:
        SealError: It is no envelope.
    """
    if len(envelope) < _HEAD + _TAG or envelope[0] != VERSION:
        raise SealError("it is no sealed envelope")
    return envelope[1 : 1 + _ID].hex()


def _id(public: bytes) -> bytes:
    return blake2b(public, digest_size=_ID, person=b"polyroute.seal").digest()


def _derived(shared: bytes, ephemeral: bytes, recipient: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=_KEY, salt=ephemeral + recipient, info=_INFO).derive(shared)


def _bound(head: bytes, names: Iterable[str]) -> bytes:
    """What is sealed along without being in the envelope: each name with its length, so that none runs into another."""
    coded = [name.encode() for name in names]
    return head + b"".join(len(name).to_bytes(4, "big") + name for name in coded)


def _bytes(text: str) -> bytes:
    try:
        raw = base64.b64decode(text.strip().removeprefix(PREFIX), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if not text.startswith(PREFIX) or len(raw) != _KEY:
        raise SealError(f"a sealing key is `{PREFIX}` and the base64 of 32 bytes")
    return raw
