"""Which fault a vendor's error is: envelopes, markers, statuses, and when to come back."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects import faults
from polyroute.mesh.errors import MeshError

NOW = 1_700_000_000.0


def fault(status: int, body: object, headers: dict[str, str] | None = None) -> MeshError:
    """The classified error of an answer; a text is a body that is no JSON."""
    raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    return faults.fault_of(status, raw, headers or {}, now=lambda: NOW)


def error(message: str = "words", **members: Any) -> dict[str, Any]:
    """The usual envelope."""
    return {"error": {"message": message, **members}}


@pytest.mark.parametrize(
    ("status", "body", "name"),
    [
        (500, error(), "SERVER"),
        (502, "<html>Bad gateway</html>", "SERVER"),
        (503, "upstream connect error", "SERVER"),
        (529, error(type="overloaded_error"), "SERVER"),
        (522, "", "SERVER"),
        (501, error(), "SERVER"),
        (408, "timeout", "SERVER"),
        (409, error(), "SERVER"),
        (424, error(), "SERVER"),
        (425, "", "SERVER"),
        (429, error(type="engine_overloaded"), "SERVER"),
        (429, error(code="rate_limit_exceeded"), "RATE"),
        (429, "Too many requests", "RATE"),
        (429, {"object": "error", "message": "Rate limit exceeded", "type": "rate_limited", "code": "1300"}, "RATE"),
        (429, {"code": "request_quota_exceeded", "message": "Requests per second limit exceeded"}, "RATE"),
        (429, error(code="insufficient_quota"), "QUOTA"),
        (429, error(type="insufficient_quota", code=None), "QUOTA"),
        (400, error("Your credit balance is too low"), "QUOTA"),
        (403, error("Insufficient balance"), "QUOTA"),
        (402, "", "QUOTA"),
        (401, error(), "CREDENTIAL"),
        (403, error(), "CREDENTIAL"),
        (400, {"code": "invalid", "error": "Incorrect API key provided"}, "CREDENTIAL"),
        (404, error(code="model_not_found"), "MODEL_GONE"),
        (404, "", "MODEL_GONE"),
        (410, "", "MODEL_GONE"),
        (400, error(code="model_decommissioned"), "MODEL_GONE"),
        (400, error("Model x/y does not exist", code=400), "MODEL_GONE"),
        (404, error(code="DeploymentNotFound"), "MODEL_GONE"),
        (400, error(), "CLIENT"),
        (413, "length limit exceeded", "CLIENT"),
        (415, "", "CLIENT"),
        (422, {"detail": [{"loc": ["body", "n"], "msg": "wrong"}]}, "CLIENT"),
        (418, "", "CLIENT"),
        (400, error(code="unsupported_parameter", param="stop"), "CLIENT"),
        (400, error(code="context_length_exceeded"), "CONTEXT"),
        (400, error("This model's maximum context length is 10 tokens"), "CONTEXT"),
        (400, error("request (9 tokens) exceeds the available context size (5 tokens)"), "CONTEXT"),
        (400, error("prompt is too long: 9 tokens > 5 maximum"), "CONTEXT"),
        (500, error("input (9 tokens) is too large to process"), "CONTEXT"),
        (429, error("Request too large: The input or output tokens must be reduced", code="tokens"), "CONTEXT"),
        (400, error(code="content_filter"), "FILTER"),
        (400, error(innererror={"code": "ResponsibleAIPolicyViolation"}), "FILTER"),
        (403, error("Content violates usage guidelines"), "FILTER"),
        (400, {"code": "DataInspectionFailed", "message": "inappropriate", "request_id": "r"}, "FILTER"),
        (404, error("This is a chat model and not supported in the v1/completions endpoint."), "UNSUPPORTED"),
        (404, error("Invalid URL (POST /v1/rerank)"), "UNSUPPORTED"),
        (400, error("it does not", code="OperationNotSupported"), "UNSUPPORTED"),
        (302, "", "BAD_ANSWER"),
    ],
)
def test_status_and_words_decide(status: int, body: object, name: str) -> None:
    """One row per way that vendors put it."""
    assert name == errors_pb2.Fault.Name(fault(status, body).fault).removeprefix("FAULT_")


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (error(code=502), "SERVER"),
        (error(code="429"), "RATE"),
        (error(code="tool_use_failed", status_code=400), "CLIENT"),
        (error(type="server_error"), "SERVER"),
        (error(type="invalid_request_error"), "CLIENT"),
        (error(code=400, status="INVALID_ARGUMENT"), "CLIENT"),
        ({"error": "something odd"}, "BAD_ANSWER"),
        ({"code": 500, "message": "inner"}, "SERVER"),
        ("text", "BAD_ANSWER"),
        ([error(code=401)], "CREDENTIAL"),
    ],
)
def test_an_error_in_a_200_has_its_own_class(value: object, name: str) -> None:
    """The status inside the error counts; without any sign it is a bad answer."""
    assert name == errors_pb2.Fault.Name(faults.fault_in(value).fault).removeprefix("FAULT_")


@pytest.mark.parametrize(
    ("value", "status"),
    [
        (error(type="overloaded_error"), "529"),
        (error(code="server_is_overloaded"), "503"),
        (error(status="UNAVAILABLE"), "503"),
        (error(type="overloaded_error", code=500), "500"),
        (error(type="request_too_large"), "413"),
        (error(type="server_error"), "200"),
        (error(code="rate_limit_exceeded"), "200"),
    ],
)
def test_an_error_in_a_200_has_its_own_status(value: object, status: str) -> None:
    """The one that it names, or that its vendor gives its code; else that of the answer."""
    assert status == faults.fault_in(value).metadata["upstream_status"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (error("plain"), "plain"),
        ({"error": "plain"}, "plain"),
        ({"message": "plain"}, "plain"),
        ({"detail": "plain"}, "plain"),
        ({"id": "1", "message": "plain"}, "plain"),
        ({"errors": [{"message": "plain"}]}, "plain"),
        ([{"error": {"message": "plain"}}], "plain"),
        ({"code": "a code", "error": "plain"}, "plain"),
        ({"detail": [{"msg": "x"}]}, '[{"msg":"x"}]'),
        (error("outer", metadata={"raw": '{"error":{"message":"inner"}}'}), "outer: inner"),
        (error("outer", metadata={"raw": "inner"}), "outer: inner"),
        (error("outer", metadata={"raw": None}), "outer"),
        ("plain\n text ", "plain text"),
        ("<html>page</html>", "the provider answered 400"),
        ("", "the provider answered 400"),
        ({}, "the provider answered 400"),
        (error("x" * 900), "x" * 500),
    ],
)
def test_the_words_are_found_in_every_envelope(body: object, message: str) -> None:
    """The vendor's own words, on one line, shortened."""
    assert message == fault(400, body).message


