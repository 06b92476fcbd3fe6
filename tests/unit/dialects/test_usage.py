"""Usage in buckets that never overlap."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.dialects.openai.common import create_time, finish_of, usage_from, usage_json

COUNTS = st.none() | st.integers(-5, 1000)
DETAILS = st.none() | st.dictionaries(
    st.sampled_from(["cached_tokens", "cache_write_tokens", "reasoning_tokens", "audio_tokens"]), COUNTS
)
FIGURES = st.fixed_dictionaries(
    {},
    optional={
        "prompt_tokens": COUNTS,
        "completion_tokens": COUNTS,
        "total_tokens": COUNTS,
        "prompt_tokens_details": DETAILS,
        "completion_tokens_details": DETAILS,
        "prompt_cache_hit_tokens": COUNTS,
        "cache_read_input_tokens": COUNTS,
        "cache_creation_input_tokens": COUNTS,
        "reasoning_tokens": COUNTS,
    },
)


def buckets(usage: pb.Usage) -> list[int]:
    """All five."""
    return [
        usage.input_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        usage.output_tokens,
        usage.reasoning_tokens,
    ]


@given(FIGURES)
def test_buckets_are_disjoint_and_sum_up(figures: dict[str, Any]) -> None:
    """No bucket is negative and their sum is the vendor's total, or its prompt and completion where they are more."""
    usage = usage_from(figures)
    prompt, completion, total = (
        max(0, figures.get(name) or 0) for name in ("prompt_tokens", "completion_tokens", "total_tokens")
    )

    if usage is None:
        assert (prompt, completion, total) == (0, 0, 0)
        return
    assert min(buckets(usage)) >= 0
    assert max(total, prompt + completion) == sum(buckets(usage))


@given(st.lists(st.integers(0, 10_000), min_size=5, max_size=5).filter(any))
def test_written_usage_reads_the_same(counts: list[int]) -> None:
    """Buckets -> this API's figures -> buckets."""
    usage = pb.Usage(
        input_tokens=counts[0],
        cache_read_tokens=counts[1],
        cache_write_tokens=counts[2],
        output_tokens=counts[3],
        reasoning_tokens=counts[4],
    )

    assert usage == usage_from(usage_json(usage))


@pytest.mark.parametrize(
    "value", [None, "10", [], {}, {"prompt_tokens": 0, "completion_tokens": 0}, {"prompt_tokens": "a"}]
)
def test_usage_that_says_nothing_is_none(value: object) -> None:
    """Zeros, nulls and other types are no usage."""
    assert usage_from(value) is None


@pytest.mark.parametrize(
    ("word", "called", "reason"),
    [
        ("stop", False, pb.FINISH_REASON_STOP),
        ("STOP", False, pb.FINISH_REASON_STOP),
        ("stop", True, pb.FINISH_REASON_TOOL_CALLS),
        ("length", True, pb.FINISH_REASON_LENGTH),
        ("null", False, pb.FINISH_REASON_UNSPECIFIED),
        (None, True, pb.FINISH_REASON_TOOL_CALLS),
        ("something", False, pb.FINISH_REASON_OTHER),
    ],
)
def test_finish_reasons(word: str | None, called: bool, reason: int) -> None:
    """Vendors' words, with tool calls deciding over a plain stop."""
    assert reason == finish_of(word, tool_calls=called)


def test_the_time_of_an_answer_comes_from_the_request_id() -> None:
    """Without a vendor's time, the time in the UUIDv7 stands; without that, none."""
    assert create_time(5, "x") == 5
    assert create_time(0, "018bcfe5-6800-7000-8000-000000000000") == 1_700_000_000
    assert create_time(0, "3f2b1c9e-0000-4000-8000-000000000000") == 0
    assert create_time(0, "not a uuid") == 0
