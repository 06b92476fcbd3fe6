"""What a vendor is: an address, a way to present credentials, the formats it speaks, and its quirks as data.

A vendor that speaks known dialects is one file in `vendors/` of a few lines. Nothing else in the project names it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from polyroute.api.chat.v1.chat_pb2 import Operation
from polyroute.api.errors.v1 import errors_pb2
from polyroute.api.errors.v1.errors_pb2 import Fault
from polyroute.api.router.v1.router_pb2 import Billing
from polyroute.mesh.errors import MeshError
from polyroute.providers.credentials import Credential, HeaderKey
from polyroute.providers.spoken import CHAT, EMBEDDINGS, Spoken
from polyroute.providers.traits import Traits, nothing


class Verified(Enum):
    """How it is known that a vendor's answers are understood."""

    RECORDED = "recorded"  # its real traffic is read by the tests
    DOCUMENTED = "documented"  # its documentation was followed


@dataclass(frozen=True)
class Quirks:
    """Where a vendor departs from its dialects. Each use says in its vendor's file where that is documented.

    Attributes:
        drop: Top-level members of a client's body that the vendor refuses and that change nothing: they are left out
            without a word. Parameters are refused by `Vendor.models`.
        stream_usage: It takes `stream_options.include_usage`; False where it refuses it.
        keep_alive: Connections may be used again; False where the vendor closes them without saying so.
    """

    drop: frozenset[str] = frozenset()
    stream_usage: bool = True
    keep_alive: bool = True


@dataclass(frozen=True)
class FaultRule:
    """An error that means something else with this vendor than with others.

    Attributes:
        fault: What it means.
        words: What the vendor says, searched for without regard to case; empty matches all it may say.
        statuses: Under which HTTP statuses; none means all.
        codes: The vendor's code, whole, lower case; none means all.
    """

    fault: Fault.ValueType
    words: str = ""
    statuses: tuple[int, ...] = ()
    codes: tuple[str, ...] = ()

    def matches(self, error: MeshError) -> bool:
        """Whether the error is of this kind."""
        status = error.metadata.get("upstream_status", "0")
        if self.statuses and int(status) not in self.statuses:
            return False
        if self.codes and error.metadata.get("vendor_code", "").lower() not in self.codes:
            return False
        return not self.words or re.search(self.words, error.message, re.IGNORECASE) is not None


@dataclass(frozen=True)
class Setting:
    """A part of a vendor's address that is an account's own, such as its project.

    Attributes:
        env: Environment variables that hold it, in the vendor's own documentation's words.
        default: Used when nothing says otherwise; empty when something has to.
    """

    env: tuple[str, ...] = ()
    default: str = ""


@dataclass(frozen=True, eq=False)
class Vendor:
    """A vendor's public facts; nothing secret, nothing of one account.

    Attributes:
        name: Its name in configuration and catalog.
        base_url: Where it is; empty when every account has its own address. May hold `{setting}`.
        regions: Addresses of its other regions.
        tails: Ends of an address that its documentation shows to people and that the paths hold already.
        settings: What the address and the paths hold of an account.
        key_env: Environment variables that hold a key of it, in the vendor's own documentation's words.
        url_env: Environment variables that hold the account's address.
        discover: A key in the environment makes an account; False where such a key is often there for other work.
        credential: How a key is presented.
        keyless: It answers without a key (a server of one's own).
        headers: Headers of every request.
        query: Parameters in the address of every request; may hold `{setting}`.
        speaks: What it offers, and in which formats: of one kind of work the best first.
        options: Dialect -> its `Options` for this vendor, where they are not the dialect's own.
        models: What its models refuse.
        faults: What its errors mean where they mean something else than with others; the first that matches.
        recorded: Dialects of which the tests read real traffic of this vendor.
        price_book: Its name in the price lists; empty when they have no prices of it.
        price_books: Region -> its name there, where that is another one.
        own_models: Models go by names that each account gives them: none can be offered unasked.
        custom_tools: Formats in which it takes tools of free text; in others they are sent as functions.
        bills: What it bills of answers that did not come whole.
        quirks: Where it departs from its dialects.
    """

    name: str
    base_url: str = ""
    regions: Mapping[str, str] = field(default_factory=nothing)
    tails: tuple[str, ...] = ()
    settings: Mapping[str, Setting] = field(default_factory=nothing)
    key_env: tuple[str, ...] = ()
    url_env: tuple[str, ...] = ()
    discover: bool = True
    credential: Credential = field(default_factory=HeaderKey)
    keyless: bool = False
    headers: Mapping[str, str] = field(default_factory=nothing)
    query: Mapping[str, str] = field(default_factory=nothing)
    speaks: tuple[Spoken, ...] = (CHAT, EMBEDDINGS)
    options: Mapping[str, Any] = field(default_factory=nothing)
    models: tuple[Traits, ...] = ()
    faults: tuple[FaultRule, ...] = ()
    recorded: frozenset[str] = frozenset()
    price_book: str = ""
    price_books: Mapping[str, str] = field(default_factory=nothing)
    own_models: bool = False
    custom_tools: frozenset[str] = frozenset({"openai.responses"})
    bills: Billing = field(default_factory=Billing)
    quirks: Quirks = field(default_factory=Quirks)

    @property
    def verified(self) -> Verified:
        """How it is known that its answers are understood."""
        return Verified.RECORDED if self.recorded else Verified.DOCUMENTED

    @property
    def dialects(self) -> Mapping[Operation.ValueType, tuple[str, ...]]:
        """The formats of each kind of work, the best first, each once."""
        found: dict[Operation.ValueType, tuple[str, ...]] = {}
        for spoken in self.speaks:
            known = found.get(spoken.operation, ())
            if spoken.dialect not in known:
                found[spoken.operation] = (*known, spoken.dialect)
        return found

    def judged(self, error: MeshError) -> MeshError:
        """The error, its fault put right where this vendor's words mean another."""
        rule = next((rule for rule in self.faults if rule.matches(error)), None)
        if rule is not None and error.reason == errors_pb2.REASON_UPSTREAM:
            error.metadata["fault"] = Fault.Name(rule.fault)
        return error


CHAT_ONLY: Final = (CHAT,)
