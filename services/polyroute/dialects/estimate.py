"""How many tokens a conversation has, about: no tokenizer, no network.

Tokenizers differ from model to model, and so do the words that vendors wrap messages and tools in. What tokenizers have
in common is told here by few figures; the wrapping, which outweighs a short question, is a `Frame`. The figures were
fitted to the usage that vendors reported for recorded requests. With a vendor's own frame the median error over these
is below 15 %; with the common one it is about a quarter, for most of them are short, and a vendor's template outweighs
them. Bytes by four is off by half for JSON and by two thirds for Chinese.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from polyroute.api.chat.v1.chat_pb2 import ChatRequest, Media, Message, Part, Tool
from polyroute.dialects import pictures

# Byte-pair tokenizers keep common words of up to about seven letters whole and cut longer ones into pieces of about
# six; numbers go by three digits; a sign is a token of its own unless it joins its like; a run of spaces is one token,
# and the single space before a word belongs to the word.
_WORD_LETTERS: Final = 6.5
_DIGITS: Final = 3
_SIGNS: Final = 1.7
# One character of Chinese, Japanese or Korean is a bit less than a token with vocabularies of 150,000 and more; other
# scripts (Cyrillic, Arabic, Greek, Hebrew, the Indic ones) take a token for two to three letters; a picture sign two.
_EAST_ASIAN: Final = 0.75
_OTHER_LETTERS: Final = 2.6
_PICTURE_SIGN: Final = 2.0

# A picture: a token for each square of 28 by 28 pixels after it was made to fit, at most 1,568 (several vendors charge
# 1 to 1.6 thousand for a photograph); https://platform.claude.com/docs/en/build-with-claude/vision.
_PATCH: Final = 28
_LONGEST_SIDE: Final = 1568
_MOST_PER_PICTURE: Final = 1568
_UNSEEN_PICTURE: Final = 1100  # one whose size is not known: a photograph of about a megapixel
_DETAIL_LOW: Final = 85  # https://platform.openai.com/docs/guides/images-vision
# A page of a document takes 1,500 to 3,000 tokens, and about 60 kB of a scan or 30 kB of print.
_BYTES_PER_DOCUMENT_TOKEN: Final = 25
_UNSEEN_DOCUMENT: Final = 2000
# Sound: ten tokens a second of 16-bit PCM at 24 kHz.
_BYTES_PER_SOUND_TOKEN: Final = 4800


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands around the words of a conversation, in tokens, and how fine its vendor's tokenizer cuts.

    Attributes:
        request: Once for a request.
        message: For each message: its marks and its role.
        call: For each tool call and each result: marks, and the id.
        tools: Once when there are tools: how to call them.
        tool: For each tool.
        form: Once when the answer must follow a schema.
        thinking: Once when the model is told to think.
        words: Tokens of text by the estimate's; less than 1 for large vocabularies.
        schema: The same for JSON schemas, which most vendors rewrite for the model.
    """

    request: float = 5
    message: float = 3
    call: float = 9.5
    tools: float = 90
    tool: float = 12
    form: float = 0
    thinking: float = 0
    words: float = 0.8
    schema: float = 0.73


COMMON: Final = Frame()

_PIECES: Final = re.compile(
    r"(?P<word>[A-Za-z]+)"
    r"|(?P<digits>[0-9]+)"
    r"|(?P<asian>[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef\u3000-\u303f]+)"
    r"|(?P<pictures>[\U0001f000-\U0001faff\u2600-\u27bf])"
    r"|(?P<letters>[^\W\d_]+)"
    r"|(?P<spaces>\s{2,}|\n)"
    r"|(?P<signs>[^\w\s]+|_+)"
)


def estimate_tokens(request: ChatRequest, frame: Frame = COMMON) -> int:
    """Tokens of the prompt, tools included; at least 1."""
    total = frame.request + sum(_message(message, frame) for message in request.messages)
    if request.tools:
        total += frame.tools + sum(_tool(tool, frame) for tool in request.tools)
    if request.response_format.schema:
        total += frame.form + _schema(request.response_format.schema, frame)
    if request.reasoning.enabled:
        total += frame.thinking
    return max(1, round(total))


def text_tokens(text: str) -> float:
    """Tokens of a text in any language, or of code."""
    total = 0.0
    for found in _PIECES.finditer(text):
        size = found.end() - found.start()
        match found.lastgroup:
            case "word":
                total += 1 + (size - 1) // _WORD_LETTERS
            case "digits":
                total += -(-size // _DIGITS)
            case "asian":
                total += size * _EAST_ASIAN
            case "pictures":
                total += _PICTURE_SIGN
            case "letters":
                total += max(1.0, size / _OTHER_LETTERS)
            case "signs":
                total += max(1.0, size / _SIGNS)
            case _:
                total += 1
    return total


def _message(message: Message, frame: Frame) -> float:
    return frame.message + text_tokens(message.name) + sum(_part(part, frame) for part in message.parts)


def _part(part: Part, frame: Frame) -> float:
    match part.WhichOneof("part"):
        case "text":
            return text_tokens(part.text.text) * frame.words
        case "reasoning":
            return text_tokens(part.reasoning.text) * frame.words
        case "refusal":
            return text_tokens(part.refusal.text) * frame.words
        case "tool_call":
            words = text_tokens(part.tool_call.name) + text_tokens(part.tool_call.arguments)
            return frame.call + words * frame.words
        case "tool_result":
            return frame.call + _parts(part.tool_result.parts, frame)
        case "image":
            return _picture(part.image.media, part.image.detail)
        case "audio":
            return len(part.audio.media.data) / _BYTES_PER_SOUND_TOKEN + text_tokens(part.audio.transcript)
        case _:
            return _document(part.file.media)


def _parts(parts: Iterable[Part], frame: Frame) -> float:
    return sum(_part(part, frame) for part in parts)


def _tool(tool: Tool, frame: Frame) -> float:
    words = text_tokens(tool.name) + text_tokens(tool.description)
    return frame.tool + words * frame.words + _schema(tool.parameters, frame)


def _schema(schema: bytes, frame: Frame) -> float:
    return text_tokens(schema.decode("utf-8", "replace")) * frame.schema


def _picture(media: Media, detail: str) -> float:
    if detail == "low":
        return _DETAIL_LOW
    size = pictures.size(media.data) if media.data else None
    if size is None:
        return _UNSEEN_PICTURE
    shrink = min(1.0, _LONGEST_SIDE / max(size))
    across, down = (-(-max(1, int(side * shrink)) // _PATCH) for side in size)
    return min(_MOST_PER_PICTURE, across * down)


def _document(media: Media) -> float:
    if not media.data:
        return _UNSEEN_DOCUMENT
    if media.media_type.startswith("text/"):
        return text_tokens(media.data.decode("utf-8", "replace"))
    return len(media.data) / _BYTES_PER_DOCUMENT_TOKEN
