"""Signature Version 4 against the vectors that AWS publishes, and the rules that they do not reach.

The vectors are those of https://github.com/awslabs/aws-c-auth/tree/main/tests/aws-signing-test-suite and of the suite
in the AWS General Reference that it stems from.
"""

from dataclasses import dataclass

import pytest

from polyroute.providers.signing.sigv4 import (
    Credentials,
    Request,
    canonical_path,
    canonical_query,
    canonical_request,
    sign,
    signing_key,
)

AT = 1440938160.0  # 2015-08-30T12:36:00Z
HOST = "example.amazonaws.com"
KEYS = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
UNRESERVED = f"-._~{LETTERS}"


@dataclass(frozen=True)
class Vector:
    """A published request and its published signature."""

    name: str
    signature: str
    method: str = "GET"
    path: str = "/"
    query: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    signed: str = "host;x-amz-date"


VANILLA = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
POST = "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"
ONE, TWO = "host;my-header1;x-amz-date", "host;my-header1;my-header2;x-amz-date"
VECTORS = [
    Vector("get-vanilla", VANILLA),
    Vector("get-relative", VANILLA, path="/example/.."),
    Vector("get-relative-relative", VANILLA, path="/example1/example2/../.."),
    Vector("get-slash", VANILLA, path="//"),
    Vector("get-slash-dot-slash", VANILLA, path="/./"),
    Vector(
        "get-slash-pointless-dot",
        "ef75d96142cf21edca26f06005da7988e4f8dc83a165a80865db7089db637ec5",
        path="/./example",
    ),
    Vector("get-slashes", "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84", path="//example//"),
    Vector("get-space", "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741", path="/example space/"),
    Vector("get-utf8", "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85", path="/\u1234"),
    Vector(
        "get-unreserved", "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f", path=f"/-._~{LETTERS}"
    ),
    Vector(
        "get-header-key-duplicate",
        "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
        headers=(("My-Header1", "value2"), ("My-Header1", "value2"), ("My-Header1", "value1")),
        signed=ONE,
    ),
    Vector(
        "get-header-value-order",
        "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01",
        headers=(
            ("My-Header1", "value4"),
            ("My-Header1", "value1"),
            ("My-Header1", "value3"),
            ("My-Header1", "value2"),
        ),
        signed=ONE,
    ),
    Vector(
        "get-header-value-trim",
        "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
        headers=(("My-Header1", " value1"), ("My-Header2", ' "a   b   c"')),
        signed=TWO,
    ),
    Vector(
        "get-vanilla-empty-query-key",
        "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb",
        query="Param1=value1",
    ),
    Vector(
        "get-vanilla-query-order-key",
        "eedbc4e291e521cf13422ffca22be7d2eb8146eecf653089df300a15b2382bd1",
        query="Param1=value2&Param1=Value1",
    ),
    Vector(
        "get-vanilla-query-order-key-case",
        "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        query="Param2=value2&Param1=value1",
    ),
    Vector(
        "get-vanilla-query-order-value",
        "5772eed61e12b33fae39ee5e7012498b51d56abc0abb7c60486157bd471c4694",
        query="Param1=value2&Param1=value1",
    ),
    Vector(
        "get-vanilla-query-unreserved",
        "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
        query=f"{UNRESERVED}={UNRESERVED}",
    ),
    Vector(
        "get-vanilla-utf8-query",
        "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04",
        query="\u1234=bar",
    ),
    Vector("post-vanilla", POST, method="POST"),
    Vector(
        "post-header-key-sort",
        "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c",
        method="POST",
        headers=(("My-Header1", "value1"),),
        signed=ONE,
    ),
    Vector(
        "post-header-value-case",
        "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d",
        method="POST",
        headers=(("My-Header1", "VALUE1"),),
        signed=ONE,
    ),
    Vector(
        "post-vanilla-query",
        "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11",
        method="POST",
        query="Param1=value1",
    ),
    Vector(
        "post-x-www-form-urlencoded",
        "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        method="POST",
        headers=(("Content-Type", "application/x-www-form-urlencoded"),),
        body=b"Param1=value1",
        signed="content-type;host;x-amz-date",
    ),
    Vector(
        "post-x-www-form-urlencoded-parameters",
        "1a72ec8f64bd914b0e42e42607c7fbce7fb2c7465f63e3092b3b0d39fa77a6fe",
        method="POST",
        headers=(("Content-Type", "application/x-www-form-urlencoded; charset=utf8"),),
        body=b"Param1=value1",
        signed="content-type;host;x-amz-date",
    ),
]


