"""What a vendor is: an address, a way to present credentials, a dialect, and its quirks as data.

A vendor that speaks a known dialect is one file in `vendors/` of a few lines. Nothing else in the project names it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from polyroute.api.chat.v1 import chat_pb2
from polyroute.api.chat.v1.chat_pb2 import Operation

# Where each operation is found below a base URL, in OpenAI's scheme.
OPENAI_PATHS: Final[Mapping[Operation.ValueType, str]] = MappingProxyType(
    {
        chat_pb2.OPERATION_CHAT: "/chat/completions",
        chat_pb2.OPERATION_COMPLETION: "/completions",
        chat_pb2.OPERATION_EMBEDDING: "/embeddings",
    }
)


@dataclass(frozen=True)
class Quirks:
    """Where a vendor departs from its dialect. Each use says in its vendor's file where that is documented.

    Attributes:
        drop: Top-level members of a request that the vendor refuses.
        stream_usage: It takes `stream_options.include_usage`; False where it refuses it.
        keep_alive: Connections may be used again; False where the vendor closes them without saying so.
    """

    drop: frozenset[str] = frozenset()
    stream_usage: bool = True
    keep_alive: bool = True


@dataclass(frozen=True)
class Vendor:
    """A vendor's public facts; nothing secret, nothing of one account.

    Attributes:
        name: Its name in configuration and catalog.
        base_url: Where it is; empty when every account has its own address.
        key_env: Environment variables that hold a key of it, in the vendor's own documentation's words.
        dialects: Dialect of each operation it offers.
        paths: Path of each operation below the base URL.
        auth_header: Header that carries the key.
        auth_scheme: What stands before the key in that header.
        price_book: Its name in the price data; empty when that has no prices of it.
        keyless: It answers without a key (a server of one's own).
        quirks: Where it departs from its dialects.
    """

    name: str
    base_url: str = ""
    key_env: tuple[str, ...] = ()
    dialects: Mapping[Operation.ValueType, str] = field(
        default_factory=lambda: MappingProxyType(
            {
                chat_pb2.OPERATION_CHAT: "openai.chat",
                chat_pb2.OPERATION_EMBEDDING: "openai.embeddings",
            }
        )
    )
    paths: Mapping[Operation.ValueType, str] = field(default_factory=lambda: OPENAI_PATHS)
    auth_header: str = "authorization"
    auth_scheme: str = "Bearer "
    price_book: str = ""
    keyless: bool = False
    quirks: Quirks = field(default_factory=Quirks)


# Vendors that also offer the older text completions.
WITH_COMPLETIONS: Final[Mapping[Operation.ValueType, str]] = MappingProxyType(
    {
        chat_pb2.OPERATION_CHAT: "openai.chat",
        chat_pb2.OPERATION_COMPLETION: "openai.completions",
        chat_pb2.OPERATION_EMBEDDING: "openai.embeddings",
    }
)
CHAT_ONLY: Final[Mapping[Operation.ValueType, str]] = MappingProxyType({chat_pb2.OPERATION_CHAT: "openai.chat"})
