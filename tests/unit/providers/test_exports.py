"""Vendors' usage and cost exports, read into rows per day and model."""

import pytest

from polyroute.providers.exports import COST, REQUESTS, UnreadableError, Used, read

OPENAI_USAGE = b"""{"object": "page", "data": [{"object": "bucket", "start_time": 1772409600, "end_time": 1772496000,
"results": [{"object": "organization.usage.completions.result", "input_tokens": 1000, "output_tokens": 500,
"input_cached_tokens": 800, "num_model_requests": 5, "model": "gpt-5", "project_id": null},
{"object": "organization.usage.completions.result", "input_tokens": 10, "output_tokens": 1,
"input_cached_tokens": 0, "num_model_requests": 1, "model": "gpt-5", "project_id": "p"}]}], "has_more": false}"""
OPENAI_COSTS = b"""{"object": "page", "data": [{"object": "bucket", "start_time": 1772409600, "end_time": 1772496000,
"results": [{"object": "organization.costs.result", "amount": {"value": "0.0000600000001", "currency": "usd"},
"line_item": "gpt-5-2026-01-01, input"},
{"object": "organization.costs.result", "amount": {"value": 0.06, "currency": "usd"}, "line_item": null}]}]}"""
ANTHROPIC_USAGE = b"""{"data": [
{"starting_at": "2026-03-02T00:00:00Z", "ending_at": "2026-03-03T00:00:00Z", "results": [
{"uncached_input_tokens": 1500, "cache_creation": {"ephemeral_1h_input_tokens": 1000, "ephemeral_5m_input_tokens": 500},
"cache_read_input_tokens": 200, "output_tokens": 600, "model": "claude-x"}]}], "has_more": false}"""
ANTHROPIC_COSTS = b"""{"data": [
{"starting_at": "2026-03-02T00:00:00Z", "ending_at": "2026-03-03T00:00:00Z", "results": [
{"currency": "USD", "amount": "123.78912", "model": "claude-x", "token_type": "output_tokens"}]}]}"""
TABLE = b"""\xef\xbb\xbfDate,Model,Input_Tokens,Output_Tokens,Requests,Cost_USD
2026-03-02,x,"1,000",5,2,$0.000000001
2026-03-02T23:30:00-02:00,x,1,1,1,0.5
"""


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (
            OPENAI_USAGE,
            [
                Used(
                    "2026-03-02",
                    "gpt-5",
                    {"input_tokens": 210, "cache_read_tokens": 800, "output_tokens": 501, REQUESTS: 6},
                )
            ],
        ),
        (
            OPENAI_COSTS,
            [Used("2026-03-02", "", {COST: 60_000_000}), Used("2026-03-02", "gpt-5-2026-01-01", {COST: 60_000})],
        ),
        (
            ANTHROPIC_USAGE,
            [
                Used(
                    "2026-03-02",
                    "claude-x",
                    {
                        "input_tokens": 1500,
                        "cache_read_tokens": 200,
                        "cache_write_tokens": 1500,
                        "output_tokens": 600,
                    },
                )
            ],
        ),
        (ANTHROPIC_COSTS, [Used("2026-03-02", "claude-x", {COST: 1_237_891_200})]),
        (
            TABLE,
            [
                Used("2026-03-02", "x", {"input_tokens": 1000, "output_tokens": 5, REQUESTS: 2, COST: 1}),
                Used("2026-03-03", "x", {"input_tokens": 1, "output_tokens": 1, REQUESTS: 1, COST: 500_000_000}),
            ],
        ),
    ],
)
def test_exports(data: bytes, expected: list[Used]) -> None:
    """Cached tokens apart from the prompt's, money to the nano-dollar, days in UTC."""
    assert expected == read(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[1]",
        b'{"data": 5}',
        b'{"data": []}',
        b"date,model\nsoon,x\n",
        b"date,input_tokens\n2026-03-02,1.5\n",
        b"\xff\xfe",
    ],
)
def test_what_cannot_be_read_is_said(data: bytes) -> None:
    """And never taken for nothing used."""
    with pytest.raises(UnreadableError):
        read(data)
