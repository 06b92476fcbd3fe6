"""Vendors' keys that were entered at run time: fetched sealed from auth, opened here and nowhere else.

The private keys are in a file that only this role reads, one a line, the one in use first. The public one is beside it,
for whoever seals. What was fetched last is kept, still sealed, beside them too: a process that starts while auth is
away has the keys that it had.
"""

import asyncio
import base64
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import orjson
import structlog
from pydantic import SecretStr

from polyroute.api.auth.v1 import vault_pb2 as pb
from polyroute.api.auth.v1 import vault_pb2_grpc
from polyroute.mesh.files import write_private
from polyroute.mesh.roles import ConfigError
from polyroute.mesh.sealing import Opener, PrivateKey, SealError
from polyroute.providers.config import ProviderConfig

PRIVATE: Final = "vendor-keys.key"
PUBLIC: Final = "vendor-keys.pub"
KEPT: Final = "vendor-keys.sealed"
POLL_SECONDS: Final = 2.0
ASK_SECONDS: Final = 5.0
_OTHERS: Final = 0o007  # the group may read: volume managers hand files to a process by its group

Load = Callable[[], Mapping[str, ProviderConfig]]
Check = Callable[[str, ProviderConfig], object]

_log = structlog.get_logger("providers")


class KeyFileError(ConfigError):
    """The file of private keys cannot be used as it is."""


@dataclass(frozen=True)
class KeyFile:
    """The private keys of this role and the public one beside them.

    Attributes:
        folder: Where they are.
    """

    folder: Path

    @property
    def public(self) -> Path:
        """The file that whoever seals reads."""
        return self.folder / PUBLIC

    def load_or_create(self) -> Opener:
        """The keys; one is made now when there is none.

        Raises:
            KeyFileError: The file cannot be read, or any user of the machine may read it.
        """
        path = self.folder / PRIVATE
        if not path.exists():
            write_private(path, (PrivateKey.fresh().text + "\n").encode(), once=True)
        opener = self._read(path)
        self._publish(opener)
        return opener

    def rotate(self) -> Opener:
        """Puts a new key before the others: it seals from now on, they open what was sealed before.

        Raises:
            KeyFileError: As `load_or_create`.
        """
        keys = (PrivateKey.fresh(), *self.load_or_create().keys)
        write_private(self.folder / PRIVATE, "".join(f"{key.text}\n" for key in keys).encode())
        return self.load_or_create()

    def forget_old(self) -> int:
        """Drops every key but the one in use, once nothing is sealed for them any more; how many."""
        keys = self.load_or_create().keys
        write_private(self.folder / PRIVATE, f"{keys[0].text}\n".encode())
        return len(keys) - 1

    def _read(self, path: Path) -> Opener:
        if path.stat().st_mode & _OTHERS:
            raise KeyFileError(f"{path} is open to every user of this machine: chmod 600 it")
        try:
            lines = path.read_text(encoding="ascii").split()
            return Opener([PrivateKey.read(line) for line in lines])
        except (OSError, ValueError, SealError) as error:
            raise KeyFileError(f"{path}: {error}") from None

    def _publish(self, opener: Opener) -> None:
        if not opener.keys:
            raise KeyFileError(f"{self.folder / PRIVATE} holds no key")
        text = f"{opener.keys[0].public}\n"
        if not self.public.exists() or self.public.read_text(encoding="ascii") != text:
            write_private(self.public, text.encode())


class SealedKeys:
    """The keys of vendors that were entered at run time.

    Args:
        files: The keys that open them.
        channel: To auth.
        kept: Where what was fetched last is kept, sealed.
    """

    def __init__(self, files: KeyFile, channel: grpc.aio.Channel, kept: Path) -> None:
        self._files = files
        self._stub = vault_pb2_grpc.VaultServiceStub(channel)
        self._kept = kept
        self._revision = ""
        self._sealed: Mapping[tuple[str, str], bytes] = self._remembered()
        files.load_or_create()  # so that there is a public key before anybody has one to seal

    def joined(self, load: Load, check: Check) -> Load:
        """What `load` says, with the keys of the vault behind its own, and accounts that only the vault has.

        Args:
            load: The configuration.
            check: Says whether an account can be as it is; one that cannot stays as the configuration has it, so that a
                key which was entered wrongly takes nothing from the others.
        """

        def loaded() -> Mapping[str, ProviderConfig]:
            providers = dict(load())
            for provider, secrets in self._opened().items():
                config = providers.get(provider, ProviderConfig())
                wanted = config.model_copy(update={"keys": (*config.keys, *secrets)})
                try:
                    check(provider, wanted)
                except ConfigError as error:
                    _log.error("vendor keys cannot be used", provider=provider, reason=str(error))
                    continue
                providers[provider] = wanted
            return providers

        return loaded

    async def follow(self, reload: Callable[[], Awaitable[None]], *, interval: float = POLL_SECONDS) -> None:
        """Calls `reload` whenever there are other keys than before."""
        while True:
            if await self.fetch():
                await reload()
            await asyncio.sleep(interval)

    async def fetch(self) -> bool:
        """Whether auth has other keys than before; while it does not answer, those of before stay."""
        request = pb.FetchVendorKeysRequest(revision=self._revision)
        try:
            answer: pb.FetchVendorKeysResponse = await self._stub.FetchVendorKeys(request, timeout=ASK_SECONDS)
        except grpc.aio.AioRpcError as error:
            _log.debug("vendor keys not fetched", code=error.code().name)
            return False
        if answer.unchanged:
            return False
        before = self._sealed
        self._sealed = {(key.provider, key.name): key.sealed for key in answer.keys}
        self._revision = answer.revision
        if before == self._sealed:
            return False
        await asyncio.to_thread(self._remember)
        return True

    def _opened(self) -> Mapping[str, tuple[SecretStr, ...]]:
        """The keys by vendor account; one that cannot be opened is told of and left out."""
        if not self._sealed:
            return {}
        opener = self._files.load_or_create()
        found: dict[str, tuple[SecretStr, ...]] = {}
        for (provider, name), sealed in self._sealed.items():
            try:
                secret = SecretStr(opener.open(sealed, provider, name).decode())
            except (SealError, UnicodeDecodeError) as error:
                _log.error("vendor key cannot be opened", provider=provider, key_name=name, reason=str(error))
                continue
            found[provider] = (*found.get(provider, ()), secret)
        return found

    def _remember(self) -> None:
        rows = [[*names, base64.b64encode(sealed).decode()] for names, sealed in self._sealed.items()]
        write_private(self._kept, orjson.dumps(rows))

    def _remembered(self) -> Mapping[tuple[str, str], bytes]:
        try:
            rows: list[Any] = orjson.loads(self._kept.read_bytes())
            return {(provider, name): base64.b64decode(sealed) for provider, name, sealed in rows}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError) as error:
            _log.warning("kept vendor keys cannot be read", reason=type(error).__name__)
            return {}
