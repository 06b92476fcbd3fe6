"""In which wire formats a vendor can be asked, and where: one `Spoken` for each kind of work and format.

The ones that many vendors share stand here, with OpenAI's paths below an address that ends with the version. `at` puts
one below another path, for vendors whose formats do not have their addresses in common.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Final

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import Operation
from polyroute.dialects import jsontools
from polyroute.providers.traits import UNCHANGED, Edit, nothing

MODEL: Final = "{model}"


@dataclass(frozen=True)
class Told:
    """Words that clients list in a header, and where they go in a body.

    Attributes:
        header: Its name, lower case; the words are separated by commas.
        member: The member of the body that lists them, below the objects that hold it: names with dots between.
        known: Patterns of the words that the vendor takes: others it refuses, and the whole request with them.
        models: Patterns of the upstream model ids, lower case, to which the words mean something; none means all.
    """

    header: str
    member: str
    known: tuple[str, ...]
    models: tuple[str, ...] = ()

    def moved(self, body: bytes, value: str, model: str = "") -> tuple[bytes, list[str]]:
        """The body with the words of a header's value; names the header when some of them are left out."""
        if self.models and not any(fnmatchcase(model.lower(), one) for one in self.models):
            return body, []
        words = [word for word in (piece.strip() for piece in value.split(",")) if word]
        taken = [word for word in words if any(fnmatchcase(word, one) for one in self.known)]
        if taken:
            body = _listed(body, self.member, taken)
        return body, [self.header] if len(taken) < len(words) else []


def _listed(body: bytes, member: str, words: list[str]) -> bytes:
    """A JSON object with words added to a list in it; as it is when something else stands there."""
    name, _, rest = member.partition(".")
    held = jsontools.members_of(body).get(name)
    given = bytes(held) if held is not None else b""
    if rest:
        inside = given if given.startswith(b"{") else b"{}"
        return jsontools.rewrite(body, {name: _listed(inside, rest, words)})
    before = jsontools.loads(given) if given else []
    if not isinstance(before, list):
        return body
    return jsontools.rewrite(body, {name: jsontools.dumps(list(dict.fromkeys([*before, *words])))})


@dataclass(frozen=True, eq=False)
class Spoken:
    """One kind of work in one wire format.

    Attributes:
        operation: The kind of work.
        dialect: The format's name.
        path: Below the base URL. `{model}` is the model's id, percent-encoded; other names are the account's settings.
        stream_path: The same for streams; empty when they have no path of their own.
        headers: Headers of these requests.
        stream_headers: Headers of requests for a stream, beside those.
        models: Patterns of the upstream model ids, lower case, that are asked in this way; none means all.
        but: Patterns of those that are not.
        edit: What the vendor wants otherwise in the body of this format.
        base_url: Where this is, when not at the vendor's address; an account with an address of its own stays there.
        rpc: It is asked over gRPC; the paths are methods.
        texts: Most texts of one request for vectors; more become several requests. 0: as many as the caller gives.
        counted: Header of an answer that says how many tokens were read, where the body does not.
        told: What clients say in a header and this vendor wants in the body.
    """

    operation: Operation.ValueType
    dialect: str
    path: str
    stream_path: str = ""
    headers: Mapping[str, str] = field(default_factory=nothing)
    stream_headers: Mapping[str, str] = field(default_factory=nothing)
    models: tuple[str, ...] = ()
    but: tuple[str, ...] = ()
    edit: Edit = UNCHANGED
    base_url: str = ""
    rpc: bool = False
    texts: int = 0
    counted: str = ""
    told: Told | None = None

    def at(self, prefix: str) -> "Spoken":
        """The same below another path."""
        return replace(
            self,
            path=prefix + self.path,
            stream_path=prefix + self.stream_path if self.stream_path else "",
        )

    def serves(self, model: str) -> bool:
        """Whether a model is asked in this way; an unnamed one is."""
        name = model.lower()
        if not name or any(fnmatchcase(name, one) for one in self.but):
            return not name
        return not self.models or any(fnmatchcase(name, one) for one in self.models)

    def heard(self, body: bytes, headers: Mapping[str, str], model: str) -> tuple[bytes, list[str], Mapping[str, str]]:
        """A body with what the caller's headers say, what of that is left out, and the headers that still go along."""
        told = self.told
        if told is None or told.header not in headers:
            return body, [], headers
        body, dropped = told.moved(body, headers[told.header], model)
        return body, dropped, {name: value for name, value in headers.items() if name != told.header}

    def place(self, *, stream: bool) -> str:
        """The path of a request."""
        return self.stream_path if stream and self.stream_path else self.path


def below(prefix: str, *spoken: Spoken) -> tuple[Spoken, ...]:
    """Several at another path."""
    return tuple(one.at(prefix) for one in spoken)


CHAT: Final = Spoken(pb.OPERATION_CHAT, "openai.chat", "/chat/completions")
RESPONSES: Final = Spoken(pb.OPERATION_CHAT, "openai.responses", "/responses")
# https://platform.openai.com/docs/api-reference/responses/compact and .../input-tokens
COMPACT: Final = Spoken(pb.OPERATION_CHAT, "openai.compact", "/responses/compact")
INPUT_TOKENS: Final = Spoken(pb.OPERATION_COUNT_TOKENS, "openai.input_tokens", "/responses/input_tokens")
COMPLETIONS: Final = Spoken(pb.OPERATION_COMPLETION, "openai.completions", "/completions")
EMBEDDINGS: Final = Spoken(pb.OPERATION_EMBEDDING, "openai.embeddings", "/embeddings")
IMAGES: Final = Spoken(pb.OPERATION_IMAGE, "openai.images", "/images/generations")
# Vendors that take pictures to edit in the JSON of generations.
INLINE_IMAGES: Final = Spoken(pb.OPERATION_IMAGE, "openai.images_inline", "/images/generations")
SPEECH: Final = Spoken(pb.OPERATION_SPEECH, "openai.speech", "/audio/speech")
TRANSCRIPTIONS: Final = Spoken(pb.OPERATION_TRANSCRIPTION, "openai.transcriptions", "/audio/transcriptions")
MODERATIONS: Final = Spoken(pb.OPERATION_MODERATION, "openai.moderations", "/moderations")
# The form of a reranking request that most vendors took over from the first: https://docs.cohere.com/reference/rerank
RERANK: Final = Spoken(pb.OPERATION_RERANK, "cohere.rerank", "/rerank")
# https://platform.claude.com/docs/en/api/messages
VERSION: Final = {"anthropic-version": "2023-06-01"}  # https://platform.claude.com/docs/en/api/versioning
MESSAGES: Final = Spoken(pb.OPERATION_CHAT, "anthropic.messages", "/v1/messages", headers=VERSION)
COUNT_MESSAGES: Final = Spoken(
    pb.OPERATION_COUNT_TOKENS, "anthropic.count_tokens", "/v1/messages/count_tokens", headers=VERSION
)

# What a server offers that follows OpenAI's three oldest formats.
COMPATIBLE: Final = (CHAT, COMPLETIONS, EMBEDDINGS)
