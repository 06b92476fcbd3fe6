"""What administrators do with keys: what the keyring does, and a line in the journal for each change."""

from typing import Any, Final

from polyroute.auth import messages
from polyroute.auth.admin.journal import Change, Journal
from polyroute.auth.admin.paging import Page
from polyroute.auth.keyring import NEVER_CHANGED, OVERLAP_SECONDS, Keyring
from polyroute.auth.keys import Key
from polyroute.auth.people.actors import Admission, How
from polyroute.auth.people.bounds import check_gift
from polyroute.auth.scopes import Grant, Scope

KEY_FIELDS: Final = ("project_id",)


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
        key, secret = await self._keyring.create(**wanted)
        if secret:
            await self._note(by, "IssueKey", None, key)
        return key, secret

    async def get(self, name: str) -> Key:
        """The key with this id or prefix."""
        return await self._keyring.get(name)

    async def search(self, page: Page, token: str, *, show_ended: bool) -> tuple[list[Key], str]:
        """A page of keys, newest first."""
        return await self._keyring.page(
            project_id=page.wanted.get("project_id", ""),
            size=page.size,
            token=token,
            show_ended=show_ended,
            reach=page.reach,
            oldest=page.oldest,
        )

    async def update(self, by: Admission, key_id: str, **values: Any) -> Key:
        """The key, changed; see `Keyring.update`.

        Raises:
            MeshError: REASON_NOT_PERMITTED, it would be allowed more than the caller may give.
        """
        now = (await self._keyring.get(key_id)).grant
        expires = values.get("expires", NEVER_CHANGED)
        wanted = Grant(
            values.get("models", now.models),
            now.expires if expires == NEVER_CHANGED else expires,
            values.get("scope", now.scope),
        )
        check_gift(by, wanted)
        before, after = await self._keyring.update(key_id, **values)
        await self._note(by, "UpdateKey", before, after)
        return after

    async def rotate(self, by: Admission, name: str, overlap: float | None) -> tuple[Key, str]:
        """The key and its new secret; an overlap of None means the usual one.

        Raises:
            MeshError: REASON_NOT_PERMITTED: with the secret, the caller would have more than they have.
        """
        wanted = await self._keyring.get(name)
        check_gift(by, wanted.grant)
        if by.actor.how is How.KEY:
            await self._keyring.check_bound(by.actor.id, wanted.id)
        key, secret = await self._keyring.rotate(name, OVERLAP_SECONDS if overlap is None else overlap)
        await self._note(by, "RotateKey", key, key)
        return key, secret

    async def end(self, by: Admission, name: str) -> Key:
        """The key, revoked."""
        before = await self._keyring.get(name)
        key = await self._keyring.revoke(name)
        if before.revoked is None:
            await self._note(by, "EndKey", before, key)
        return key

    async def _note(self, by: Admission, action: str, before: Key | None, after: Key) -> None:
        was = messages.key(before) if before else None
        await self._journal.record(Change(by.actor.name, action, after.id, was, messages.key(after)))
