"""The life of a key: created, listed, changed, rotated, revoked."""

import base64
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import ColumnElement

from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth import keys
from polyroute.auth.database import Also, nothing
from polyroute.auth.flights import Flights
from polyroute.auth.keys import Changed, Digester, Key, NewKey
from polyroute.auth.people.actors import Reach
from polyroute.auth.revocations import RevocationFeed
from polyroute.auth.scopes import Grant, Scope, excess
from polyroute.auth.store import Store
from polyroute.auth.verdicts import Verdicts
from polyroute.mesh.errors import MeshError

PAGE_SIZE: Final = 100
MAX_PAGE_SIZE: Final = 1000
MAX_LIFETIME_SECONDS: Final = 100 * 365 * 86_400  # beyond this "for ever" is meant
OVERLAP_SECONDS: Final = 86_400.0  # that a replaced secret works
MAX_OVERLAP_SECONDS: Final = 90 * 86_400
NEVER_CHANGED: Final = -1  # for the end of a key, of which None means never
UNBOUND: Final = Scope()

_NAMED_AT_MOST: Final = 8  # ids in the answer to an ambiguous prefix
_ID_BYTES: Final = 16


class Keyring:
    """Creates, lists, changes and revokes keys.

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
        scope: Scope = UNBOUND,
        creator: str = "",
        also: Also[Changed] = nothing,
    ) -> tuple[Key, str]:
        """Creates a key.

        Args:
            project_id: Its project; empty means the default project.
            name: For people.
            models: What it may use; empty means all.
            lifetime: Seconds until it ends by itself; None means never.
            request_id: Repeating a creation under the same one gives the first one's key; empty means do not compare.
            scope: What else binds it.
            creator: Id or prefix of the key on whose behalf it is created; empty means an operator's.
            also: Done beside it, in its transaction; not where the key existed.

        Returns:
            The key and its secret; the secret is empty when the key existed.

        Raises:
            MeshError: REASON_INVALID_REQUEST, the lifetime or the scope; REASON_NOT_FOUND, the project or the creator;
                REASON_NOT_PERMITTED, the creator has not all of this itself.
        """
        if lifetime is not None and not 0 < lifetime <= MAX_LIFETIME_SECONDS:
            raise _invalid("lifetime", "a lifetime is longer than nothing and at most a hundred years")
        scope.check()
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
            scope=scope,
        )
        if creator:
            parent = await self._may_create(creator, new, project_id)
            new, project_id = replace(new, creator=parent.id), parent.project_id
        key, made_now = await self._store.create(new, project_id, also)
        return key, secret if made_now else ""

    async def page(
        self,
        *,
        project_id: str = "",
        wanted: Sequence[ColumnElement[bool]] = (),
        size: int = 0,
        token: str = "",
        show_ended: bool = False,
        reach: Reach | None = None,
        oldest: bool = False,
    ) -> tuple[list[Key], str]:
        """A page of keys, newest first unless said, and the token that asks for the next page; empty on the last.

        Args:
            project_id: Only this project's; empty means all.
            wanted: What else must be true of a key's row.
            size: At most this many; 0 means 100, more than 1000 means 1000.
            token: From the page before; empty means the first page.
            show_ended: Revoked and expired keys as well.
            reach: Whose keys may be shown; None means everybody's.
            oldest: Oldest first.

        Raises:
            MeshError: REASON_INVALID_REQUEST, the token is not one of ours.
        """
        size = min(size or PAGE_SIZE, MAX_PAGE_SIZE)
        live_at = None if show_ended else self._micros()
        before = _from_token(token) if token else ""
        found = await self._store.page(
            project_id=project_id,
            wanted=wanted,
            before=before,
            live_at=live_at,
            limit=size + 1,
            reach=reach,
            oldest=oldest,
        )
        page = found[:size]
        return page, _to_token(page[-1].id) if len(found) > size else ""

    async def revoke(self, name: str, also: Also[Changed] = nothing) -> Key:
        """Ends the key with this id or prefix for good, here and everywhere; repeating it changes nothing.

        `also` is done beside it, in its transaction.

        Raises:
            MeshError: REASON_NOT_FOUND, no key has this name; REASON_INVALID_REQUEST, several keys have this prefix
                (metadata `key_ids`), or the name is a secret.
        """
        key = await self._named(name)
        # to its end even if the caller goes away: a revocation that was committed must also be pushed
        return await self._revoking.join(key.id, lambda: self._revoke(key.id, also))

    async def get(self, name: str) -> Key:
        """The key with this id or prefix.

        Raises:
            MeshError: As `revoke`.
        """
        return await self._named(name)

    async def update(
        self,
        key_id: str,
        *,
        name: str | None = None,
        models: tuple[str, ...] | None = None,
        scope: Scope | None = None,
        expires: int | None = NEVER_CHANGED,
        also: Also[Changed] = nothing,
    ) -> Key:
        """The key, with something else that it may do. What is None stays; an end of None means never.

        `also` is done beside it, in its transaction.

        Raises:
            MeshError: REASON_INVALID_REQUEST, the scope; REASON_NOT_FOUND, the key.
        """
        values: dict[str, Any] = {"name": name, "models": None if models is None else list(models)}
        values = {column: value for column, value in values.items() if value is not None}
        if scope is not None:
            scope.check()
            values["scope"] = scope.to_json()
        if expires != NEVER_CHANGED:
            values["expires"] = expires
        changed = await self._store.change(key_id, values, also)
        self._tell(key_id)
        return changed.after

    async def rotate(
        self, name: str, overlap: float = OVERLAP_SECONDS, also: Also[Changed] = nothing
    ) -> tuple[Key, str]:
        """Gives a key another secret, which it returns; the old one works for `overlap` seconds yet.

        `also` is done beside it, in its transaction.

        Raises:
            MeshError: REASON_INVALID_REQUEST, the overlap, or a key that has ended; else as `revoke`.
        """
        if not 0 <= overlap <= MAX_OVERLAP_SECONDS:
            raise _invalid("overlap", "an overlap is at most ninety days")
        key = await self._named(name)
        if key.revoked is not None:
            raise _invalid("key", "a revoked key has no use for another secret")
        secret = keys.new_secret()
        old_until = self._micros() + round(overlap * 1e6)
        rotated, old = await self._store.rotate(
            key.id, self._digester(secret), keys.prefix(secret), old_until=old_until, also=also
        )
        self._verdicts.drop(old)
        self._tell(key.id)
        return rotated, secret

    async def push(self) -> None:
        """Tells everybody of revocations that were committed elsewhere than here."""
        revocations = await self._store.revocations_after(self._feed.revision)
        for revocation in revocations:
            self._verdicts.drop(revocation.digest)
        if revocations:
            self._feed.extend((revocation.revision, revocation.key_id) for revocation in revocations)

    def scope_changed(self, scope: str) -> None:
        """Has every verdict about this key, project or account asked for anew: its limits or budgets have changed."""
        self._tell(scope)

    def _tell(self, scope: str) -> None:
        self._verdicts.drop_scope(scope)
        self._feed.changed(scope)

    async def _may_create(self, creator: str, new: NewKey, project_id: str) -> Key:
        """The creator of a key that gets nothing which its creator has not."""
        parent = await self._named(creator)
        if parent.revoked is not None or (parent.expires is not None and parent.expires <= new.created):
            raise _not_permitted("creator_key", "a key that has ended creates no keys")
        if project_id not in {"", parent.project_id}:
            raise _not_permitted("project_id", "a key creates keys in its own project only")
        if await self._store.binds_itself(parent.id):
            raise _not_permitted("creator_key", "a key with limits or a budget of its own creates no keys")
        for param in excess(Grant(new.models, new.expires, new.scope), parent.grant):
            raise _not_permitted(param, f"a key grants no more than its creator has: {param}")
        return parent

    async def check_bound(self, key_id: str, wanted: str) -> None:
        """Refuses a key with limits or a budget of its own the secret of another, which they would not bind.

        Raises:
            MeshError: REASON_NOT_PERMITTED.
        """
        if key_id != wanted and await self._store.binds_itself(key_id):
            raise _not_permitted("key", "a key with limits or a budget of its own gets no other key's secret")

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

    async def _revoke(self, key_id: str, also: Also[Changed]) -> Key:
        known = self._feed.revision
        key, revocations = await self._store.revoke(key_id, at=self._micros(), known=known, also=also)
        for revocation in revocations:
            self._verdicts.drop(revocation.digest)
        self._feed.extend((revocation.revision, revocation.key_id) for revocation in revocations)
        return key

    def _micros(self) -> int:
        return round(self._now() * 1e6)


def _not_permitted(param: str, message: str) -> MeshError:
    return MeshError(errors_pb2.REASON_NOT_PERMITTED, message, metadata={"param": param})


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
