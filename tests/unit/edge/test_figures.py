"""How limits stand, as the clients of each API read it."""

import orjson
import pytest

from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.edge.errors import shape_of
from polyroute.edge.http import figures, manners
from polyroute.edge.share import Figure
from polyroute.mesh.errors import MeshError

FIGURES = [Figure("requests", 60, 12, 48.5), Figure("tokens", 6000, 1, 0.25), Figure("concurrency", 5, 2, 0.0)]


def test_openai_headers() -> None:
    """Of requests and tokens, with resets as lengths of time."""
    assert {
        b"x-ratelimit-limit-requests": b"60",
        b"x-ratelimit-remaining-requests": b"12",
        b"x-ratelimit-reset-requests": b"48.500s",
        b"x-ratelimit-limit-tokens": b"6000",
        b"x-ratelimit-remaining-tokens": b"1",
        b"x-ratelimit-reset-tokens": b"0.250s",
    } == dict(figures.openai(FIGURES))


def test_anthropic_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of requests and tokens, with resets as moments."""
    monkeypatch.setattr("time.time", lambda: 1_800_000_000.0)

    assert {
        b"anthropic-ratelimit-requests-limit": b"60",
        b"anthropic-ratelimit-requests-remaining": b"12",
        b"anthropic-ratelimit-requests-reset": b"2027-01-15T08:00:48Z",
        b"anthropic-ratelimit-tokens-limit": b"6000",
        b"anthropic-ratelimit-tokens-remaining": b"1",
        b"anthropic-ratelimit-tokens-reset": b"2027-01-15T08:00:00Z",
    } == dict(figures.anthropic(FIGURES))


def test_gemini_says_it_in_the_refusal() -> None:
    """With the details that its clients read: the quota, and when to come back."""
    error = MeshError(pb.REASON_RATE_LIMITED, "too many tokens", metadata={"limit": "tokens"}, retry_after=2.5)
    told = orjson.loads(manners.GEMINI.error(error, shape_of(error), "r"))["error"]
    details = {detail["@type"].rpartition(".")[2]: detail for detail in told["details"]}

    assert (429, "RESOURCE_EXHAUSTED") == (told["code"], told["status"])
    assert "2.500s" == details["RetryInfo"]["retryDelay"]
    assert "tokens" == details["QuotaFailure"]["violations"][0]["quotaMetric"]
    assert [] == manners.GEMINI.limits(FIGURES)