@pytest.mark.parametrize(
    "text",
    ["sk-abcdef1234567890", "org-a1b2c3d4e5f6", "Bearer abc", "5bfd0532-8fa8-4e41-8eda-16a9a73a8d6d", "a1B2c3D4" * 4],
)
def test_what_looks_like_a_secret_is_hidden(text: str) -> None:
    """A vendor that quotes our credential does not get it to the caller; names of models stay."""
    message = fault(401, error(f"no access for {text}, model vendor/a-model-17b-128e-instruct-2025")).message

    assert text.removeprefix("Bearer ") not in message
    assert "vendor/a-model-17b-128e-instruct-2025" in message


def test_metadata_helps_support() -> None:
    """Status, the vendor's code, its parameter and its wish about retries travel along."""
    found = fault(400, error(code="unsupported_value", param="stop"), {"X-Should-Retry": "false"})

    expected = {
        "fault": "FAULT_CLIENT",
        "upstream_status": "400",
        "vendor_code": "unsupported_value",
        "param": "stop",
        "should_retry": "false",
    }
    assert expected == found.metadata


@pytest.mark.parametrize(
    ("headers", "message", "seconds"),
    [
        ({"retry-after": "7"}, "", 7.0),
        ({"Retry-After": "1.5"}, "", 1.5),
        ({"retry-after-ms": "250", "retry-after": "7"}, "", 0.25),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:50 GMT"}, "", 30.0),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:50 GMT", "date": "Tue, 14 Nov 2023 22:13:40 GMT"}, "", 10.0),
        ({"retry-after": "Mon, 13 Nov 2023 00:00:00 GMT"}, "", 0.0),
        ({"retry-after": "soon"}, "", None),
        ({"retry-after": "-5"}, "", None),
        ({"retry-after": "nan"}, "", None),
        ({"x-ratelimit-reset-requests": "6m0s"}, "", 360.0),
        ({"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "120ms"}, "", 1.0),
        (
            {
                "x-ratelimit-reset-requests": "1h",
                "x-ratelimit-remaining-requests": "5",
                "x-ratelimit-reset-tokens": "2.5s",
                "x-ratelimit-remaining-tokens": "0",
            },
            "",
            2.5,
        ),
        ({"x-ratelimit-reset": "1700000012"}, "", 12.0),
        ({"x-ratelimit-reset": "1700000012500"}, "", 12.5),
        ({"x-ratelimit-reset-requests": "whenever"}, "", None),
        ({}, "Please try again in 6.35s. Need more?", 6.35),
        ({}, "Please try again in 1m2s", 62.0),
        ({}, "please retry after 60 seconds", 60.0),
        ({}, "try again in 200 milliseconds", 0.2),
        ({}, "try again later", None),
    ],
)
def test_when_to_come_back(headers: dict[str, str], message: str, seconds: float | None) -> None:
    """Headers first, then the limits that are used up, then the vendor's words."""
    found = fault(429, error(message or "slow down", code="rate_limit_exceeded"), headers).retry_after

    assert found == (None if seconds is None else pytest.approx(seconds))


def test_words_about_retries_do_not_count_elsewhere() -> None:
    """Only limits look into words and reset headers; a stated Retry-After counts for all."""
    assert fault(500, error("try again in 5s")).retry_after is None
    assert fault(503, error(), {"retry-after": "5"}).retry_after == 5.0


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["error", "errors", "message", "code", "metadata", "raw", "detail"]), inner)
    ),
    max_leaves=10,
)


@given(st.integers(100, 999), JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=50))
def test_any_error_is_classed(status: int, body: bytes) -> None:
    """No body raises anything or is left without a class."""
    found = faults.fault_of(status, body, {})

    assert found.reason == errors_pb2.REASON_UPSTREAM
    assert found.fault != errors_pb2.FAULT_UNSPECIFIED
    assert found.message


def test_hostile_words_take_no_time() -> None:
    """Patterns over a vendor's words are linear."""
    for text in ("model " * 100_000, "a" * 500_000, "try again in 1" + "1" * 500_000, "context window " * 50_000):
        assert fault(400, error(text)).reason == errors_pb2.REASON_UPSTREAM
