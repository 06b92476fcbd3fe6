"""A gateway before one fake vendor that is asked in every wire format: model `DIALECT` is asked in that one.

Where the real vendor has other formats beside the one that is meant, its stand-in here has only that one: the gateway
prefers the caller's own, and among others the first.
"""

from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, cast
from unittest.mock import patch

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.providers.registry import all_vendors
from polyroute.providers.vendor import Vendor
from tests.fakes.vendors import Vendors
from tests.mesh.gateway import Gateway, Tree, running

WORK: Final = ["chat", "completion", "embedding", "rerank", "image", "speech", "transcription", "moderation"]
# Provider -> vendor, what follows the fake's address, and how the vendor calls the model.
PLACES: Final = {
    "openai.chat": ("openai_compatible", "/v1", "up-chat"),
    "openai.responses": ("only_responses", "/v1", "up-responses"),
    "anthropic.messages": ("anthropic", "", "claude-sonnet-4-5"),
    "gemini.generate": ("gemini", "", "gemini-2.5-flash"),
    "bedrock.converse": ("bedrock", "", "anthropic.claude-sonnet-4-5-20250929-v1:0"),
    "cohere.chat": ("cohere", "", "command-a-vision"),
    "ollama.chat": ("only_ollama", "", "qwen3:4b"),
    "dashscope.generation": ("only_generation", "", "qwen-vl-plus"),
}


@dataclass(frozen=True)
class Stage:
    """The gateway and the vendor behind all its providers."""

    gateway: Gateway
    vendors: Vendors


@contextmanager
def more_vendors() -> Iterator[None]:
    """Vendors of one format only, beside the real ones."""
    known = all_vendors()
    more = {
        "only_responses": _only(known["openai"], "only_responses", "openai.responses"),
        "only_ollama": _only(known["ollama"], "only_ollama", "ollama.chat"),
        "only_generation": _only(known["dashscope"], "only_generation", "dashscope.generation"),
    }
    with patch.dict(cast("dict[str, Vendor]", known), more):
        yield


def _only(vendor: Vendor, name: str, dialect: str) -> Vendor:
    """A vendor with one of its formats for conversations."""
    spoken = tuple(
        one for one in vendor.speaks if one.operation != pb.OPERATION_CHAT or one.dialect in (dialect, "openai.compact")
    )
    return replace(vendor, name=name, speaks=spoken, key_env=(), price_book="")


@asynccontextmanager
async def speaking(directory: Path, models: Tree | None = None, **sections: Any) -> AsyncGenerator[Stage]:
    """Runs both; each call is tried once."""
    async with Vendors() as vendors:
        providers: dict[str, str | Tree] = {
            name: {"vendor": vendor, "base_url": vendors.url + end, "keys": [f"key-of-{vendor}"]}
            for name, (vendor, end, _) in PLACES.items()
        }
        offered: Tree = {
            name: {"deployments": [{"provider": name, "model": model}], "operations": WORK}
            for name, (_, _, model) in PLACES.items()
        }
        sections.setdefault("router", {"max_attempts": 1})
        with more_vendors():
            async with running(directory, providers, offered | (models or {}), **sections) as gateway:
                yield Stage(gateway, vendors)
