"""Cohere. https://docs.cohere.com/reference/about."""

from typing import Final

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.errors.v1 import errors_pb2
from polyroute.providers.bills import STOPS
from polyroute.providers.spoken import RERANK, Spoken
from polyroute.providers.vendor import FaultRule, Vendor

VENDOR: Final = Vendor(
    name="cohere",
    base_url="https://api.cohere.com",
    tails=("/v2", "/v1", "/compatibility/v1"),
    key_env=("CO_API_KEY", "COHERE_API_KEY"),
    speaks=(
        Spoken(pb.OPERATION_CHAT, "cohere.chat", "/v2/chat"),
        Spoken(pb.OPERATION_EMBEDDING, "cohere.embed", "/v2/embed"),
        RERANK.at("/v2"),
    ),
    # https://docs.cohere.com/reference/errors
    faults=(
        FaultRule(errors_pb2.FAULT_CONTEXT, r"^too many tokens", statuses=(400,)),
        FaultRule(errors_pb2.FAULT_QUOTA, r"trial key.{0,80}/ ?month", statuses=(429,)),
        FaultRule(errors_pb2.FAULT_FILTER, statuses=(498,)),
        FaultRule(errors_pb2.FAULT_SERVER, statuses=(499,)),
    ),
    recorded=frozenset({"cohere.chat", "cohere.embed", "cohere.rerank"}),
    price_book="cohere",
    bills=STOPS,
)
