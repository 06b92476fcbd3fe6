"""What makes two requests the same one, and the secret that both of them hold.

An entry's id is a digest of who calls, the route and the key; its fingerprint one of the canonical body. The stored
answer is encrypted with a secret that follows from the key and the body, neither of which is stored: whoever has the
table but not the request reads nothing.
"""

import hashlib
import hmac
import os
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, urlencode

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from polyroute.api.auth.v1.auth_pb2 import Verdict
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.dialects import multipart
from polyroute.dialects.task import Body
from polyroute.edge.idempotency.canonical import canonical
from polyroute.mesh.errors import MeshError

HEADER: Final = "idempotency-key"
KEY_CHARS: Final = 255
_NONCE: Final = 12  # bytes; NIST SP 800-38D, 8.2
_CREDENTIALS: Final = frozenset({"key"})  # parameters of a query that say who asks and not what


@dataclass(frozen=True, slots=True)
class Request:
    """A request that names a key.

    Attributes:
        entry: Id of its entry, 32 bytes.
        fingerprint: Of its body, 32 bytes.
    """

    entry: bytes
    fingerprint: bytes
    _secret: bytes = field(repr=False)

    def seal(self, body: bytes) -> bytes:
        """An answer's body, encrypted."""
        nonce = os.urandom(_NONCE)
        return nonce + AESGCM(self._secret).encrypt(nonce, body, self.entry)

    def unseal(self, sealed: bytes) -> bytes:
        """An answer's body again.

        Raises:
            MeshError: REASON_IDEMPOTENCY_NOT_KEPT, what is stored was not written for this request.
        """
        try:
            return AESGCM(self._secret).decrypt(sealed[:_NONCE], sealed[_NONCE:], self.entry)
        except InvalidTag:
            raise MeshError(pb.REASON_IDEMPOTENCY_NOT_KEPT, "the answer that was kept cannot be read") from None


def request_of(verdict: Verdict, route: str, key: str, content: bytes) -> Request:
    """The request of a caller.

    Args:
        verdict: Who calls.
        route: Method and path, or the RPC.
        key: As the caller gave it.
        content: What is asked, in canonical form.

    Raises:
        MeshError: REASON_INVALID_REQUEST for a key that is empty or longer than 255 characters.
    """
    if not 1 <= len(key) <= KEY_CHARS:
        raise MeshError(
            pb.REASON_INVALID_REQUEST,
            f"an idempotency key has 1 to {KEY_CHARS} characters",
            metadata={"param": HEADER},
        )
    entry = hashlib.sha256("\0".join((_tenant(verdict), route, key)).encode("utf-8", "surrogatepass")).digest()
    secret = hmac.digest(key.encode("utf-8", "surrogatepass"), b"polyroute idempotency\0" + entry + content, "sha256")
    return Request(entry, hashlib.sha256(content).digest(), secret)


def content_of(body: bytes, content_type: str, query: bytes) -> bytes:
    """What an HTTP request asks, in a form that does not depend on how it is spelled.

    A query that says more than who asks counts as well: it decides what form the answer has.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if multipart.is_form(content_type):
        content = _form(body, content_type)
    else:
        content = canonical(body) if kind.endswith("json") else body
    said = [pair for pair in parse_qsl(query.decode("latin-1")) if pair[0] not in _CREDENTIALS]
    return content + b"\n?" + urlencode(sorted(said)).encode() if said else content


def _form(body: bytes, content_type: str) -> bytes:
    """The parts of a form without the boundary between them, which clients draw anew each time."""
    digest = hashlib.sha256()
    for part in multipart.read(Body(body, content_type)):
        for piece in (part.name, part.filename or "", part.content_type):
            data = piece.encode("utf-8", "replace")
            digest.update(b"%d:%b" % (len(data), data))
        digest.update(b"%d:" % len(part.data))
        digest.update(part.data)
    return digest.digest()


def _tenant(verdict: Verdict) -> str:
    """Whose entries they are: the project's; a key that may not do all that its project may has entries of its own."""
    caller = verdict.caller
    own = bool(verdict.models) or verdict.HasField("scope")
    return f"{caller.project_id}/{caller.key_id}" if own else caller.project_id
