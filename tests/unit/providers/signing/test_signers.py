"""What accounts sign their requests with."""

from pathlib import Path

from polyroute.providers.http import target
from polyroute.providers.signing.ask import Question, Reply
from polyroute.providers.signing.signers import Signers, request_of

TARGET = target(
    "https://bedrock-runtime.eu-west-1.amazonaws.com/model/a%3A0/converse?x=1",
    {"content-type": "application/json", "user-agent": "polyroute", "x-amz-target": "t"},
)
ASKED: list[Question] = []


async def ask(question: Question) -> Reply:
    """A token endpoint."""
    ASKED.append(question)
    return Reply(200, b'{"access_token":"tok","expires_in":3600}')


def signers(tmp_path: Path, **environment: str) -> Signers:
    """Signers of a machine whose home is a test's folder."""
    return Signers(environment, tmp_path, ask, clock=lambda: 0.0, now=lambda: 1440938160.0)


def test_a_target_is_signed_as_it_will_be_sent() -> None:
    """Its path as on the wire, and those of its headers that nobody changes."""
    request = request_of(TARGET, b"{}")

    assert ("POST", "bedrock-runtime.eu-west-1.amazonaws.com", "/model/a%3A0/converse", "x=1") == (
        request.method,
        request.host,
        request.path,
        request.query,
    )
    assert (("content-type", "application/json"), ("x-amz-target", "t")) == request.headers


async def test_a_key_pair_signs(tmp_path: Path) -> None:
    """With its own scope, whatever the environment holds."""
    sign = signers(tmp_path, AWS_BEARER_TOKEN_BEDROCK="k").aws("AK:secret:tok", service="bedrock", region="eu-west-1")

    headers = await sign(TARGET, b"{}")

    assert "tok" == headers["x-amz-security-token"]
    assert headers["authorization"].startswith(
        "AWS4-HMAC-SHA256 Credential=AK/20150830/eu-west-1/bedrock/aws4_request, "
        "SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-amz-target, Signature="
    )


async def test_without_a_key_the_environment_speaks(tmp_path: Path) -> None:
    """An API key stands instead of a signature where the service has them; else the key pair signs."""
    environment = {"AWS_ACCESS_KEY_ID": "AK", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "us-west-2"}
    bearer = signers(tmp_path, AWS_BEARER_TOKEN_BEDROCK="k", **environment)
    pair = signers(tmp_path, **environment)

    assert {"authorization": "Bearer k"} == await bearer.aws("", service="bedrock", region="")(TARGET, b"")
    other = await bearer.aws("", service="sagemaker", region="")(TARGET, b"")
    own = await pair.aws("", service="bedrock", region="")(TARGET, b"")
    assert "/us-west-2/sagemaker/" in other["authorization"]
    assert "/us-west-2/bedrock/" in own["authorization"]


async def test_accounts_with_the_same_credentials_share_a_token(tmp_path: Path) -> None:
    """It is fetched once."""
    ASKED.clear()
    made = signers(tmp_path)

    first = await made.google("")(TARGET, b"")
    second = await made.google("")(TARGET, b"")

    assert {"authorization": "Bearer tok"} == first == second
    assert 1 == len(ASKED)
