"""How keys are presented."""

import pytest

from polyroute.providers.credentials import AwsKey, GoogleKey, HeaderKey, Presented, QueryKey, Signer
from polyroute.providers.http import Address, Target

JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln"


class Signs:
    """Makes signers that say what they were made of."""

    def aws(self, secret: str, *, service: str, region: str) -> Signer:
        async def sign(target: Target, body: bytes) -> dict[str, str]:
            return {"authorization": f"aws {secret} {service} {region} {len(body)}"}

        return sign

    def google(self, secret: str) -> Signer:
        async def sign(target: Target, body: bytes) -> dict[str, str]:
            return {"authorization": f"google {secret}"}

        return sign


@pytest.mark.parametrize(
    ("credential", "secret", "headers", "query"),
    [
        (HeaderKey(), "k", {"authorization": "Bearer k"}, ""),
        (HeaderKey(), "", {}, ""),
        (HeaderKey("x-api-key", ""), "k", {"x-api-key": "k"}, ""),
        (HeaderKey("api-key", ""), JWT, {"api-key": JWT}, ""),
        (HeaderKey("api-key", "", tokens=True), "k", {"api-key": "k"}, ""),
        (HeaderKey("api-key", "", tokens=True), JWT, {"authorization": f"Bearer {JWT}"}, ""),
        (QueryKey("key"), "a&b=c", {}, "key=a%26b%3Dc"),
        (QueryKey("key"), "", {}, ""),
        (AwsKey("bedrock"), "ABSKx", {"authorization": "Bearer ABSKx"}, ""),
    ],
)
def test_same_for_every_request(
    credential: HeaderKey | QueryKey | AwsKey, secret: str, headers: dict[str, str], query: str
) -> None:
    """Header or address; a key is never sent as a token or the other way round."""
    assert Presented(headers, query) == credential.present(secret, {}, None)


@pytest.mark.parametrize(
    ("credential", "secret", "authorization"),
    [
        (AwsKey("bedrock"), "AKIA:s3cret", "aws AKIA:s3cret bedrock eu-west-1 2"),
        (AwsKey("bedrock"), "", "aws  bedrock eu-west-1 2"),
        (GoogleKey(), "{}", "google {}"),
        (GoogleKey(), "", "google "),
    ],
)
async def test_signed_one_by_one(credential: AwsKey | GoogleKey, secret: str, authorization: str) -> None:
    """With the account's region, and nothing in what all requests share."""
    presented = credential.present(secret, {"region": "eu-west-1"}, Signs())
    target = Target(Address("x", 443, tls=True), b"POST / HTTP/1.1\r\nhost: x\r\n")

    assert presented.sign is not None
    assert {"authorization": authorization} == await presented.sign(target, b"{}")
    assert ({}, "") == (dict(presented.headers), presented.query)


def test_without_anyone_who_signs() -> None:
    """A check of the configuration builds accounts and signs nothing."""
    assert Presented() == AwsKey("bedrock").present("", {}, None)
    assert Presented() == GoogleKey().present("{}", {}, None)


def test_secret_is_in_no_text() -> None:
    """What is logged by mistake does not hold it."""
    assert "s3cret" not in repr(HeaderKey().present("s3cret", {}, None))
