"""Access tokens for Google's cloud: which credentials are meant, what is asked, how long an answer serves."""

import asyncio
import base64
import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from polyroute.api.errors.v1 import errors_pb2
from polyroute.mesh.errors import MeshError
from polyroute.providers.signing import google
from polyroute.providers.signing.ask import Question, Reply
from polyroute.providers.signing.google import AccessTokens, AuthorizedUser, Machine, ServiceAccount

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def pem(key: Any) -> str:
    """A private key as files hold it."""
    form = serialization.PrivateFormat.PKCS8
    return str(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode())


ACCOUNT = {
    "type": "service_account",
    "client_email": "robot@project.example",
    "private_key": pem(KEY),
    "private_key_id": "k1",
    "token_uri": "https://token.example/token",
}
USER = {"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r"}


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class TokenService:
    """A token endpoint that counts, waits and fails as told."""

    def __init__(self, seconds: float = 3600) -> None:
        self.asked: list[Question] = []
        self.replies: list[Reply] = []
        self.seconds = seconds
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, question: Question) -> Reply:
        self.asked.append(question)
        number = len(self.asked)
        await self.gate.wait()
        if self.replies:
            return self.replies.pop(0)
        return Reply(200, json.dumps({"access_token": f"t{number}", "expires_in": self.seconds}).encode())


def decoded(text: str) -> bytes:
    """Base64 as tokens have it."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def tokens(service: TokenService, clock: Clock) -> AccessTokens:
    """The tokens of the machine's account."""
    return AccessTokens(Machine, service, clock=clock, now=lambda: 1000.0)


def test_an_assertion_is_signed() -> None:
    """Header, claims and signature are as RFC 7523 and the key say."""
    account = google.parse(json.dumps(ACCOUNT).encode())
    assert isinstance(account, ServiceAccount)

    head, claims, signature = google.assertion(account, 1000.9).split(".")

    assert {"alg": "RS256", "typ": "JWT", "kid": "k1"} == json.loads(decoded(head))
    assert {
        "iss": "robot@project.example",
        "scope": "https://www.googleapis.com/auth/cloud-platform",
        "aud": "https://token.example/token",
        "iat": 1000,
        "exp": 4600,
    } == json.loads(decoded(claims))
    KEY.public_key().verify(decoded(signature), f"{head}.{claims}".encode(), padding.PKCS1v15(), hashes.SHA256())


def test_questions() -> None:
    """An assertion or a refresh token to the token's address, or a plain question to the machine."""
    account = google.question(google.parse(json.dumps(ACCOUNT).encode()), 1000.0)
    user = google.question(google.parse(json.dumps(USER).encode()), 1000.0)
    machine = google.question(Machine(), 1000.0)

    assert ("POST", "https://token.example/token") == account[:2]
    assert ["urn:ietf:params:oauth:grant-type:jwt-bearer"] == parse_qs(account.body.decode())["grant_type"]
    assert ("POST", "https://oauth2.googleapis.com/token") == user[:2]
    assert {
        "grant_type": ["refresh_token"],
        "client_id": ["c"],
        "client_secret": ["s"],
        "refresh_token": ["r"],
    } == parse_qs(user.body.decode())
    assert "GET" == machine.method
    assert {"metadata-flavor": "Google"} == machine.headers


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{}",
        b'{"type":"external_account"}',
        json.dumps({**ACCOUNT, "private_key": ""}).encode(),
        json.dumps({**ACCOUNT, "token_uri": "http://token.example/"}).encode(),
        json.dumps({**USER, "refresh_token": 7}).encode(),
    ],
)
def test_broken_credentials_are_refused(text: bytes) -> None:
    """With what is wrong, and nothing of what they hold."""
    with pytest.raises(MeshError) as caught:
        google.parse(text)

    assert errors_pb2.FAULT_CREDENTIAL == caught.value.fault


@pytest.mark.parametrize("key", ["no key", pem(ec.generate_private_key(ec.SECP256R1()))])
def test_a_key_that_is_no_rsa_key_is_refused(key: str) -> None:
    """Only RS256 is signed."""
    with pytest.raises(MeshError, match="private key"):
        google.assertion(ServiceAccount("e", key), 0.0)


