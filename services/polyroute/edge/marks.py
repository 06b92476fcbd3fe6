"""Marks on the ids of what vendors keep: whose it is, which provider has it and by which of its keys it was made.

`file-68af...` becomes `file-68af...@openai~TOKEN`. The token holds the fingerprint of the vendor's key, sealed, and a
code over all of it under a secret that is the project's own. Nothing is remembered: any instance of the gateway can
take the next request, and what another project was given, was changed or was made up opens for nobody.

    code (16) | fingerprint (8), under a key stream that the code gives
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import blake2b
from hmac import compare_digest
from typing import Final, NamedTuple

_CODE: Final = 16
_PRINT: Final = 8
_MARKED: Final = re.compile(r"(.+)(@([^@~\s\"\\]{1,128})~([A-Za-z0-9_-]{32}))", re.DOTALL)


class Named(NamedTuple):
    """What a request refers to.

    Attributes:
        own: Its id in the vendor's words, or what the vendor sealed.
        suffix: The mark behind it; empty without one.
        provider: Who has it, as the mark says; not to be believed before `opened`.
        param: Where the request names it.
    """

    own: str
    suffix: str = ""
    provider: str = ""
    param: str = ""


def named(text: str, param: str = "") -> Named:
    """An id as a client sent it."""
    found = _MARKED.fullmatch(text)
    if found is None:
        return Named(text, param=param)
    return Named(found[1], found[2], found[3], param)


def suffix(mark_key: bytes, own: str, provider: str, key_mark: bytes) -> str:
    """The mark of what a provider has by one of its keys; empty without a secret."""
    if not mark_key:
        return ""
    printed = key_mark.ljust(_PRINT, b"\0")[:_PRINT]
    code = _code(mark_key, own, provider, printed)
    token = urlsafe_b64encode(code + _veiled(mark_key, code, printed)).decode()
    return f"@{provider}~{token}"


def opened(mark_key: bytes, one: Named) -> bytes | None:
    """The fingerprint in a mark, empty when it names no key; None when the mark is not this project's for this id."""
    if not (mark_key and one.suffix):
        return None
    token = urlsafe_b64decode(one.suffix.rpartition("~")[2])
    printed = _veiled(mark_key, token[:_CODE], token[_CODE:])
    if not compare_digest(suffix(mark_key, one.own, one.provider, printed), one.suffix):
        return None
    return printed.strip(b"\0") and printed


def _code(mark_key: bytes, own: str, provider: str, printed: bytes) -> bytes:
    name = provider.encode()
    said = len(name).to_bytes(2, "big") + name + printed + own.encode("utf-8", "surrogatepass")
    return blake2b(said, key=mark_key, digest_size=_CODE, person=b"polyroute.code").digest()


def _veiled(mark_key: bytes, code: bytes, printed: bytes) -> bytes:
    stream = blake2b(code, key=mark_key, digest_size=_PRINT, person=b"polyroute.veil").digest()
    return bytes(a ^ b for a, b in zip(printed, stream, strict=True))


def digest(mark_key: bytes, own: str, provider: str) -> bytes:
    """Stands for what a provider keeps for a project where the project's secret is not known."""
    name = provider.encode()
    said = len(name).to_bytes(2, "big") + name + own.encode("utf-8", "surrogatepass")
    return blake2b(said, key=mark_key, digest_size=_CODE, person=b"polyroute.thing").digest()
