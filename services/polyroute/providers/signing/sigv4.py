"""Signature Version 4: a request, credentials and a time in, headers out. No I/O and no clock.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

import hashlib
import hmac
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, unquote_to_bytes

ALGORITHM: Final = "AWS4-HMAC-SHA256"
_UNRESERVED: Final = "-_.~"  # beside letters and digits: what is never encoded


@dataclass(frozen=True, slots=True)
class Credentials:
    """A key pair.

    Attributes:
        access_key: Its public half.
        secret_key: The other.
        session_token: Comes with keys that expire; empty with those that do not.
    """

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it will stand on the wire.

    Attributes:
        method: In capitals.
        host: As the header `host` has it, with its port where it has one.
        path: Percent-encoded, as in the request line, without the query.
        query: Percent-encoded, without `?`.
        headers: Those to be signed beside `host`, as pairs of name and value; not what may change on the way.
        body: The bytes.
    """

    method: str
    host: str
    path: str
    query: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


def sign(request: Request, credentials: Credentials, *, region: str, service: str, at: float) -> dict[str, str]:
    """The headers that make a request acceptable: the time, the session's token and `authorization`.

    Args:
        request: What will be sent.
        credentials: Whose it is.
        region: Such as `us-east-1`.
        service: Its name in signatures, such as `bedrock`.
        at: Seconds since 1970.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at))
    added = {"x-amz-date": stamp}
    if credentials.session_token:
        added["x-amz-security-token"] = credentials.session_token
    canonical, signed = canonical_request(request, added.items())
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    key = signing_key(credentials.secret_key, stamp[:8], region, service)
    signature = hmac.new(key, string_to_sign(stamp, scope, canonical).encode(), hashlib.sha256).hexdigest()
    presented = f"Credential={credentials.access_key}/{scope}, SignedHeaders={signed}, Signature={signature}"
    return {**added, "authorization": f"{ALGORITHM} {presented}"}


def canonical_request(request: Request, added: Iterable[tuple[str, str]]) -> tuple[str, str]:
    """A request in the one form that both sides hash, and the names of the headers in it."""
    values: dict[str, list[str]] = {"host": [request.host]}
    for name, value in (*request.headers, *added):
        values.setdefault(name.lower(), []).append(" ".join(value.split()))
    names = sorted(values)
    signed = ";".join(names)
    lines = [f"{name}:{','.join(values[name])}\n" for name in names]
    parts = [
        request.method,
        canonical_path(request.path),
        canonical_query(request.query),
        "".join(lines),
        signed,
        hashlib.sha256(request.body).hexdigest(),
    ]
    return "\n".join(parts), signed


def canonical_path(path: str) -> str:
    """A path without dots and double slashes, encoded once more than it stands on the wire."""
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment not in ("", "."):
            kept.append(quote(segment, safe=_UNRESERVED))
    ended = path.endswith("/") and kept
    return "/" + "/".join(kept) + ("/" if ended else "")


def canonical_query(query: str) -> str:
    """A query's parameters, each encoded in the one way, in the order of names and values."""
    pairs = (part.partition("=") for part in query.split("&") if part)
    return "&".join(f"{name}={value}" for name, value in sorted((_encoded(n), _encoded(v)) for n, _, v in pairs))


def _encoded(text: str) -> str:
    return quote(unquote_to_bytes(text), safe=_UNRESERVED)


def string_to_sign(stamp: str, scope: str, canonical: str) -> str:
    """What is signed: the time, the scope and the request's hash."""
    return f"{ALGORITHM}\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"


def signing_key(secret: str, day: str, region: str, service: str) -> bytes:
    """The key of one day, region and service."""
    key = f"AWS4{secret}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key
