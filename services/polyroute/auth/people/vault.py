"""Vendors' keys that were entered at run time: sealed before they are written, and not to be opened here."""

import time
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, delete, insert, select, tuple_
from sqlalchemy.engine import RowMapping

from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth import schema
from polyroute.auth.admin import journal
from polyroute.auth.admin.journal import Change
from polyroute.auth.admin.paging import Page, token
from polyroute.auth.database import Database
from polyroute.auth.people import messages
from polyroute.auth.people.known import VendorKey
from polyroute.mesh.errors import MeshError
from polyroute.mesh.sealing import PublicKey, SealError, sealed_for

_V: Final = schema.vendor_keys.c


class Vault:
    """Keeps vendors' keys.

    Args:
        database: Where.
        public_key: File with the public key of the providers role; read at each use: a rotation needs no restart.
        now: Wall clock, seconds since the Unix epoch.
    """

    def __init__(self, database: Database, public_key: Path, *, now: Callable[[], float] = time.time) -> None:
        self._database = database
        self._public_key = public_key
        self._now = now

    async def put(self, actor: str, provider: str, name: str, secret: str, sealed: bytes) -> VendorKey:
        """Enters a key, in the place of the one of that name.

        Args:
            actor: Who.
            provider: The vendor account.
            name: For people.
            secret: The key; empty where `sealed` is given.
            sealed: The key, sealed already for the key that is in use.

        Raises:
            MeshError: REASON_INVALID_REQUEST: neither or both, or sealed for another key; REASON_NO_DEPLOYMENT: nobody
                has said for whom to seal.
        """
        public = self._sealer()
        if bool(secret.strip()) == bool(sealed):
            raise _invalid("secret", "give the key, or the sealed key")
        if sealed:
            _check_sealed(sealed, public)
        envelope = sealed or public.seal(secret.strip().encode(), provider, name)
        key = VendorKey(provider, name, public.id, round(self._now() * 1e6), envelope)

        def work(connection: Connection) -> None:
            before = _find(connection, provider, name)
            connection.execute(delete(schema.vendor_keys).where(_V.provider == provider, _V.name == name))
            row = {
                "provider": provider,
                "name": name,
                "sealed": envelope,
                "sealing_key_id": public.id,
                "created": key.created,
            }
            connection.execute(insert(schema.vendor_keys).values(row))
            was = messages.vendor_key(before) if before else None
            change = Change(actor, "PutVendorKey", provider, was, messages.vendor_key(key))
            journal.record(connection, change, key.created)

        await self._database.write(work)
        return key

    async def page(self, provider: str, page: Page) -> tuple[list[VendorKey], str]:
        """A page of keys by provider and name, and the token that asks for the next; empty on the last."""
        query = select(schema.vendor_keys).order_by(_V.provider, _V.name).limit(page.size + 1)
        if provider:
            query = query.where(_V.provider == provider)
        if len(page.after) == 2:
            query = query.where(tuple_(_V.provider, _V.name) > tuple_(*page.after))
        rows = await self._database.read(lambda connection: connection.execute(query).mappings().all())
        found = [_key(row) for row in rows[: page.size]]
        return found, token(found[-1].provider, found[-1].name) if len(rows) > page.size else ""

    async def remove(self, actor: str, provider: str, name: str) -> None:
        """Takes a key out, if it is there."""

        def work(connection: Connection) -> None:
            before = _find(connection, provider, name)
            if before is None:
                return
            connection.execute(delete(schema.vendor_keys).where(_V.provider == provider, _V.name == name))
            change = Change(actor, "DeleteVendorKey", provider, messages.vendor_key(before), None)
            journal.record(connection, change, round(self._now() * 1e6))

        await self._database.write(work)

    async def all(self) -> tuple[str, list[VendorKey]]:
        """Every key, and what tells this set from any other."""
        query = select(schema.vendor_keys).order_by(_V.provider, _V.name)
        rows = await self._database.read(lambda connection: connection.execute(query).mappings().all())
        digest = blake2b(digest_size=16)
        for row in rows:
            digest.update(f"{row['provider']}\0{row['name']}\0".encode() + row["sealed"])
        return digest.hexdigest(), [_key(row) for row in rows]

    def _sealer(self) -> PublicKey:
        try:
            return PublicKey.read(self._public_key.read_text(encoding="ascii").strip())
        except (OSError, ValueError, SealError) as error:
            message = f"vendors' keys cannot be sealed: no public key in {self._public_key}"
            raise MeshError(errors_pb2.REASON_NO_DEPLOYMENT, message) from error


def _check_sealed(envelope: bytes, public: PublicKey) -> None:
    try:
        key_id = sealed_for(envelope)
    except SealError as error:
        raise _invalid("sealed", str(error)) from None
    if key_id != public.id:
        raise _invalid("sealed", f"it was sealed for {key_id}, and {public.id} is in use")


def _find(connection: Connection, provider: str, name: str) -> VendorKey | None:
    query = select(schema.vendor_keys).where(_V.provider == provider, _V.name == name)
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else _key(row)


def _key(row: RowMapping) -> VendorKey:
    return VendorKey(row["provider"], row["name"], row["sealing_key_id"], row["created"], row["sealed"])


def _invalid(param: str, message: str) -> MeshError:
    return MeshError(errors_pb2.REASON_INVALID_REQUEST, message, metadata={"param": param})
