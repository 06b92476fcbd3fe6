"""OAuth access tokens for Google's cloud: of a service account, of a person's own login, or of the machine.

https://developers.google.com/identity/protocols/oauth2/service-account#httprest;
https://cloud.google.com/docs/authentication/application-default-credentials for where credentials lie.
"""

import asyncio
import base64
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects import jsontools
from polyroute.mesh.errors import MeshError
from polyroute.providers.signing.ask import Ask, Question, Reply
from polyroute.providers.signing.lasting import Lasting, Renewed

SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
TOKEN_URI: Final = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address
FILE_ENV: Final = "GOOGLE_APPLICATION_CREDENTIALS"
EARLY: Final = 300.0  # s before its end at which a token is renewed
LIFETIME: Final = 3600  # s that an assertion asks for, the most that is granted
_GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_METADATA_PATH: Final = "/computeMetadata/v1/instance/service-accounts/default/token"
_METADATA_HOST: Final = "metadata.google.internal"
_FORM: Final = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
_MOST_SECONDS: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """The key of a service account.

    Attributes:
        email: Who it is.
        private_key: RSA, PEM.
        key_id: Which of its keys; may be empty.
        token_uri: Where assertions are exchanged.
    """

    email: str
    private_key: str = field(repr=False)
    key_id: str = ""
    token_uri: str = TOKEN_URI


@dataclass(frozen=True, slots=True)
class AuthorizedUser:
    """A person's login, as `gcloud auth application-default login` leaves it.

    Attributes:
        client_id: Of the tool.
        client_secret: Of the tool.
        refresh_token: Of the person.
        token_uri: Where it is exchanged.
    """

    client_id: str
    client_secret: str = field(repr=False)
    refresh_token: str = field(repr=False)
    token_uri: str = TOKEN_URI


@dataclass(frozen=True, slots=True)
class Machine:
    """The account that the machine runs as.

    Attributes:
        host: Of the metadata server.
    """

    host: str = _METADATA_HOST


Source = ServiceAccount | AuthorizedUser | Machine


def parse(text: bytes) -> ServiceAccount | AuthorizedUser:
    """Credentials out of their JSON.

    Raises:
        MeshError: FAULT_CREDENTIAL when it is neither of the two kinds, or not whole.
    """
    try:
        value = jsontools.loads(text)
    except ValueError:
        raise _bad("the google credentials are not valid JSON") from None
    kind = value.get("type") if isinstance(value, dict) else None
    if kind == "service_account":
        return ServiceAccount(
            _member(value, "client_email"),
            _member(value, "private_key"),
            value.get("private_key_id") or "",
            _token_uri(value),
        )
    if kind == "authorized_user":
        return AuthorizedUser(
            _member(value, "client_id"),
            _member(value, "client_secret"),
            _member(value, "refresh_token"),
            _token_uri(value),
        )
    raise _bad("google credentials must be of the type service_account or authorized_user")


def _member(value: Mapping[str, Any], name: str) -> str:
    text = value.get(name)
    if not isinstance(text, str) or not text:
        raise _bad(f"the google credentials have no {name}")
    return text


def _token_uri(value: Mapping[str, Any]) -> str:
    uri = value.get("token_uri") or TOKEN_URI
    parts = urlsplit(uri) if isinstance(uri, str) else urlsplit("")
    if parts.scheme != "https" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        raise _bad("the token_uri of the google credentials is not an https address")
    return str(uri)


def locate(secret: str, environment: Mapping[str, str], home: Path) -> Source:
    """Which credentials are meant: JSON, the path of a file, or nothing, for those that lie where tools leave them.

    Raises:
        MeshError: FAULT_CREDENTIAL when a file that was named cannot be read.
    """
    given = secret.strip()
    if given.startswith("{"):
        return parse(given.encode())
    named = given or environment.get(FILE_ENV, "")
    if named:
        try:
            return parse(Path(named).expanduser().read_bytes())
        except OSError as error:
            raise _bad(f"the file of google credentials cannot be read: {type(error).__name__}") from None
    folder = Path(environment.get("CLOUDSDK_CONFIG") or home / ".config" / "gcloud")
    try:
        return parse((folder / "application_default_credentials.json").read_bytes())
    except OSError:
        return Machine(environment.get("GCE_METADATA_HOST") or _METADATA_HOST)


