"""What routing needs to know of a typed request."""

from typing import Final

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.modality.v1.modality_pb2 import Task
from polyroute.dialects import sound

BYTES_PER_TOKEN: Final = 4
IMAGE_TOKENS: Final = 85  # what OpenAI counts for a picture at low detail, the least of any

_BY_PART: Final = {
    "image": pb.CAPABILITY_VISION,
    "audio": pb.CAPABILITY_AUDIO_INPUT,
    "file": pb.CAPABILITY_FILES,
}
_BY_FORMAT: Final = {
    pb.ResponseFormat.TYPE_JSON_OBJECT: pb.CAPABILITY_JSON_OBJECT,
    pb.ResponseFormat.TYPE_JSON_SCHEMA: pb.CAPABILITY_JSON_SCHEMA,
}


def facts_of(request: pb.ChatRequest) -> pb.RequestFacts:
    """The facts of a typed conversation, which is always streamed and always brings its usage."""
    needs: set[pb.Capability.ValueType] = set()
    tokens = 0
    for message in request.messages:
        for part in message.parts:
            kind = part.WhichOneof("part") or ""
            if kind in _BY_PART:
                needs.add(_BY_PART[kind])
                tokens += IMAGE_TOKENS
            elif kind == "text":
                tokens += tokens_in(part.text.text)
    if request.tools:
        needs.add(pb.CAPABILITY_TOOLS)
    if request.response_format.type in _BY_FORMAT:
        needs.add(_BY_FORMAT[request.response_format.type])
    if request.sampling.logprobs:
        needs.add(pb.CAPABILITY_LOGPROBS)
    facts = pb.RequestFacts(
        operation=pb.OPERATION_CHAT,
        model=request.model,
        stream=True,
        stream_usage=True,
        input_tokens_estimate=tokens,
        needs=sorted(needs),
        choices=request.choices,
    )
    if request.HasField("max_output_tokens"):
        facts.max_output_tokens = request.max_output_tokens
    return facts


def tokens_in(text: str) -> int:
    """About how many tokens a text has; never none."""
    return max(1, len(text.encode("utf-8", "surrogatepass")) // BYTES_PER_TOKEN)


def sound_in(task: Task) -> int:
    """Milliseconds of the sound that a task wants written down, a guess that errs long; 0 for one without."""
    return sound.at_most(task.transcription.data, task.transcription.media_type)


def tokens_of(task: Task) -> int:
    """About how many tokens of text a task has; 0 for one without text."""
    match task.WhichOneof("task"):
        case "rerank":
            query = tokens_in(task.rerank.query)
            return sum(query + tokens_in(document.text) for document in task.rerank.documents)
        case "image":
            return tokens_in(task.image.prompt)
        case "speech":
            return tokens_in(task.speech.text)
        case "moderation":
            return sum(tokens_in(part.text.text) for one in task.moderation.inputs for part in one.parts)
        case _:
            return 0
