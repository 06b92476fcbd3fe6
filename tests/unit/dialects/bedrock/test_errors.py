"""The faults of `bedrock.*`: by the name of the exception, by its words, by its status."""

import json

import pytest

from polyroute.api.errors.v1.errors_pb2 import Fault
from polyroute.dialects.bedrock_converse import OUTBOUND

NAMES = [
    ("ThrottlingException", 429, "Too many requests, please wait before trying again.", "RATE"),
    ("ThrottlingException", 429, "Too many tokens per day, please wait before trying again.", "QUOTA"),
    ("ModelNotReadyException", 429, "Model is not ready for inference.", "SERVER"),
    ("ServiceQuotaExceededException", 400, "You exceeded the quota.", "QUOTA"),
    ("InternalServerException", 500, "Broke.", "SERVER"),
    ("ServiceUnavailableException", 503, "Later.", "SERVER"),
    ("ModelTimeoutException", 408, "Took too long.", "SERVER"),
    ("ModelErrorException", 424, "The model broke.", "SERVER"),
    ("AccessDeniedException", 403, "You may not.", "CREDENTIAL"),
    ("AccessDeniedException", 403, "You don't have access to the model with the specified model ID.", "MODEL_GONE"),
    ("ExpiredTokenException", 403, "The security token included in the request is expired", "CREDENTIAL"),
    ("UnrecognizedClientException", 403, "The security token included in the request is invalid.", "CREDENTIAL"),
    ("InvalidSignatureException", 403, "The request signature we calculated does not match.", "CREDENTIAL"),
    ("IncompleteSignature", 400, "Your signature is not complete.", "CREDENTIAL"),
    ("ResourceNotFoundException", 404, "Gone.", "MODEL_GONE"),
    ("ValidationException", 400, "Malformed input request.", "CLIENT"),
    ("ValidationException", 400, "The provided model identifier is invalid.", "MODEL_GONE"),
    (
        "ValidationException",
        400,
        "Invocation of model ID x with on-demand throughput isn\u2019t supported.",
        "MODEL_GONE",
    ),
    ("ValidationException", 400, "Input is too long for requested model.", "CONTEXT"),
    ("ValidationException", 400, "prompt is too long: 208310 tokens > 200000 maximum", "CONTEXT"),
    ("", 418, "A teapot.", "CLIENT"),
]


@pytest.mark.parametrize(("name", "status", "words", "fault"), NAMES)
def test_an_error_is_classed(name: str, status: int, words: str, fault: str) -> None:
    """The name stands in a header; status and words decide where it is silent."""
    headers = {"X-Amzn-ErrorType": f"{name}:http://internal.example/"} if name else {}

    error = OUTBOUND.fault_of(status, json.dumps({"message": words}).encode(), headers)

    assert f"FAULT_{fault}" == Fault.Name(error.fault)
    assert name == error.metadata.get("vendor_code", "")
    assert words == error.message


def test_the_name_may_stand_in_the_body() -> None:
    """`__type` with its namespace says the same as the header."""
    body = b'{"__type":"com.amazon.coral.service#ThrottlingException","Message":"Rate exceeded"}'

    error = OUTBOUND.fault_of(400, body, {})

    assert "FAULT_RATE" == Fault.Name(error.fault)
    assert "ThrottlingException" == error.metadata["vendor_code"]
    assert "Rate exceeded" == error.message


def test_names_of_resources_do_not_reach_the_caller() -> None:
    """An ARN holds account numbers and people's names."""
    words = "User: arn:aws:iam::123456789012:user/jane is not authorized on arn:aws:bedrock:us-east-1::model/x"

    error = OUTBOUND.fault_of(403, json.dumps({"Message": words}).encode(), {})

    assert "User: *** is not authorized on ***" == error.message


@pytest.mark.parametrize("body", [b"", b"<html></html>", b"oops", b"[]", b"[1]", b"7", b'{"message": {"a": 1}}'])
def test_any_body_has_a_class(body: bytes) -> None:
    """Whatever a proxy answers in between, the status remains."""
    error = OUTBOUND.fault_of(503, body, {})

    assert "FAULT_SERVER" == Fault.Name(error.fault)


def test_when_to_come_back_is_kept() -> None:
    """A stated wait is passed on."""
    error = OUTBOUND.fault_of(
        429, b'{"message":"slow"}', {"Retry-After": "7", "x-amzn-errortype": "ThrottlingException"}
    )

    assert 7.0 == error.retry_after
