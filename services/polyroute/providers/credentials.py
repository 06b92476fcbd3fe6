"""How vendors want a credential presented: in a header, in the address, or as a signature over each request.

What is the same for every request of a key (`Presented`) is worked out once. What is not comes from a `Signer`, which
is asked before each attempt and answers from memory in nearly all cases.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol
from urllib.parse import quote

from polyroute.providers.http import Target
from polyroute.providers.traits import nothing

# Headers that make one request acceptable, from its target and body. Raises FAULT_CREDENTIAL when there are none.
Signer = Callable[[Target, bytes], Awaitable[Mapping[str, str]]]
_TOKEN: Final = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]*")  # a JSON Web Token: https://www.rfc-editor.org/rfc/rfc7519


@dataclass(frozen=True)
class Presented:
    """A credential as every request carries it. Its text shows nothing of it.

    Attributes:
        headers: Its headers.
        query: What stands in the address, without `?`; empty for most.
        sign: How each request is signed; None when it need not be.
    """

    headers: Mapping[str, str] = field(default_factory=nothing, repr=False)
    query: str = field(default="", repr=False)
    sign: Signer | None = field(default=None, repr=False)


class Signing(Protocol):
    """Makes signers; the providers role has one, nobody else needs any."""

    def aws(self, secret: str, *, service: str, region: str) -> Signer:
        """Signature Version 4 with a key pair `ID:SECRET[:TOKEN]`; with the machine's own credentials when empty."""
        ...

    def google(self, secret: str) -> Signer:
        """An access token for a service account's JSON, or for the file's path; the machine's own when empty."""
        ...


class Credential(Protocol):
    """A vendor's way."""

    @property
    def needless(self) -> bool:
        """Whether an account works without a key: the machine has credentials of its own."""
        ...

    def present(self, secret: str, settings: Mapping[str, str], signing: Signing | None) -> Presented:
        """A key as requests carry it.

        Args:
            secret: The key; empty for none.
            settings: The account's own settings.
            signing: Makes signers; without it nothing is signed.
        """
        ...


@dataclass(frozen=True)
class HeaderKey:
    """A key in a header.

    Attributes:
        header: Which one, lower case.
        scheme: What stands before the key.
        tokens: A JSON Web Token in the place of a key is an access token, and goes into `authorization`.
    """

    header: str = "authorization"
    scheme: str = "Bearer "
    tokens: bool = False
    needless: bool = False

    def present(self, secret: str, settings: Mapping[str, str], signing: Signing | None) -> Presented:
        """See `Credential.present`."""
        if not secret:
            return Presented()
        if self.tokens and _TOKEN.fullmatch(secret):
            return Presented({"authorization": f"Bearer {secret}"})
        return Presented({self.header: self.scheme + secret})


@dataclass(frozen=True)
class QueryKey:
    """A key in the address.

    Attributes:
        name: The parameter.
    """

    name: str
    needless: bool = False

    def present(self, secret: str, settings: Mapping[str, str], signing: Signing | None) -> Presented:
        """See `Credential.present`."""
        return Presented(query=f"{self.name}={quote(secret, safe='')}" if secret else "")


@dataclass(frozen=True)
class AwsKey:
    """An API key, or a signature by a key pair `ID:SECRET[:TOKEN]` or by the machine's own credentials.

    Attributes:
        service: Its name in signatures.
    """

    service: str
    needless: bool = True

    def present(self, secret: str, settings: Mapping[str, str], signing: Signing | None) -> Presented:
        """See `Credential.present`."""
        if secret and ":" not in secret:
            return Presented({"authorization": f"Bearer {secret}"})
        if signing is None:
            return Presented()
        return Presented(sign=signing.aws(secret, service=self.service, region=settings.get("region", "")))


@dataclass(frozen=True)
class GoogleKey:
    """An access token for a service account (its JSON, or its file), or for the machine's own account."""

    needless: bool = True

    def present(self, secret: str, settings: Mapping[str, str], signing: Signing | None) -> Presented:
        """See `Credential.present`."""
        return Presented(sign=signing.google(secret) if signing else None)
