"""Errors of this format: the classes that only it names, and when to come back."""

import json
from datetime import UTC, datetime

import pytest

from polyroute.dialects.anthropic import faults
from tests.outbound import fault_name

NOW = datetime(2026, 10, 21, 12, 0, tzinfo=UTC).timestamp()


def body(kind: str, message: str = "words") -> bytes:
    """An error."""
    return json.dumps({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}).encode()


@pytest.mark.parametrize(
    ("status", "kind", "message", "expected"),
    [
        (400, "invalid_request_error", "max_tokens: required", "CLIENT"),
        (400, "invalid_request_error", "prompt is too long: 3 tokens > 2 maximum", "CONTEXT"),
        (400, "invalid_request_error", "You have reached your specified API usage limits. You will regain", "QUOTA"),
        (400, "invalid_request_error", "You have reached your specified workspace API usage limits.", "QUOTA"),
        (400, "invalid_request_error", "Your credit balance is too low", "QUOTA"),
        (401, "authentication_error", "invalid x-api-key", "CREDENTIAL"),
        (402, "billing_error", "pay", "QUOTA"),
        (403, "permission_error", "no", "CREDENTIAL"),
        (404, "not_found_error", "model: m", "MODEL_GONE"),
        (409, "conflict_error", "again", "SERVER"),
        (413, "request_too_large", "big", "CLIENT"),
        (429, "rate_limit_error", "slow down", "RATE"),
        (429, "rate_limit_error", "You have reached your spend limit", "QUOTA"),
        (500, "api_error", "Internal server error", "SERVER"),
        (504, "timeout_error", "late", "SERVER"),
        (529, "overloaded_error", "Overloaded", "SERVER"),
        (200, "api_error", "Internal server error", "SERVER"),
        (200, "timeout_error", "late", "SERVER"),
        (200, "billing_error", "pay", "QUOTA"),
        (200, "moon_error", "late", "BAD_ANSWER"),
    ],
)
def test_each_type_has_a_class(status: int, kind: str, message: str, expected: str) -> None:
    """By type and status, or by type alone inside a 200."""
    error = faults.fault_of(status, body(kind, message), {})

    assert expected == fault_name(error)
    assert kind == error.metadata["vendor_code"]


@pytest.mark.parametrize("status", [200, 400, 429])
def test_a_spending_limit_stands_in_the_details(status: int) -> None:
    """As a code beside words that may be any; another code there changes nothing."""
    told = [
        faults.fault_of(status, json.dumps({"type": "error", "error": error}).encode(), {})
        for code in ("enforced_spend_limit_reached", "other")
        for error in [{"type": "rate_limit_error", "message": "words", "details": {"error_code": code}}]
    ]

    assert ["QUOTA", "RATE"] == [fault_name(error) for error in told]
    assert {"rate_limit_error"} == {error.metadata["vendor_code"] for error in told}


def test_limits_say_when_they_refill() -> None:
    """The limit that is used up decides; a stated time goes before it."""
    headers = {
        "Anthropic-RateLimit-Requests-Remaining": "5",
        "Anthropic-RateLimit-Requests-Reset": "2026-10-21T12:00:50Z",
        "Anthropic-RateLimit-Tokens-Remaining": "0",
        "Anthropic-RateLimit-Tokens-Reset": "2026-10-21T12:00:07Z",
        "Anthropic-RateLimit-Odd-Reset": "soon",
    }

    told = faults.fault_of(429, body("rate_limit_error"), headers, now=lambda: NOW)
    stated = faults.fault_of(429, body("rate_limit_error"), headers | {"retry-after": "3"}, now=lambda: NOW)
    silent = faults.fault_of(429, body("rate_limit_error"), {}, now=lambda: NOW)

    assert (7.0, 3.0, None) == (told.retry_after, stated.retry_after, silent.retry_after)
