"""What a dialect for vectors of texts offers to the edge and the providers.

The same division as in `dialect.py`: `EmbeddingOutbound` is how a vendor is asked, `EmbeddingDialect` is spoken by
clients as well. Methods are pure.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from polyroute.api.chat.v1.chat_pb2 import RequestFacts, Usage
from polyroute.dialects.dialect import NOTHING
from polyroute.mesh.errors import MeshError

NO_EXTENSIONS: Final[Mapping[str, bytes]] = {}

# What texts are for, in the words of the formats that ask: a question that is searched with, or what is searched in.
QUERY: Final = "query"
DOCUMENT: Final = "document"
_PURPOSES: Final[Mapping[str, str]] = {
    "query": QUERY,
    "search_query": QUERY,
    "retrieval_query": QUERY,
    "retrieval.query": QUERY,
    "document": DOCUMENT,
    "passage": DOCUMENT,
    "search_document": DOCUMENT,
    "retrieval_document": DOCUMENT,
    "retrieval.passage": DOCUMENT,
}


class Vectors(NamedTuple):
    """A vendor's answer.

    Attributes:
        values: One vector a text, in the order of the texts.
        usage: What it says it used; all zero when it does not.
        model: Model in the vendor's words; empty when it names none.
    """

    values: list[list[float]]
    usage: Usage
    model: str


class Question(NamedTuple):
    """A client's request.

    Attributes:
        texts: What to embed; empty when token ids are given instead.
        tokens: Token ids of each text, which only a model with the same vocabulary can read.
        dimensions: Length of vectors asked for.
        input_type: What the texts are for, `query`, `document` or another word; empty when not said.
        base64: The answer is to be in base64 of little-endian 32-bit floats.
        extensions: Other members: name -> JSON.
    """

    texts: list[str]
    tokens: list[list[int]]
    dimensions: int | None
    input_type: str
    base64: bool
    extensions: Mapping[str, bytes]


def purpose_of(word: str) -> str:
    """`query` or `document` for any format's word for it, and any other word as it is."""
    return _PURPOSES.get(word.lower(), word)


class EmbeddingOutbound(Protocol):
    """A wire format in which a vendor can be asked for vectors."""

    @property
    def name(self) -> str:
        """Its name in contracts and configuration, such as `cohere.embed`."""
        ...

    def write_request(
        self,
        texts: Sequence[str],
        *,
        model: str,
        dimensions: int | None = None,
        input_type: str = "",
        extensions: Mapping[str, bytes] = NO_EXTENSIONS,
    ) -> tuple[bytes, list[str]]:
        """A request to a vendor, and the names of parameters that it cannot express.

        Args:
            texts: What to embed; at least one.
            model: The model's id in the vendor's words.
            dimensions: Length of vectors asked for; None leaves it to the model.
            input_type: What the texts are for; see `Question`.
            extensions: Members of this format that the contract does not model.
        """
        ...

    def read_answer(self, body: bytes) -> tuple[list[list[float]], Usage, str]:
        """A vendor's whole answer, as `Vectors`.

        Raises:
            MeshError: the fault inside an error body, FAULT_BAD_ANSWER for anything else that is no answer.
        """
        ...

    def fault_of(self, status: int, body: bytes, headers: Mapping[str, str]) -> MeshError:
        """A vendor's refusal or failure as a classified error."""
        ...


class EmbeddingDialect(EmbeddingOutbound, Protocol):
    """A wire format for vectors that clients speak as well."""

    def read_facts(self, body: bytes, *, default_model: str = "") -> RequestFacts:
        """What routing needs of a client's request, untrusted.

        Raises:
            MeshError: REASON_INVALID_REQUEST; metadata `param` names the member.
        """
        ...

    def patch_request(self, body: bytes, facts: RequestFacts, *, model: str, drop: frozenset[str] = NOTHING) -> bytes:
        """The client's own bytes for a vendor of the same dialect, changed only where they must be."""
        ...

    def fix_encoding(self, answer: bytes, request: bytes) -> tuple[bytes, Usage, int]:
        """A vendor's answer in the same dialect as the client of `request` expects it, its usage and count of vectors.

        Byte for byte as it came when nothing must change.

        Raises:
            MeshError: as `read_answer`.
        """
        ...

    def read_request(self, body: bytes) -> Question:
        """A client's request, for a vendor of another dialect.

        Raises:
            MeshError: REASON_INVALID_REQUEST; metadata `param` names the member.
        """
        ...

    def write_answer(self, vectors: Sequence[Sequence[float]], usage: Usage, *, model: str, base64: bool) -> bytes:
        """An answer for a client; `model` is the name it asked for."""
        ...