def test_credentials_are_located(tmp_path: Path) -> None:
    """JSON, a file's path, the variable, the tool's own place, the machine: in this order."""
    user = AuthorizedUser("c", "s", "r")
    place = tmp_path / "key.json"
    place.write_text(json.dumps(USER))

    assert user == google.locate(json.dumps(USER), {}, tmp_path)
    assert user == google.locate(str(place), {}, tmp_path)
    assert user == google.locate("", {"GOOGLE_APPLICATION_CREDENTIALS": str(place)}, tmp_path)
    assert Machine() == google.locate("", {}, tmp_path)
    assert Machine("1.2.3.4") == google.locate("", {"GCE_METADATA_HOST": "1.2.3.4"}, tmp_path)
    folder = tmp_path / ".config" / "gcloud"
    folder.mkdir(parents=True)
    (folder / "application_default_credentials.json").write_text(json.dumps(USER))
    assert user == google.locate("", {}, tmp_path)
    with pytest.raises(MeshError, match="cannot be read: FileNotFoundError"):
        google.locate(str(tmp_path / "none"), {}, tmp_path)


async def test_one_question_for_all_who_wait() -> None:
    """However many want the token at once; one who goes away takes it from nobody."""
    service, clock = TokenService(), Clock()
    service.gate.clear()
    source = tokens(service, clock)
    waiting = [asyncio.create_task(source.get()) for _ in range(5)]
    while not service.asked:
        await asyncio.sleep(0)
    waiting.pop(0).cancel()
    service.gate.set()

    assert ["t1"] * 4 == await asyncio.gather(*waiting)
    assert 1 == len(service.asked)


async def test_a_token_is_renewed_before_it_ends() -> None:
    """The old one serves meanwhile: nobody waits."""
    service, clock = TokenService(), Clock()
    source = tokens(service, clock)
    assert "t1" == await source.get()

    clock.now += 3600 - 301
    assert ["t1", 1] == [await source.get(), len(service.asked)]
    clock.now += 2
    assert "t1" == await source.get()
    await source._renewed._task  # type: ignore[misc] # it is under way

    assert ["t2", 2] == [await source.get(), len(service.asked)]


async def test_a_failed_renewal_leaves_the_old_token_while_it_lasts() -> None:
    """It is tried again after a pause, and fails the request only once the token has ended."""
    service, clock = TokenService(), Clock()
    source = tokens(service, clock)
    await source.get()
    clock.now += 3500
    service.replies = [Reply(503, b""), Reply(503, b"")]

    assert "t1" == await source.get()
    with pytest.raises(MeshError):
        await source._renewed._task  # type: ignore[misc] # it is under way
    assert ["t1", 2] == [await source.get(), len(service.asked)]
    clock.now += 101
    with pytest.raises(MeshError) as caught:
        await source.get()

    assert errors_pb2.FAULT_CONNECT == caught.value.fault
    assert "t4" == await source.get()


@pytest.mark.parametrize(
    ("reply", "fault", "words"),
    [
        (Reply(400, b'{"error":"invalid_grant","error_description":"x@y"}'), "FAULT_CREDENTIAL", "invalid_grant"),
        (Reply(401, b"oops"), "FAULT_CREDENTIAL", "status 401"),
        (Reply(200, b'{"id_token":"x"}'), "FAULT_CREDENTIAL", "status 200"),
        (Reply(200, b"<html>"), "FAULT_CREDENTIAL", "status 200"),
        (Reply(500, b"{}"), "FAULT_CONNECT", "500"),
        (Reply(429, b"{}"), "FAULT_CONNECT", "429"),
    ],
)
def test_a_refusal_says_its_word(reply: Reply, fault: str, words: str) -> None:
    """The protocol's word, not the description beside it, which may name accounts."""
    with pytest.raises(MeshError, match=words) as caught:
        google.token_of(reply)

    assert fault == errors_pb2.Fault.Name(caught.value.fault)
    assert "x@y" not in caught.value.message


@pytest.mark.parametrize(
    ("stated", "seconds"), [(60, 60.0), (None, 3600.0), ("x", 3600.0), (True, 3600.0), (1e9, 86400.0)]
)
def test_how_long_a_token_lasts(stated: object, seconds: float) -> None:
    """As stated, within reason."""
    reply = Reply(200, json.dumps({"access_token": "t", "expires_in": stated}).encode())

    assert ("t", seconds) == google.token_of(reply)
