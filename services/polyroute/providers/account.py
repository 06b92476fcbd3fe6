"""A vendor account that can be called: where it is now, and the headers that open it."""

import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, is_dataclass, replace
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final, TypeVar
from urllib.parse import quote

from polyroute.api.chat.v1.chat_pb2 import Operation
from polyroute.api.errors.v1 import errors_pb2
from polyroute.mesh.errors import MeshError
from polyroute.providers.credentials import Presented, Signing
from polyroute.providers.http import Target, changed, target
from polyroute.providers.keys import Key, KeyRing, fingerprint
from polyroute.providers.spoken import MODEL, Spoken
from polyroute.providers.traits import NOTHING, Edited, Traits, merged
from polyroute.providers.vendor import Vendor

FIXED: Final = {"content-type": "application/json", "accept-encoding": "identity", "user-agent": "polyroute"}
_SALT: Final = secrets.token_bytes(16)  # so that what is told of keys says nothing of them
KEPT: Final = 4096  # targets of models that are in the path, traits of models: callers may name any
_PLACE: Final = re.compile(r"\{(\w+)\}")
_DOTS: Final = frozenset({".", ".."})  # a segment of a path that a server may take for another path

Spoke = TypeVar("Spoke")


class Account:
    """One configured or discovered account of a vendor.

    Args:
        name: Its name in the catalog.
        vendor: The vendor's public facts.
        base_url: Its address; the vendor's own when empty.
        keys: Its keys, used in turn.
        headers: Headers sent with every request.
        settings: What its address and paths hold.
        signing: Makes signers, for vendors whose requests are signed.
        discovered: It was found, not configured.
        clock: Seconds that only grow.

    Attributes:
        access_version: Changes with the address, the keys, the headers and the settings; empty when it has no key.

    Raises:
        ValueError: The address, a key or a header cannot be sent.
    """

    def __init__(
        self,
        name: str,
        vendor: Vendor,
        *,
        base_url: str = "",
        keys: tuple[str, ...] = (),
        headers: Mapping[str, str] = NOTHING,
        settings: Mapping[str, str] = NOTHING,
        signing: Signing | None = None,
        discovered: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.vendor = vendor
        self.discovered = discovered
        self._settings = settings
        self._extra = headers
        self.base_url = address(vendor, base_url, settings)
        self._moved = bool(base_url)
        access = repr((self.base_url, keys, sorted(headers.items()), sorted(settings.items()))).encode()
        self.access_version = blake2b(access, key=_SALT, digest_size=8).hexdigest() if keys else ""
        given = [
            Key(number, vendor.credential.present(key, settings, signing), fingerprint(key))
            for number, key in enumerate(keys or ("",), 1)
        ]
        self._keys = KeyRing(name, given, clock)
        self._choose = lru_cache(KEPT)(self._chosen)
        self._built = lru_cache(KEPT)(self._build)
        self.traits = lru_cache(KEPT)(self._traits)
        self._tune = lru_cache(KEPT)(self._tuned)
        if self.base_url:
            self._check()

    def _check(self) -> None:
        """Builds what can be built before a model is named, so that what cannot be sent is known at the start."""
        for spoken in self.vendor.speaks:
            for key in self._keys:
                for stream in (False, True):
                    self._built(spoken, key, stream, "m" if MODEL in spoken.place(stream=stream) else "")

    @property
    def unavailable(self) -> str:
        """Why it cannot serve now; empty when it can."""
        return ""

    def dialect(
        self, operation: Operation.ValueType, preferred: str = "", model: str = "", *, tools: bool = False
    ) -> str:
        """The dialect in which it is asked for an operation; empty when it does not offer it.

        Args:
            operation: The kind of work.
            preferred: The caller's dialect, taken when the account speaks it.
            model: The model's upstream id; some models are asked in another dialect than the rest.
            tools: The request has tools, which some models take in one dialect only.
        """
        if tools and (only := self.traits(model).tools_in):
            preferred = only
        spoken = self._choose(operation, preferred, model)
        return spoken.dialect if spoken else ""

    def spoken(self, operation: Operation.ValueType, dialect: str, model: str = "") -> Spoken | None:
        """How it is asked for an operation in a dialect; None when it does not offer it."""
        return self._choose(operation, dialect, model)

    def _chosen(self, operation: Operation.ValueType, dialect: str, model: str) -> Spoken | None:
        offered = [one for one in self.vendor.speaks if one.operation == operation and one.serves(model)]
        return next((one for one in offered if one.dialect == dialect), offered[0] if offered else None)

    def key(self, model: str = "", mark: bytes = b"") -> Key:
        """The key for the next attempt at a model.

        Args:
            model: The model's upstream id.
            mark: Fingerprint of the one key that will do; empty when any will.

        Raises:
            MeshError: FAULT_RATE, FAULT_QUOTA or FAULT_CREDENTIAL when all that will do are set aside, and when the
                first is back; REASON_NOT_FOUND when the account has the one key no more.
        """
        return self._keys.pinned(mark, model) if mark else self._keys.next(model)

    def reported(self, key: Key, error: MeshError | None, model: str = "", *, pinned: bool = False) -> None:
        """What became of an attempt with a key; None when it worked. See `KeyRing.report`."""
        self._keys.report(key, error, model, pinned=pinned)

    def target(
        self,
        operation: Operation.ValueType,
        dialect: str = "",
        *,
        model: str = "",
        stream: bool = False,
        key: Key | None = None,
    ) -> Target:
        """Where to send a request.

        Args:
            operation: The kind of work.
            dialect: As `dialect` answered; the vendor's first when empty.
            model: The model's upstream id.
            stream: The answer is to be a stream.
            key: As `key` answered; the next one when None.

        Raises:
            MeshError: FAULT_CLIENT when the account does not offer this, FAULT_MODEL_GONE for a name that no model can
                have, FAULT_CONNECT when it is known to be unreachable now.
        """
        spoken = self._choose(operation, dialect, model)
        if spoken is None:
            raise MeshError.upstream(errors_pb2.FAULT_CLIENT, f"{self.name} does not offer this kind of work")
        if MODEL not in spoken.place(stream=stream):
            model = ""
        elif not model or model in _DOTS:
            raise MeshError.upstream(errors_pb2.FAULT_MODEL_GONE, f"{self.name} has no such model")
        return self._built(spoken, key or self._keys.next(model), stream, model)

    def elsewhere(self, method: str, path: str, key: Key) -> Target:
        """Where to send a request that is in no format of ours: any path below the account's address.

        Raises:
            MeshError: FAULT_CONNECT when the account has no address, FAULT_CLIENT for a path that cannot be sent.
        """
        if not self.base_url:
            raise MeshError.upstream(errors_pb2.FAULT_CONNECT, f"{self.name} has no address of its own")
        headers = {
            "accept-encoding": FIXED["accept-encoding"],
            "user-agent": FIXED["user-agent"],
            **self.vendor.headers,
        }
        headers |= {name.lower(): value for name, value in self._extra.items()} | dict(key.presented.headers)
        path, _, query = path.partition("?")
        query = "&".join(part for part in (query, key.presented.query) if part)
        try:
            given = target(self.base_url + path + (f"?{query}" if query else ""), headers)
            return changed(given, method=method)
        except ValueError as error:
            raise MeshError.upstream(errors_pb2.FAULT_CLIENT, f"the request cannot be sent: {error}") from None

    def _build(self, spoken: Spoken, key: Key, stream: bool, model: str) -> Target:
        elsewhere = "" if self._moved else filled(spoken.base_url, self._settings)
        return self._at(elsewhere or self.base_url, spoken, key.presented, stream=stream, model=model)

    def _at(self, base: str, spoken: Spoken, presented: Presented, *, stream: bool, model: str = "") -> Target:
        values = {name: quote(value, safe="") for name, value in self._settings.items()}
        name = model.removeprefix("models/")  # as one vendor's own lists write them, whose paths hold it already
        path = filled(spoken.place(stream=stream), {**values, "model": quote(name, safe="@")})
        path, _, query = path.partition("?")
        given = [f"{name}={filled(value, values)}" for name, value in self.vendor.query.items()]
        query = "&".join(part for part in (query, *given, presented.query) if part)
        headers = self._headers(spoken, presented, stream=stream)
        return target(f"{base}{path}?{query}" if query else f"{base}{path}", headers, rpc=spoken.rpc)

    def _headers(self, spoken: Spoken, presented: Presented, *, stream: bool) -> Mapping[str, str]:
        headers = {**FIXED, **self.vendor.headers, **spoken.headers}
        if stream:
            headers |= spoken.stream_headers
        headers |= {name.lower(): value for name, value in self._extra.items()}
        headers |= presented.headers
        if not self.vendor.quirks.keep_alive:
            headers["connection"] = "close"
        return headers

    async def authorize(self, key: Key, target: Target, body: bytes) -> Mapping[str, str]:
        """Headers that make one request acceptable, beside those of its target; none for most vendors.

        Raises:
            MeshError: FAULT_CREDENTIAL when the machine has no credentials for it.
        """
        sign = key.presented.sign
        return await sign(target, body) if sign is not None else NOTHING

    def tuned(self, dialect: Spoke, model: str = "") -> Spoke:
        """A dialect as this vendor and model take it."""
        if not is_dataclass(dialect):
            return dialect
        return self._tune(dialect, model)  # type: ignore[arg-type, no-any-return] # frozen; what it was

    def _tuned(self, dialect: Any, model: str) -> Any:
        own = self.vendor.options.get(dialect.name)
        members = self.traits(model).options.get(dialect.name)
        if own is None and not members:
            return dialect
        return replace(dialect, options=replace(own or dialect.options, **(members or {})))

    def _traits(self, model: str) -> Traits:
        return merged(self.vendor.models, model)

    def edited(self, operation: Operation.ValueType, dialect: str, body: bytes, model: str = "") -> Edited:
        """A body in the vendor's dialect, changed where this vendor wants it otherwise; see `Spoken.edit`.

        What it leaves out stands elsewhere, such as the model in the path, so nothing counts as dropped.
        """
        spoken = self._choose(operation, dialect, model)
        return Edited(spoken.edit.apply(body).body if spoken is not None else body, [])


def address(vendor: Vendor, base_url: str, settings: Mapping[str, str]) -> str:
    """The base URL of an account: its own, that of its region, or the vendor's; without what the paths hold."""
    given = base_url or vendor.regions.get(settings.get("region", ""), "") or vendor.base_url
    base = filled(given, settings).rstrip("/")
    tail = max((tail for tail in vendor.tails if base.endswith(tail)), key=len, default="")
    return base.removesuffix(tail)


def filled(text: str, values: Mapping[str, str]) -> str:
    """A text with the settings that it names in braces."""
    return _PLACE.sub(lambda found: values.get(found[1], ""), text)


def needed(vendor: Vendor, base_url: str) -> Iterator[str]:
    """The settings without which an account has no address, its own address given."""
    texts = [base_url or vendor.base_url, *vendor.query.values()]
    texts += [path for spoken in vendor.speaks for path in (spoken.path, spoken.stream_path)]
    named = {name for text in texts for name in _PLACE.findall(text)}
    yield from (name for name in vendor.settings if name in named)


@dataclass(frozen=True)
class Place:
    """Where an account that moves is at the moment."""

    base_url: str
    key: str


class MovingAccount(Account):
    """An account whose address and key are asked for at every call: the embedded model's.

    Args:
        name: Its name in the catalog.
        vendor: The vendor's public facts.
        locate: Gives the place for an operation, or why there is none now.
        discovered: It was found, not configured.
    """

    def __init__(
        self,
        name: str,
        vendor: Vendor,
        locate: Callable[[Operation.ValueType], Place | str],
        *,
        discovered: bool,
    ) -> None:
        super().__init__(name, vendor, discovered=discovered)
        self._locate = locate

    @property
    def unavailable(self) -> str:
        """Why it cannot serve now; empty when it can."""
        place = self._locate(self.vendor.speaks[0].operation)
        return place if isinstance(place, str) else ""

    def target(
        self,
        operation: Operation.ValueType,
        dialect: str = "",
        *,
        model: str = "",
        stream: bool = False,
        key: Key | None = None,
    ) -> Target:
        """Where to send a request now; see `Account.target`. Its key is the place's."""
        spoken = self._choose(operation, dialect, model)
        if spoken is None:
            raise MeshError.upstream(errors_pb2.FAULT_CLIENT, f"{self.name} does not offer this kind of work")
        place = self._locate(operation)
        if isinstance(place, str):
            raise MeshError.upstream(errors_pb2.FAULT_CONNECT, f"{self.name} is not ready: {place}", retry_after=2.0)
        presented = self.vendor.credential.present(place.key, {}, None)
        return self._at(place.base_url, spoken, presented, stream=stream)
