"""Voyage AI: vectors and reranking. https://docs.voyageai.com/reference/embeddings-api."""

from typing import Final

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.errors.v1 import errors_pb2
from polyroute.providers.spoken import Spoken
from polyroute.providers.vendor import FaultRule, Vendor

VENDOR: Final = Vendor(
    name="voyage",
    base_url="https://api.voyageai.com/v1",
    key_env=("VOYAGE_API_KEY",),
    speaks=(
        Spoken(pb.OPERATION_EMBEDDING, "voyage.embed", "/embeddings"),
        Spoken(pb.OPERATION_RERANK, "voyage.rerank", "/rerank"),
    ),
    # https://docs.voyageai.com/docs/error-codes
    faults=(
        FaultRule(errors_pb2.FAULT_MODEL_GONE, r"^model .{1,200} is not supported", statuses=(400,)),
        FaultRule(errors_pb2.FAULT_CONTEXT, r"max allowed tokens per submitted batch", statuses=(400,)),
    ),
    recorded=frozenset({"voyage.embed", "voyage.rerank"}),
    price_book="voyageai",
)
