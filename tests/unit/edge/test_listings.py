"""Models as those who let people pick one read them."""

from polyroute.api.chat.v1.chat_pb2 import (
    CAPABILITY_REASONING,
    CAPABILITY_TOOLS,
    CAPABILITY_VISION,
    OPERATION_CHAT,
    OPERATION_IMAGE,
    OPERATION_TRANSCRIPTION,
)
from polyroute.api.router.v1.router_pb2 import Model, Price
from polyroute.edge.http.listings import openai_model


def test_prices_are_exact_strings_for_one_of_each() -> None:
    """USD per token, call, picture and search; what is not charged apart is not there, and never in powers of ten."""
    price = Price(
        input=150_000_000,
        output=1,
        cache_read=0,
        cache_write=2 * 10**9,
        reasoning=6 * 10**8,
        request=10**12,
        other={"images": 4 * 10**13, "web_search_requests": 10**13, "ephemeral_1h_input_tokens": 5},
    )

    found = openai_model(Model(name="m", first_price=price))["pricing"]

    assert {
        "prompt": "0.00000015",
        "completion": "0.000000000000001",
        "input_cache_read": "0",
        "input_cache_write": "0.000002",
        "internal_reasoning": "0.0000006",
        "request": "0.001",
        "image": "0.04",
        "web_search": "0.01",
    } == found
    assert {"prompt": "0", "completion": "0", "request": "0"} == openai_model(Model(first_price=Price()))["pricing"]


def test_an_unknown_price_is_none() -> None:
    """Neither free nor that of a spare."""
    assert openai_model(Model(name="m", price=Price(input=1)))["pricing"] is None


def test_what_goes_in_and_out() -> None:
    """By its work and by what it can do."""
    chat = Model(operations=[OPERATION_CHAT], capabilities=[CAPABILITY_VISION, CAPABILITY_TOOLS, CAPABILITY_REASONING])
    picture, sound, bare = Model(operations=[OPERATION_IMAGE]), Model(operations=[OPERATION_TRANSCRIPTION]), Model()

    found = [openai_model(one) for one in (chat, picture, sound, bare)]

    assert [(["text", "image"], ["text"]), (["text"], ["image"]), (["audio"], ["text"]), (["text"], ["text"])] == [
        tuple(one["architecture"].values()) for one in found
    ]
    assert {"tools", "tool_choice", "reasoning", "max_tokens"} <= set(found[0]["supported_parameters"])
    assert "response_format" not in found[0]["supported_parameters"]
    assert [[], [], []] == [one["supported_parameters"] for one in found[1:]]
