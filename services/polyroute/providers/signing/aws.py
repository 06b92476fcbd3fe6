"""Where credentials for Signature Version 4 come from: a key, the environment, a shared file, or the machine itself.

The order is that of the vendor's own tools: https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html.
Containers, instances, single sign-on and roles to be assumed need `botocore` (the extra `bedrock`), which knows all.
"""

import asyncio
import configparser
import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from polyroute.api.errors.v1 import errors_pb2
from polyroute.mesh.errors import MeshError
from polyroute.providers.signing.lasting import Lasting, Renewed
from polyroute.providers.signing.sigv4 import Credentials

BEARER_ENV: Final = "AWS_BEARER_TOKEN_BEDROCK"
# How often files and the machine are asked again. botocore renews keys ten minutes before they expire at the latest,
# so what it gives is good for longer than this.
_SECONDS: Final = 300.0
_EARLY: Final = 150.0
_NEEDS_MORE: Final = ("role_arn", "credential_process", "sso_session", "sso_start_url", "web_identity_token_file")


def parse_key(secret: str) -> Credentials:
    """A key pair written as `ID:SECRET` or `ID:SECRET:TOKEN`.

    Raises:
        MeshError: FAULT_CREDENTIAL when it is neither.
    """
    parts = secret.strip().split(":", 2)
    if len(parts) < 2 or not all(parts):
        raise _none("the key is not of the form id:secret or id:secret:token")
    return Credentials(*parts)


def api_key(environment: Mapping[str, str]) -> str:
    """The API key in the environment, which stands instead of a signature; empty when there is none."""
    return environment.get(BEARER_ENV, "").strip()


def from_environment(environment: Mapping[str, str]) -> Credentials | None:
    """The key pair in the environment; None when it holds no whole one."""
    access, secret = environment.get("AWS_ACCESS_KEY_ID", ""), environment.get("AWS_SECRET_ACCESS_KEY", "")
    if not access or not secret:
        return None
    return Credentials(access, secret, environment.get("AWS_SESSION_TOKEN", ""))


def from_files(environment: Mapping[str, str], home: Path) -> Credentials | None:
    """The key pair of the profile in the shared files; None when they hold none, or something that leads to one."""
    profile = environment.get("AWS_PROFILE") or environment.get("AWS_DEFAULT_PROFILE") or "default"
    folder = home / ".aws"
    places = (
        (environment.get("AWS_SHARED_CREDENTIALS_FILE") or str(folder / "credentials"), profile),
        (environment.get("AWS_CONFIG_FILE") or str(folder / "config"), _section(profile)),
    )
    found: dict[str, str] = {}
    for path, section in places:
        for name, value in _read(Path(path).expanduser(), section).items():
            found.setdefault(name, value)
    if any(name in found for name in _NEEDS_MORE):
        return None
    access, secret = found.get("aws_access_key_id", ""), found.get("aws_secret_access_key", "")
    return Credentials(access, secret, found.get("aws_session_token", "")) if access and secret else None


def _section(profile: str) -> str:
    """The name of a profile in the configuration file, which has other sections as well."""
    return profile if profile == "default" else f"profile {profile}"


def _read(path: Path, section: str) -> Mapping[str, str]:
    parser = configparser.RawConfigParser(strict=False, default_section="")
    try:
        parser.read_string(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError):
        return {}
    except configparser.Error as error:
        raise _none(f"the file {path.name} of shared credentials cannot be read: {type(error).__name__}") from None
    return dict(parser[section]) if parser.has_section(section) else {}


def load_botocore() -> Any:
    """The module `botocore.session`; None when it is not installed."""
    try:
        return importlib.import_module("botocore.session")
    except ImportError:
        return None


class MachineCredentials:
    """The credentials of the environment, the files and the machine, asked for again every few minutes.

    Args:
        environment: The process's own.
        home: Where the shared files are.
        clock: Seconds that only grow.
        botocore: Gives the module `botocore.session`, or None.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        home: Path,
        *,
        clock: Callable[[], float],
        botocore: Callable[[], Any] = load_botocore,
    ) -> None:
        self._environment = environment
        self._home = home
        self._botocore = botocore
        self._chain: Any = None
        self._renewed = Renewed("aws", self._fetch, early=_EARLY, clock=clock)

    async def get(self) -> Credentials:
        """The credentials.

        Raises:
            MeshError: FAULT_CREDENTIAL when there are none.
        """
        return from_environment(self._environment) or await self._renewed.get()

    async def _fetch(self) -> Lasting[Credentials]:
        # reads files and asks over the network, in a library that waits: not on the event loop
        return Lasting(await asyncio.to_thread(self._look), _SECONDS)

    def _look(self) -> Credentials:
        found = from_files(self._environment, self._home) or self._from_machine()
        if found is None:
            raise _none("no aws credentials in the environment, the shared files or the machine")
        return found

    def _from_machine(self) -> Credentials | None:
        if self._chain is None:
            module = self._botocore()
            if module is None:
                raise _none(
                    "no aws credentials in the environment or the shared files;"
                    " those of containers, instances and roles need the extra bedrock (botocore)"
                )
            self._chain = _asked(lambda: module.get_session().get_credentials())
        if self._chain is None:
            return None
        chain = self._chain
        frozen = _asked(lambda: chain.get_frozen_credentials())  # renews what is about to expire
        if not frozen or not frozen.access_key or not frozen.secret_key:
            self._chain = None
            return None
        return Credentials(frozen.access_key, frozen.secret_key, frozen.token or "")


def _asked(work: Callable[[], Any]) -> Any:
    """What the library answers; whatever it raises, of which it has many kinds, is one fault here."""
    try:
        return work()
    except Exception as error:
        raise _none(f"the aws credentials of the machine cannot be had: {type(error).__name__}") from error


def _none(message: str) -> MeshError:
    return MeshError.upstream(errors_pb2.FAULT_CREDENTIAL, message)
