"""How commands ask AdminService: over the mesh on this machine, over HTTP anywhere else."""

import functools
import inspect
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from polyroute.cli import sessions
from polyroute.cli.options import AsJson, ConfigFile, DataDir, settings
from polyroute.mesh.roles import ConfigError

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from polyroute.cli.config import Config

SECONDS: Final = 30.0
ENVIRONMENT: Final = "POLYROUTE_ADMIN"
PAGE: Final = 1000

Address = Annotated[
    str,
    typer.Option(
        help="HTTP door of a gateway that is elsewhere, such as https://gateway:8080 [default: this machine's]"
    ),
]
Secret = Annotated[
    str,
    typer.Option(
        envvar=ENVIRONMENT,
        help="admin secret, or access token [default: who is signed in, or the secret of this machine's database]",
    ),
]


class Desk:
    """Where a command's questions go, and how its answers are printed.

    Args:
        config: Of the gateway of this machine.
        address: Of one that is elsewhere; empty for this machine's.
        secret: What is presented; empty for the secret beside the database.
        as_json: Answers are for programs.
    """

    def __init__(self, config: "Config", address: str = "", secret: str = "", *, as_json: bool = False) -> None:
        self.config = config
        self.as_json = as_json
        self._address = address.rstrip("/")
        self._secret = secret
        if address and not address.startswith(("http://", "https://")):
            raise ConfigError(f"--address: {address!r} is not an address such as https://gateway:8080")

    @property
    def trusted(self) -> bool:
        """No credential is at hand, but the gateway is this machine's, or the mesh's token is known."""
        at_hand = self._secret or self._readable() or sessions.signed_in(self.gateway)
        return not self._address and not at_hand

    @property
    def presents(self) -> bool:
        """Somebody has said who they are, or which gateway they mean; otherwise it is whoever runs this machine's."""
        return bool(self._address or self._secret or sessions.signed_in(self.gateway))

    @property
    def gateway(self) -> str:
        """Which gateway it is, as sessions are kept for it."""
        return self._address or str(self.config.data_dir.absolute())

    @property
    def door(self) -> str:
        """The HTTP door of the gateway."""
        return self._address or f"http://{self.config.edge.http.listen}"

    @property
    def secret(self) -> str:
        """What is presented: what was given; else the token of who is signed in; else this machine's admin secret.

        Raises:
            ConfigError: There is none.
        """
        if self._secret:
            return self._secret
        if token := sessions.token(self):
            return token
        if self._address:
            raise ConfigError(
                f"sign in (polyroute sign-in), or give the admin secret: --admin-secret, or ${ENVIRONMENT}"
            )
        try:
            return self._file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ConfigError(
                f"no admin secret: {self._file}: {error.strerror}; start a gateway here (polyroute up), "
                f"or give --admin-secret or ${ENVIRONMENT}"
            ) from None

    @property
    def _file(self) -> Path:
        database = self.config.auth.database or self.config.data_dir / "auth.db"
        return database.with_name(f"{database.name}.admin")

    def _readable(self) -> bool:
        return os.access(self._file, os.R_OK)

    def ask(self, name: str, request: "Message") -> Any:
        """The answer to a request of AdminService; a refusal ends the program with what it says.

        Args:
            name: The method.
            request: What it is asked.
        """
        return self._ask(name, request, self.secret)

    def ask_openly(self, name: str, request: "Message") -> Any:
        """The same, of a method that takes no credential."""
        return self._ask(name, request, "")

    def _ask(self, name: str, request: "Message", secret: str) -> Any:
        from polyroute.cli import asking

        if self._address:
            return asking.over_http(self._address, secret, name, request)
        return asking.over_mesh(self.config, secret, name, request)

    def pages(self, name: str, request: Any, most: int = 0) -> Iterator[Any]:
        """The things of every page of a list.

        Args:
            name: The method.
            request: For the first page.
            most: How many; 0 for all.
        """
        left = most
        while True:
            request.page_size = min(left, PAGE) if most else PAGE
            page = self.ask(name, request)
            (things,) = [value for field, value in page.ListFields() if field.is_repeated] or [()]
            yield from things
            left -= len(things)
            request.page_token = page.next_page_token
            if not request.page_token or (most and left <= 0):
                return


def administrative(work: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options by which it reaches a gateway; the command itself gets a `Desk` first."""

    @functools.wraps(work)
    def command(
        *arguments: Any,
        config_file: Path | None,
        data_dir: Path | None,
        address: str,
        admin_secret: str,
        as_json: bool,
        **named: Any,
    ) -> None:
        work(Desk(settings(config_file, data_dir), address, admin_secret, as_json=as_json), *arguments, **named)

    own = list(inspect.signature(work).parameters.values())[1:]
    added = {
        "address": (Address, ""),
        "admin_secret": (Secret, ""),
        "as_json": (AsJson, False),
        "config_file": (ConfigFile, None),
        "data_dir": (DataDir, None),
    }
    keyword = inspect.Parameter.KEYWORD_ONLY
    more = [inspect.Parameter(name, keyword, default=value, annotation=kind) for name, (kind, value) in added.items()]
    parameters = [one.replace(kind=keyword) for one in own] + more
    vars(command)["__signature__"] = inspect.Signature(parameters)
    command.__annotations__ = {one.name: one.annotation for one in parameters}
    return command
