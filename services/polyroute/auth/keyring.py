"""The life of a key: created, listed, revoked."""

import base64
import time
from collections.abc import Callable
from typing import Final

from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth import keys
from polyroute.auth.flights import Flights
from polyroute.auth.keys import Digester, Key, NewKey
from polyroute.auth.revocations import RevocationFeed
from polyroute.auth.store import Store
from polyroute.auth.verdicts import Verdicts
from polyroute.mesh.errors import MeshError

PAGE_SIZE: Final = 100
MAX_PAGE_SIZE: Final = 1000
MAX_LIFETIME_SECONDS: Final = 100 * 365 * 86_400  # beyond this "for ever" is meant

_NAMED_AT_MOST: Final = 8  # ids in the answer to an ambiguous prefix
_ID_BYTES: Final = 16


class Keyring:
    """Creates, lists and revokes keys.

    Args:
        store: Where keys are.
        digester: Turns secrets into digests.
        feed: Told of each revocation.
        verdicts: Forget each revoked key.
        now: Wall clock, seconds since the Unix epoch.
    """

    def __init__(
        self,
        store: Store,
        digester: Digester,
        feed: RevocationFeed,
        verdicts: Verdicts,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._digester = digester
        self._feed = feed
        self._verdicts = verdicts
        self._now = now
        self._revoking: Flights[str, Key] = Flights()

    async def create(
        self,
        *,
        project_id: str = "",
        name: str = "",
        models: tuple[str, ...] = (),
        lifetime: float | None = None,
        request_id: str = "",
    ) -> tuple[Key, str]:
        """Creates a key.

        Args:
            project_id: Its project; empty means the default project.
            name: For people.
            models: What it may use; empty means all.
            lifetime: Seconds until it ends by itself; None means never.
            request_id: Repeating a creation under the same one gives the first one's key; empty means do not compare.

        Returns:
            The key and its secret; the secret is empty when the key existed.

        Raises:
            MeshError: REASON_INVALID_REQUEST, the lifetime; REASON_NOT_FOUND, the project.
        """
        if lifetime is not None and not 0 < lifetime <= MAX_LIFETIME_SECONDS:
            raise _invalid("lifetime", "a lifetime is longer than nothing and at most a hundred years")
        secret = keys.new_secret()
        created = self._micros()
        new = NewKey(
            id=keys.new_id("key"),
            digest=self._digester(secret),
            prefix=keys.prefix(secret),
            name=name,
            models=models,
            created=created,
            expires=None if lifetime is None else created + round(lifetime * 1e6),
            request_id=request_id or None,
        )
        key, made_now = await self._store.create(new, project_id)
        return key, secret if made_now else ""

    async def page(
        self, *, project_id: str = "", size: int = 0, token: str = "", show_ended: bool = False
    ) -> tuple[list[Key], str]:
        """A page of keys, newest first, and the token that asks for the next page; empty on the last.

        Args:
            project_id: Only this project's; empty means all.
            size: At most this many; 0 means 100, more than 1000 means 1000.
            token: From the page before; empty means the first page.
            show_ended: Revoked and expired keys as well.

        Raises:
            MeshError: REASON_INVALID_REQUEST, the token is not one of ours.
        """
        size = min(size or PAGE_SIZE, MAX_PAGE_SIZE)
        live_at = None if show_ended else self._micros()
        before = _from_token(token) if token else ""
        found = await self._store.page(project_id=project_id, before=before, live_at=live_at, limit=size + 1)
        page = found[:size]
        return page, _to_token(page[-1].id) if len(found) > size else ""

    async def revoke(self, name: str) -> Key:
        """Ends the key with this id or prefix for good, here and everywhere; repeating it changes nothing.

        Raises:
            MeshError: REASON_NOT_FOUND, no key has this name; REASON_INVALID_REQUEST, several keys have this prefix
                (metadata `key_ids`), or the name is a secret.
        """
        key = await self._named(name)
        # to its end even if the caller goes away: a revocation that was committed must also be pushed
        return await self._revoking.join(key.id, lambda: self._revoke(key.id))

    async def close(self) -> None:
        """Waits for revocations under way."""
        await self._revoking.close()

    async def _named(self, name: str) -> Key:
        if name.startswith(keys.MARK) and len(name) > keys.PREFIX_CHARS:
            # not looked for and not repeated in the answer, which may be logged
            raise _invalid(
                "key", f"name a key by its id or its first {keys.PREFIX_CHARS} characters, not by its secret"
            )
        # ended keys count: otherwise repeating a revocation could reach another key than the first time
        found = await self._store.named(name, limit=_NAMED_AT_MOST)
        if not found:
            raise MeshError(errors_pb2.REASON_NOT_FOUND, "there is no such key", metadata={"resource": name})
        if len(found) > 1:
            ids = ", ".join(key.id for key in found)
            raise _invalid("key", f"several keys begin with {name}: {ids}", key_ids=ids)
        return found[0]

    async def _revoke(self, key_id: str) -> Key:
        key, revocations = await self._store.revoke(key_id, at=self._micros(), known=self._feed.revision)
        for revocation in revocations:
            self._verdicts.drop(revocation.digest)
        self._feed.extend((revocation.revision, revocation.key_id) for revocation in revocations)
        return key

    def _micros(self) -> int:
        return round(self._now() * 1e6)


def _invalid(param: str, message: str, **metadata: str) -> MeshError:
    return MeshError(errors_pb2.REASON_INVALID_REQUEST, message, metadata={"param": param, **metadata})


def _to_token(key_id: str) -> str:
    """A place in the list: the last key seen, so that keys created meanwhile neither repeat nor hide others."""
    return base64.urlsafe_b64encode(bytes.fromhex(key_id.partition("_")[2])).decode()


def _from_token(token: str) -> str:
    try:
        place = base64.b64decode(token, altchars=b"-_", validate=True)
    except ValueError:  # not ASCII, or not base64
        place = b""
    if len(place) != _ID_BYTES:
        raise _invalid("page_token", "the page token is not one that this service gave")
    return f"key_{place.hex()}"
