"""xAI over gRPC, another way to reach the same models. https://docs.x.ai/docs/grpc-reference."""

from dataclasses import replace
from typing import Final

from polyroute.api.chat.v1.chat_pb2 import OPERATION_CHAT
from polyroute.providers.spoken import Spoken
from polyroute.providers.traits import nothing
from polyroute.providers.vendors import xai

VENDOR: Final = replace(
    xai.VENDOR,
    name="xai_grpc",
    base_url="https://api.x.ai",
    regions={"us-east-1": "https://us-east-1.api.x.ai", "eu-west-1": "https://eu-west-1.api.x.ai"},
    tails=("/v1",),
    key_env=(),  # a key that is found opens the account over HTTP
    discover=False,
    speaks=(
        Spoken(
            OPERATION_CHAT,
            "xai.grpc",
            "/xai_api.Chat/GetCompletion",
            stream_path="/xai_api.Chat/GetCompletionChunk",
            rpc=True,
        ),
    ),
    options=nothing(),
    recorded=frozenset(),
)
