"""Passwords: argon2id (RFC 9106), checked in the same time whether or not there is somebody of that name."""

import asyncio
import secrets
import unicodedata
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.low_level import Type

AT_ONCE: Final = 2  # each check takes its own memory: more than a few at once would be somebody else's


class Passwords:
    """Hashes and checks passwords.

    Args:
        memory: KiB that each check takes.
        rounds: How often it goes over them.
    """

    def __init__(self, *, memory: int, rounds: int) -> None:
        self._hasher = PasswordHasher(time_cost=rounds, memory_cost=memory, parallelism=1, type=Type.ID)
        self._places = asyncio.Semaphore(AT_ONCE)
        self._nobodys = ""

    async def hashed(self, password: str) -> str:
        """A password as it is kept: with its parameters and a salt of its own."""
        async with self._places:
            return await asyncio.to_thread(self._hasher.hash, _plain(password))

    async def matches(self, kept: str | None, password: str) -> bool:
        """Whether a password is the one that is kept; None, nobody's, takes as long and matches nothing."""
        async with self._places:
            if not self._nobodys:  # for everybody alike, and not at the start of a process
                self._nobodys = await asyncio.to_thread(self._hasher.hash, secrets.token_hex())
            matched = await asyncio.to_thread(self._verified, kept or self._nobodys, _plain(password))
        return matched and kept is not None

    def outdated(self, kept: str) -> bool:
        """Whether it was hashed with other parameters than are set now."""
        return self._hasher.check_needs_rehash(kept)

    def _verified(self, kept: str, password: bytes) -> bool:
        try:
            return self._hasher.verify(kept, password)
        except (VerificationError, InvalidHashError):
            return False


def _plain(password: str) -> bytes:
    """The same bytes however a keyboard composes its characters (RFC 8265, 4.2)."""
    return unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")
