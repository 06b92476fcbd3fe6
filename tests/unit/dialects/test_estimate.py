"""Estimates without a tokenizer, and the sizes of pictures that they need."""

import struct

import pytest

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.dialects import pictures
from polyroute.dialects.estimate import Frame, estimate_tokens, text_tokens


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("", 0, 0),
        ("The quick brown fox jumps over the lazy dog.", 9, 12),
        ("今天天气很好，我们去公园散步吧。", 9, 16),
        ("東京は日本の首都です。", 7, 11),
        ("Сегодня хорошая погода, пойдём гулять.", 12, 22),
        ("def add(a: int, b: int) -> int:\n    return a + b\n", 17, 28),
        ("1234567890", 4, 4),
        ("🙂🙂", 2, 6),
        ("aaaa " * 1000, 900, 2100),
    ],
)
def test_texts_of_many_kinds(text: str, least: int, most: int) -> None:
    """Near what tokenizers with 100,000 to 260,000 words make of them."""
    assert least <= text_tokens(text) <= most


def test_a_request_is_more_than_its_words() -> None:
    """Messages, tools, calls and schemas have their own cost."""
    frame = Frame(request=1, message=2, call=4, tools=8, tool=16, form=32, thinking=64, words=0, schema=0)
    request = pb.ChatRequest(messages=[pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text=pb.TextPart(text="Hi"))])])
    bare = estimate_tokens(request, frame)
    request.tools.add(name="f", parameters=b"{}")
    request.response_format.schema = b"{}"
    request.reasoning.enabled = True
    request.messages.add(role=pb.ROLE_ASSISTANT).parts.add().tool_call.name = "f"

    assert (3, 3 + 24 + 32 + 64 + 6) == (bare, estimate_tokens(request, frame))
    assert 1 == estimate_tokens(pb.ChatRequest(), Frame(request=0))


def picture(data: bytes, detail: str = "") -> int:
    """The estimate for one picture."""
    part = pb.Part(image=pb.ImagePart(media=pb.Media(data=data), detail=detail))
    request = pb.ChatRequest(messages=[pb.Message(role=pb.ROLE_USER, parts=[part])])
    return estimate_tokens(request, Frame(request=0, message=0))


def png(width: int, height: int) -> bytes:
    """The first bytes of a PNG."""
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height)


def test_pictures_by_their_size() -> None:
    """A token for 28 by 28 pixels, up to a bound; few where only a glance is asked for."""
    assert 36 * 36 == picture(png(1000, 1000))
    assert 1568 == picture(png(4000, 4000))
    assert 1 == picture(png(1, 1))
    assert 85 == picture(png(1000, 1000), "low")
    assert 1100 == picture(b"no picture")


@pytest.mark.parametrize(
    ("data", "media_type", "size"),
    [
        (png(3, 4), "image/png", (3, 4)),
        (b"GIF89a" + struct.pack("<HH", 3, 4), "image/gif", (3, 4)),
        (b"RIFF\0\0\0\0WEBPVP8X" + bytes(8) + b"\2\0\0\3\0\0", "image/webp", (3, 4)),
        (b"RIFF\0\0\0\0WEBPVP8L" + bytes(5) + struct.pack("<I", 2 | 3 << 14) + bytes(5), "image/webp", (3, 4)),
        (b"RIFF\0\0\0\0WEBPVP8 " + bytes(10) + struct.pack("<HH", 3, 4), "image/webp", (3, 4)),
        (b"\xff\xd8\xff\xe0\0\4ab\xff\xc0\0\x11\x08" + struct.pack(">HH", 4, 3), "image/jpeg", (3, 4)),
        (b"\xff\xd8\xff\xe0\0\4ab\xff\xda", "image/jpeg", None),
        (b"\xff\xd8\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "image/jpeg", None),
        (png(0, 4), "image/png", None),
        (b"\x89PNG\r\n\x1a\n", "image/png", None),
        (b"RIFF\0\0\0\0WEBP", "image/webp", None),
        (b"BM", "", None),
        (b"", "", None),
    ],
)
def test_what_pictures_say_of_themselves(data: bytes, media_type: str, size: tuple[int, int] | None) -> None:
    """Type and size from the first bytes."""
    assert (media_type, size) == (pictures.media_type(data), pictures.size(data))
