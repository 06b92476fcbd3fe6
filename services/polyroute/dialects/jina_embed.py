"""`jina.embed`: POST /v1/embeddings as `openai.embeddings` has it, but with a task and an encoding of its own.

https://jina.ai/embeddings/
"""

from typing import Final

from polyroute.dialects.embedding import DOCUMENT, QUERY, EmbeddingOutbound
from polyroute.dialects.openai_embeddings import OpenAIEmbeddings, Options

OUTBOUND: Final[EmbeddingOutbound] = OpenAIEmbeddings(
    name="jina.embed",
    options=Options(
        input_type_member="task",
        input_types=((QUERY, "retrieval.query"), (DOCUMENT, "retrieval.passage")),
        encoding=("embedding_type", "float"),
    ),
)