@pytest.mark.parametrize("vector", VECTORS, ids=[vector.name for vector in VECTORS])
def test_a_published_vector(vector: Vector) -> None:
    """The whole header is the published one."""
    request = Request(vector.method, HOST, vector.path, vector.query, vector.headers, vector.body)

    headers = sign(request, KEYS, region="us-east-1", service="service", at=AT)

    scope = "AKIDEXAMPLE/20150830/us-east-1/service/aws4_request"
    expected = f"Credential={scope}, SignedHeaders={vector.signed}, Signature={vector.signature}"
    assert {"x-amz-date": "20150830T123600Z", "authorization": f"AWS4-HMAC-SHA256 {expected}"} == headers


@pytest.mark.parametrize(
    ("method", "token", "signature"),
    [
        (
            "GET",
            "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267",
            "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8",
        ),
        (
            "POST",
            (
                "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflf"
                "KD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd"
                "8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3i"
                "SIlTJabIQwj2ICCR/oLxBA=="
            ),
            "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead",
        ),
    ],
)
def test_a_published_vector_with_a_session(method: str, token: str, signature: str) -> None:
    """The session's token is sent and signed."""
    keys = Credentials(KEYS.access_key, KEYS.secret_key, token)

    headers = sign(Request(method, HOST, "/"), keys, region="us-east-1", service="service", at=AT)

    assert token == headers["x-amz-security-token"]
    assert headers["authorization"].endswith(
        f"SignedHeaders=host;x-amz-date;x-amz-security-token, Signature={signature}"
    )


def test_the_published_canonical_request() -> None:
    """Line for line, as the suite's `.creq` of get-header-value-trim has it."""
    request = Request("GET", HOST, "/", headers=(("My-Header1", " value1"), ("My-Header2", '"a   b   c"')))

    text, _ = canonical_request(request, [("x-amz-date", "20150830T123600Z")])

    assert (
        "GET\n/\n\nhost:example.amazonaws.com\nmy-header1:value1\n"
        'my-header2:"a b c"\nx-amz-date:20150830T123600Z\n\nhost;my-header1;my-header2;x-amz-date\n'
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    ) == text


def test_the_published_signing_key() -> None:
    """https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-signing-elements.html has this example."""
    key = signing_key(KEYS.secret_key, "20150830", "us-east-1", "iam")

    assert "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9" == key.hex()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", "/"),
        ("/model/a.b-v1%3A0/converse", "/model/a.b-v1%253A0/converse"),
        ("/model/arn%3Aaws%2Fx/converse", "/model/arn%253Aaws%252Fx/converse"),
        ("/a/../..", "/"),
        ("/a/..b/.c", "/a/..b/.c"),
    ],
)
def test_a_path_is_encoded_once_more(path: str, expected: str) -> None:
    """What is encoded on the wire is encoded again, so that a slash in a name stays apart from one between names."""
    assert expected == canonical_path(path)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ""),
        ("b&a=1", "a=1&b="),
        ("a=1=2", "a=1%3D2"),
        ("q=a+b", "q=a%2Bb"),
        ("q=a%20b", "q=a%20b"),
        ("a=10&a=9", "a=10&a=9"),
        ("x=a.b&x=a%2fb", "x=a%2Fb&x=a.b"),
    ],
)
def test_a_query_has_one_form(query: str, expected: str) -> None:
    """Sorted by encoded name and value, each encoded in the one way."""
    assert expected == canonical_query(query)


def test_secrets_do_not_show() -> None:
    """Neither half of a secret stands in what may be logged."""
    shown = repr(Credentials("AKID", "very secret", "very long"))

    assert "very" not in shown
