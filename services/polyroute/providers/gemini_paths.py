"""The paths of Google's generative API, which two of its services share below different prefixes."""

from typing import Final

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.providers.spoken import Spoken, below

_MODEL: Final = "/models/{model}"


# Of the developer API only: https://ai.google.dev/api/embeddings, https://ai.google.dev/api/tokens.
EMBED: Final = Spoken(pb.OPERATION_EMBEDDING, "gemini.embed", f"{_MODEL}:batchEmbedContents")
COUNT: Final = Spoken(pb.OPERATION_COUNT_TOKENS, "gemini.count_tokens", f"{_MODEL}:countTokens")
# Of the cloud's only: https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/text-embeddings-api.
PREDICT: Final = Spoken(pb.OPERATION_EMBEDDING, "gemini.predict", f"{_MODEL}:predict")
# The only way to its newer models; the older ones have the other only:
# https://cloud.google.com/vertex-ai/generative-ai/docs/embeddings/get-text-embeddings.
EMBED_CONTENT: Final = Spoken(
    pb.OPERATION_EMBEDDING, "gemini.embed_content", f"{_MODEL}:embedContent", models=("gemini-embedding-2*",), texts=1
)
COUNT_PLAIN: Final = Spoken(pb.OPERATION_COUNT_TOKENS, "gemini.count_tokens_plain", f"{_MODEL}:countTokens")


def gemini(prefix: str, *, but: tuple[str, ...] = ()) -> tuple[Spoken, ...]:
    """What both services offer, for all models but some. https://ai.google.dev/api/generate-content."""
    generate, stream = f"{_MODEL}:generateContent", f"{_MODEL}:streamGenerateContent?alt=sse"
    return below(
        prefix,
        Spoken(pb.OPERATION_CHAT, "gemini.generate", generate, stream, but=but),
        Spoken(pb.OPERATION_IMAGE, "gemini.images", generate),
    )
