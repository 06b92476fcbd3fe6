"""What a key is: a random secret of which only a keyed digest is kept, and a prefix by which people know it.

A secret holds 256 random bits, so a fast digest is enough: nobody can try them all, and a slow hash would only make
each call dearer. The digest is keyed with the installation's pepper, so a copied database alone can neither be matched
against secrets found elsewhere nor be filled with keys of a thief's making. A key is found by its digest in an index;
no secret is ever compared with another, so there is no comparison to time.

A secret carries no checksum: anyone could compute it, so it would stop no flood, and keys that operators bring would
not have it. What has not the form of a key is refused without a look-up all the same.
"""

import re
import secrets
from dataclasses import dataclass, field
from enum import Enum
from hashlib import blake2b, sha256
from typing import Final, Literal, NamedTuple

import uuid_utils

from polyroute.auth.money.inforce import InForce
from polyroute.auth.rates.limits import Limit
from polyroute.auth.scopes import Grant, Scope

MARK: Final = "pr-"
PREFIX_CHARS: Final = 9  # the mark and 36 bits: enough to tell keys apart, 220 bits short of the secret
FORM: Final = "`pr-` followed by 43 to 253 characters of A-Z a-z 0-9 _ -"
DIGEST_BYTES: Final = 32

_SECRET_BYTES: Final = 32  # 43 characters of base64url
_WELL_FORMED: Final = re.compile(r"pr-[A-Za-z0-9_-]{43,253}")
_FOREIGN: Final = re.compile(r"[!-~]{16,256}")
_PERSON: Final = (
    b"polyroute.key"  # BLAKE2's personalisation (RFC 7693, 2.5): the pepper's other uses give other digests
)


class Halted(Enum):
    """Why no key of an account or a project works; the values are how callers are told."""

    ACCOUNT = "account_suspended"
    PROJECT = "project_suspended"
    GONE = ""


@dataclass(frozen=True, slots=True)
class Key:
    """A key as auth knows it. Times are microseconds since the Unix epoch."""

    id: str
    account_id: str
    project_id: str
    prefix: str
    name: str
    models: tuple[str, ...]
    """Models and aliases it may use; empty means all."""
    created: int
    expires: int | None = None
    revoked: int | None = None
    scope: Scope = field(default_factory=Scope)
    creator: str = ""
    """Id of the key that created it; empty when an operator did."""
    limits: tuple[Limit, ...] = ()
    """Of the key, its project, its account and the plan in force; only known of a key that was found by its secret."""
    purse: str = ""
    """The lowest of key, project and account that has a hard budget; only known of a key found by its secret."""
    multiplier: int = 0
    """By what cost is multiplied, in millionths; 0 is once. Only known of a key found by its secret."""
    plan: InForce | None = None
    """The plan that binds its calls; only known of a key found by its secret."""
    halted: Halted | None = None
    """Why it is refused though it was not revoked; only known of a key found by its secret."""
    former: bool = False
    """Found by a secret that was replaced; `expires` is then that secret's end."""

    @property
    def path(self) -> tuple[str, str, str]:
        """What binds it, from the bottom up."""
        return self.id, self.project_id, self.account_id

    @property
    def grant(self) -> Grant:
        """All that it is allowed."""
        return Grant(self.models, self.expires, self.scope)


class Changed(NamedTuple):
    """A key before and after a change; None where it was not there before."""

    before: Key | None
    after: Key


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key about to be created."""

    id: str
    digest: bytes
    prefix: str
    name: str
    models: tuple[str, ...]
    created: int
    expires: int | None = None
    request_id: str | None = None
    """The caller's name for the creation; a second creation of that name finds the first one's key."""
    scope: Scope = field(default_factory=Scope)
    creator: str = ""


class Digester:
    """Turns secrets into what is kept of them.

    Args:
        pepper: The installation's secret, 16 to 64 bytes.
    """

    def __init__(self, pepper: bytes) -> None:
        if not 16 <= len(pepper) <= 64:
            raise ValueError("the pepper must have 16 to 64 bytes")
        self._keyed = blake2b(key=pepper, digest_size=DIGEST_BYTES, person=_PERSON)
        self._marking = blake2b(key=pepper, digest_size=DIGEST_BYTES, person=b"polyroute.marks")

    def __call__(self, secret: str) -> bytes:
        """The digest of a secret, 32 bytes."""
        keyed = self._keyed.copy()
        keyed.update(secret.encode())
        return keyed.digest()

    def mark_key(self, project_id: str) -> bytes:
        """A project's secret for the ids of what vendors keep for it, 32 bytes; nobody else's can be told from it."""
        keyed = self._marking.copy()
        keyed.update(project_id.encode())
        return keyed.digest()

    @property
    def fingerprint(self) -> str:
        """Tells this pepper from any other, and nothing else about it."""
        return self("").hex()


def new_secret() -> str:
    """A fresh secret, 46 characters."""
    return MARK + secrets.token_urlsafe(_SECRET_BYTES)


def well_formed(credential: str) -> bool:
    """Whether a credential looks like a key at all."""
    return _WELL_FORMED.fullmatch(credential) is not None


def looked_up(credential: str) -> str | None:
    """What is digested of a credential: a key of ours as it is, anybody else's by its SHA-256; None of what is no key.

    Of a key that was taken over from another gateway only its plain SHA-256 is known. That is digested with the pepper
    as our own are, under a name of its own: neither the table nor a look-up has anything that the other has not.
    """
    if well_formed(credential):
        return credential
    if credential.startswith(MARK) or _FOREIGN.fullmatch(credential) is None:
        return None
    return foreign(sha256(credential.encode()).hexdigest())


def foreign(digest: str) -> str:
    """What is digested of a foreign key, from its SHA-256 in lower-case hexadecimal digits."""
    return f"sha256:{digest}"


def prefix(secret: str) -> str:
    """The part of a secret that people may see."""
    return secret[:PREFIX_CHARS]


def new_id(kind: Literal["acc", "prj", "key", "bud", "per", "inv", "ses"]) -> str:
    """A new identifier such as `key_01a2...`; later ones sort after earlier ones (UUIDv7, RFC 9562)."""
    return f"{kind}_{uuid_utils.uuid7().hex}"
