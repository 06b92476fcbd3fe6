"""What administrators do with keys: what the keyring does, and a line in the journal for each change."""

from collections.abc import Collection
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Connection

from polyroute.auth import messages
from polyroute.auth.admin.etags import check_etag, etag_of
from polyroute.auth.admin.journal import Change, Journal
from polyroute.auth.admin.paging import Page
from polyroute.auth.database import Also
from polyroute.auth.keyring import NEVER_CHANGED, OVERLAP_SECONDS, Keyring
from polyroute.auth.keys import Changed, Key
from polyroute.auth.people.actors import Admission, How
from polyroute.auth.people.bounds import check_gift
from polyroute.auth.scopes import Grant, Scope

ENDS: Final = frozenset({"revoked", "revoke_time", "expire_time"})  # whoever asks for one means ended keys as well


class KeyDesk:
    """Keys, for administrators.

    Args:
        keyring: Does the work.
        journal: Where changes are written down.
    """

    def __init__(self, keyring: Keyring, journal: Journal) -> None:
        self._keyring = keyring
        self._journal = journal

    async def issue(self, by: Admission, **wanted: Any) -> tuple[Key, str]:
        """A new key and its secret; see `Keyring.create`. A key creates keys as their creator, whatever it says.

        Raises:
            MeshError: REASON_NOT_PERMITTED, it would administer more than the caller.
        """
        check_gift(by, Grant(scope=wanted.get("scope", Scope())), only_role=True)
        if by.actor.how is How.KEY:
            wanted["creator"] = by.actor.id
        wanted["request_id"] = by.actor.own(wanted.get("request_id", ""))
        return await self._keyring.create(**wanted, also=self._noting(by, "IssueKey"))

    async def get(self, name: str) -> Key:
        """The key with this id or prefix."""
        return await self._keyring.get(name)

    async def search(self, page: Page, token: str, *, show_ended: bool) -> tuple[list[Key], str]:
        """A page of keys, newest first."""
        return await self._keyring.page(
            wanted=page.wanted,
            size=page.size,
            token=token,
            show_ended=show_ended or not ENDS.isdisjoint(page.named),
            reach=page.reach,
            oldest=page.oldest,
        )

    async def update(
        self, by: Admission, key_id: str, *, etag: str = "", parts: Collection[str] = (), **values: Any
    ) -> Key:
        """The key, changed; see `Keyring.update`.

        Args:
            by: Who does.
            key_id: Which.
            etag: That it must have; empty for any.
            parts: What of the scope is changed; none for all of it.
            values: As of `Keyring.update`.

        Raises:
            MeshError: REASON_NOT_PERMITTED, it would be allowed more than the caller may give; REASON_CHANGED, it has
                another etag, or another one by now.
        """
        known = await self._keyring.get(key_id)
        now = known.grant
        if parts:  # what stays was read here, and must still be so when it is written
            etag = etag or etag_of(messages.key(known))
            wanted_parts = {name: getattr(values["scope"], name) for name in parts}
            values["scope"] = replace(known.scope, **wanted_parts)
        expires = values.get("expires", NEVER_CHANGED)
        wanted = Grant(
            values.get("models", now.models),
            now.expires if expires == NEVER_CHANGED else expires,
            values.get("scope", now.scope),
        )
        check_gift(by, wanted)
        return await self._keyring.update(key_id, **values, also=self._noting(by, "UpdateKey", etag))

    async def rotate(self, by: Admission, name: str, overlap: float | None) -> tuple[Key, str]:
        """The key and its new secret; an overlap of None means the usual one.

        Raises:
            MeshError: REASON_NOT_PERMITTED: with the secret, the caller would have more than they have.
        """
        wanted = await self._keyring.get(name)
        check_gift(by, wanted.grant)
        if by.actor.how is How.KEY:
            await self._keyring.check_bound(by.actor.id, wanted.id)
        seconds = OVERLAP_SECONDS if overlap is None else overlap
        return await self._keyring.rotate(name, seconds, self._noting(by, "RotateKey"))

    async def end(self, by: Admission, name: str, etag: str = "") -> Key:
        """The key, revoked.

        Raises:
            MeshError: REASON_CHANGED, it works still, and has another etag.
        """
        return await self._keyring.revoke(name, self._noting(by, "EndKey", etag))

    def _noting(self, by: Admission, action: str, etag: str = "") -> Also[Changed]:
        """Writes a change of a key down, in its transaction, unless it has another etag than one that was read."""

        def note(connection: Connection, changed: Changed) -> None:
            was = messages.key(changed.before) if changed.before else None
            check_etag(was, etag, changed.after.id)
            change = Change(by.actor.name, action, changed.after.id, was, messages.key(changed.after))
            self._journal.record(connection, change)

        return note
