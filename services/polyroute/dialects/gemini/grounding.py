"""`groundingMetadata` as citations: which words of an answer rest on which page.

https://ai.google.dev/gemini-api/docs/google-search#understanding_the_grounding_response. Places are bytes of UTF-8
there and characters in citations. Where no words are named, a page stands behind the whole answer.
"""

from collections.abc import Iterable
from typing import Any

from polyroute.dialects.asking import count_in, object_in, objects_in, text_of


def citations(metadata: object, text: str) -> list[dict[str, Any]]:
    """Citations in the form of `openai.chat`, which clients of other formats know too.

    Args:
        metadata: The member of a candidate.
        text: What the candidate has said so far.
    """
    value = object_in(metadata)
    pages = [_page(chunk) for chunk in objects_in(value.get("groundingChunks"))]
    supports = objects_in(value.get("groundingSupports"))
    if not supports:
        return [_citation(page, 0, len(text)) for page in pages if page]
    raw = text.encode("utf-8", "surrogatepass")
    out: list[dict[str, Any]] = []
    for support in supports:
        segment = object_in(support.get("segment"))
        start, end = (_characters(raw, segment.get(name)) for name in ("startIndex", "endIndex"))
        out += [_citation(page, start, end) for page in _named(support.get("groundingChunkIndices"), pages)]
    return out


def _page(chunk: dict[str, Any]) -> dict[str, str]:
    """Address and title of what an answer rests on: a page of the web, or a document of the application's own."""
    for kind in ("web", "retrievedContext", "maps"):
        page = object_in(chunk.get(kind))
        if text_of(page.get("uri")):
            return {"url": page["uri"], "title": text_of(page.get("title"))}
    return {}


def _named(numbers: object, pages: list[dict[str, str]]) -> Iterable[dict[str, str]]:
    listed = numbers if isinstance(numbers, list) else []
    return [
        pages[number] for number in listed if isinstance(number, int) and 0 <= number < len(pages) and pages[number]
    ]


def _characters(raw: bytes, place: object) -> int:
    return len(raw[: count_in(place)].decode("utf-8", "ignore"))


def _citation(page: dict[str, str], start: int, end: int) -> dict[str, Any]:
    return {"type": "url_citation", "url_citation": {"start_index": start, "end_index": end, **page}}
