"""The admin secret: a file that exists before anything listens, and the check of who presents it."""

import hmac
import secrets
from hashlib import blake2b
from pathlib import Path
from typing import Final

from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth.pepper import write_once
from polyroute.mesh.errors import MeshError

METADATA_KEY: Final = "polyroute-admin"
MARK: Final = "pa-"
SECRET_BYTES: Final = 32
ACTOR: Final = "admin"


def load_or_create(path: Path) -> str:
    """The secret in `path`, made now when there is none: 256 random bits, readable by its owner only.

    Raises:
        PepperError: Any user of the machine may read the file.
    """
    return write_once(path, lambda: f"{MARK}{secrets.token_urlsafe(SECRET_BYTES)}\n".encode()).decode().strip()


class Gate:
    """Lets administrators through.

    Args:
        secret: What they present.
    """

    def __init__(self, secret: str) -> None:
        self._digest = _digest(secret)

    def admit(self, presented: str) -> str:
        """Who presents a secret.

        Raises:
            MeshError: REASON_CREDENTIAL_MISSING, REASON_CREDENTIAL_INVALID.
        """
        if not presented:
            raise MeshError(errors_pb2.REASON_CREDENTIAL_MISSING, f"send the admin secret as metadata {METADATA_KEY}")
        if not hmac.compare_digest(_digest(presented), self._digest):
            raise MeshError(errors_pb2.REASON_CREDENTIAL_INVALID, "the admin secret is not valid")
        return ACTOR


def _digest(secret: str) -> bytes:
    return blake2b(secret.encode("utf-8", "surrogatepass"), digest_size=32).digest()