def assertion(account: ServiceAccount, at: float) -> str:
    """A signed JSON Web Token that is exchanged for an access token (RFC 7523).

    Args:
        account: Who asks.
        at: Seconds since 1970.

    Raises:
        MeshError: FAULT_CREDENTIAL when the key is no RSA key.
    """
    header = {"alg": "RS256", "typ": "JWT"} | ({"kid": account.key_id} if account.key_id else {})
    issued = int(at)
    claims = {
        "iss": account.email,
        "scope": SCOPE,
        "aud": account.token_uri,
        "iat": issued,
        "exp": issued + LIFETIME,
    }
    text = f"{_base64(jsontools.dumps(header))}.{_base64(jsontools.dumps(claims))}"
    try:
        key = load_pem_private_key(account.private_key.encode(), password=None)
    except (ValueError, TypeError):
        raise _bad("the private key of the google credentials cannot be read") from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise _bad("the private key of the google credentials is not an RSA key")
    return f"{text}.{_base64(key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def question(source: Source, at: float) -> Question:
    """The request that gives an access token."""
    match source:
        case ServiceAccount():
            form = {"grant_type": _GRANT, "assertion": assertion(source, at)}
            return Question("POST", source.token_uri, _FORM, urlencode(form).encode())
        case AuthorizedUser():
            form = {
                "grant_type": "refresh_token",
                "client_id": source.client_id,
                "client_secret": source.client_secret,
                "refresh_token": source.refresh_token,
            }
            return Question("POST", source.token_uri, _FORM, urlencode(form).encode())
        case Machine():
            return Question("GET", f"http://{source.host}{_METADATA_PATH}", {"metadata-flavor": "Google"})


def token_of(reply: Reply) -> Lasting[str]:
    """The access token in an answer.

    Raises:
        MeshError: FAULT_CREDENTIAL when it was refused, FAULT_CONNECT when the other side failed.
    """
    try:
        value = jsontools.loads(reply.body)
    except ValueError:
        value = None
    members = value if isinstance(value, dict) else {}
    token, seconds = members.get("access_token"), members.get("expires_in")
    if reply.status >= 500 or reply.status == 429:
        raise MeshError.upstream(errors_pb2.FAULT_CONNECT, f"google's token service answered {reply.status}")
    if not isinstance(token, str) or not token or not 200 <= reply.status < 300:
        # `error` is a word of the protocol (RFC 6749, 5.2); the description beside it may name accounts
        word = members.get("error")
        said = f": {word[:64]}" if isinstance(word, str) else ""
        raise _bad(f"google gave no access token (status {reply.status}){said}")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds <= 0:
        seconds = LIFETIME
    return Lasting(token, min(float(seconds), _MOST_SECONDS))


class AccessTokens:
    """The access token of one account, renewed before it ends.

    Args:
        find: Gives the credentials; asked at every renewal, for files change.
        ask: Asks over HTTP.
        clock: Seconds that only grow.
        now: Seconds since 1970.
    """

    def __init__(
        self,
        find: Callable[[], Source],
        ask: Ask,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._find = find
        self._ask = ask
        self._now = now
        self._renewed = Renewed("google", self._fetch, early=EARLY, clock=clock)

    async def get(self) -> str:
        """The token.

        Raises:
            MeshError: FAULT_CREDENTIAL when there is none to be had, and as the question's way.
        """
        return await self._renewed.get()

    async def _fetch(self) -> Lasting[str]:
        # reads files and signs: not on the event loop
        asked = await asyncio.to_thread(lambda: question(self._find(), self._now()))
        return token_of(await self._ask(asked))


def _bad(message: str) -> MeshError:
    return MeshError.upstream(errors_pb2.FAULT_CREDENTIAL, message)
