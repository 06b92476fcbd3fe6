"""What the embedded model offers the router: two models, free of charge."""

from polyroute.api.chat.v1.chat_pb2 import (
    CAPABILITY_JSON_OBJECT,
    CAPABILITY_JSON_SCHEMA,
    CAPABILITY_LOGPROBS,
    OPERATION_CHAT,
    OPERATION_COMPLETION,
    OPERATION_EMBEDDING,
)
from polyroute.api.providers.v1.providers_pb2 import KnownModel
from polyroute.api.router.v1.router_pb2 import Price
from polyroute.providers.local.config import LocalModelConfig
from polyroute.providers.local.server import EMBEDDING_TOKENS
from polyroute.providers.local.weights import CHAT, EMBEDDING


def known_models(config: LocalModelConfig) -> list[KnownModel]:
    """Both models as the router is told of them.

    Tools are not among the capabilities: the server takes them and the model never calls one.
    """
    free = Price(input=0, output=0, version="local")  # known to cost nothing, which is not an unknown price
    return [
        KnownModel(
            id=CHAT.name,
            operations=[OPERATION_CHAT, OPERATION_COMPLETION],
            capabilities=[CAPABILITY_JSON_OBJECT, CAPABILITY_JSON_SCHEMA, CAPABILITY_LOGPROBS],
            context_tokens=config.context_tokens,
            max_output_tokens=config.context_tokens,
            price=free,
        ),
        KnownModel(
            id=EMBEDDING.name,
            operations=[OPERATION_EMBEDDING],
            context_tokens=EMBEDDING_TOKENS,
            price=free,
        ),
    ]
