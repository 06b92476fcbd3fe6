"""The paths of one door: clients of several makes ask for the same work under different prefixes.

    /v1/embeddings  /embeddings  /openai/v1/embeddings  /openai/embeddings  /openai/deployments/NAME/embeddings

What a key's routes say of one of them holds for all. Everything else stands for itself alone: the paths below
`/passthrough/`, Google's, and the methods of gRPC.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from polyroute.mesh.patterns import covered

PREFIXES: Final = ("/v1", "", "/openai/v1", "/openai")  # the last two as Azure's clients have them
_FAMILIES: Final = (
    "audio",
    "batches",
    "chat",
    "completions",
    "conversations",
    "embeddings",
    "files",
    "images",
    "messages",
    "moderations",
    "rerank",
    "responses",
    "uploads",
    "vector_stores",
)
_DOOR: Final = re.compile(rf"(?:/openai/deployments/[^/]+|/openai/v1|/openai|/v1)?(/(?:{'|'.join(_FAMILIES)})(?:/.*)?)")


def opened(routes: Iterable[str], path: str) -> bool:
    """Whether one of some routes, which may end in `*`, stands for a path or for another spelling of the same door."""
    routes = tuple(routes)
    return covered(routes, path) or any(covered(routes, other) for other in _spellings(path.rstrip("/")))


@lru_cache(maxsize=4096)
def _spellings(path: str) -> tuple[str, ...]:
    found = _DOOR.fullmatch(path)
    return tuple(prefix + found[1] for prefix in PREFIXES) if found else ()
