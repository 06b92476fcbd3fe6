"""What administrators do with keys: what the keyring does, and a line in the journal for each change."""

from collections.abc import Mapping
from typing import Any, Final

from polyroute.auth.admin.journal import Change, Journal
from polyroute.auth.admin.paging import Page
from polyroute.auth.keyring import OVERLAP_SECONDS, Keyring
from polyroute.auth.keys import Key

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

    async def issue(self, actor: str, **wanted: Any) -> tuple[Key, str]:
        """A new key and its secret; see `Keyring.create`."""
        key, secret = await self._keyring.create(**wanted)
        if secret:
            await self._note(actor, "IssueKey", None, key)
        return key, secret

    async def get(self, name: str) -> Key:
        """The key with this id or prefix."""
        return await self._keyring.get(name)

    async def search(self, page: Page, token: str, *, show_ended: bool) -> tuple[list[Key], str]:
        """A page of keys, newest first."""
        return await self._keyring.page(
            project_id=page.wanted.get("project_id", ""), size=page.size, token=token, show_ended=show_ended
        )

    async def update(self, actor: str, key_id: str, **values: Any) -> Key:
        """The key, changed; see `Keyring.update`."""
        before, after = await self._keyring.update(key_id, **values)
        await self._note(actor, "UpdateKey", before, after)
        return after

    async def rotate(self, actor: str, name: str, overlap: float | None) -> tuple[Key, str]:
        """The key and its new secret; an overlap of None means the usual one."""
        key, secret = await self._keyring.rotate(name, OVERLAP_SECONDS if overlap is None else overlap)
        await self._note(actor, "RotateKey", key, key)
        return key, secret

    async def end(self, actor: str, name: str) -> Key:
        """The key, revoked."""
        before = await self._keyring.get(name)
        key = await self._keyring.revoke(name)
        if before.revoked is None:
            await self._note(actor, "EndKey", before, key)
        return key

    async def _note(self, actor: str, action: str, before: Key | None, after: Key) -> None:
        await self._journal.record(Change(actor, action, after.id, _state(before), _state(after)))


def _state(key: Key | None) -> Mapping[str, Any]:
    """A key as the journal keeps it: nothing secret is in it."""
    if key is None:
        return {}
    return {
        "project_id": key.project_id,
        "prefix": key.prefix,
        "name": key.name,
        "models": key.models,
        "expires": key.expires,
        "revoked": key.revoked,
        "scope": key.scope.to_json(),
    }
