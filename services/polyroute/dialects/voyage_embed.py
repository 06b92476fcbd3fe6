"""`voyage.embed`: POST /v1/embeddings as `openai.embeddings` has it, under names of its own for two members.

https://docs.voyageai.com/reference/embeddings-api
"""

from typing import Final

from polyroute.dialects.embedding import EmbeddingOutbound
from polyroute.dialects.openai_embeddings import OpenAIEmbeddings, Options

OUTBOUND: Final[EmbeddingOutbound] = OpenAIEmbeddings(
    name="voyage.embed",
    options=Options(dimensions_member="output_dimension", input_type_member="input_type"),
)
