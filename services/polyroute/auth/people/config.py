"""What an operator may set about people."""

from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator

from polyroute.mesh.config import Section

RoleName = Literal["owner", "admin", "member", "viewer", "billing"]
Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"]
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
Url = Annotated[str, Field(pattern=r"^https?://[^\s?#@]+$")]


def secure(url: str, *, loopback: bool = True) -> bool:
    """Whether nobody can listen on the way to an address: TLS, or this machine.

    Args:
        url: The address.
        loopback: This machine will do without TLS.
    """
    if not url.isascii() or not url.isprintable() or " " in url:  # which a parser may leave out, and a client not
        return False
    try:
        parts = urlsplit(url)
        host, user = parts.hostname, parts.username
    except ValueError:
        return False
    if not host or user is not None:
        return False
    return parts.scheme == "https" or (loopback and parts.scheme == "http" and host in _LOOPBACK)


class OidcConfig(Section):
    """An identity provider (OpenID Connect)."""

    issuer: Url = Field(description="its address, exactly as its discovery document and tokens say it")
    client_id: str = Field(min_length=1, description="as which the gateway is registered there")
    client_secret: SecretStr = Field(default=SecretStr(""), description="empty for a public client")
    redirect_uri: Url = Field(
        description="where the provider sends people back to, such as "
        "`https://gateway.example.com/admin/v1/oidc/callback`; registered there"
    )
    scopes: tuple[str, ...] = Field(default=("openid", "email", "profile"), description="what is asked for")
    algorithms: tuple[Algorithm, ...] = Field(
        default=("RS256", "PS256", "ES256", "EdDSA"),
        min_length=1,
        description="by which its tokens may be signed",
    )
    create: bool = Field(default=True, description="people who come for the first time are created")
    link_by_email: bool = Field(
        default=False,
        description="somebody who is new here but whose verified address is that of a person with a verified address "
        "is that person",
    )
    account: str = Field(
        default="", max_length=64, description="the account its people are in; empty: one of their own"
    )
    role: RoleName = Field(default="member", description="what they are in it, where no group says otherwise")
    groups_claim: str = Field(default="groups", min_length=1, description="the claim that lists a person's groups")
    groups: dict[str, RoleName] = Field(
        default_factory=dict,
        description="group -> role in `account`, decided anew at each sign-in; with any, a person in none of them is "
        "not in the account",
    )

    @model_validator(mode="after")
    def _check(self) -> "OidcConfig":
        if not secure(self.issuer):
            raise ValueError("issuer must be an https address")
        if not secure(self.redirect_uri):
            raise ValueError("redirect_uri must be an https address")
        if self.groups and not self.account:
            raise ValueError("groups give roles in an account: name it")
        if "openid" not in self.scopes:
            raise ValueError("scopes must have openid")
        return self


class Certificate(Section):
    """What the holder of a client certificate may do."""

    account: str = Field(default="", max_length=64, description="in which account; empty means the whole installation")
    role: RoleName = Field(default="viewer", description="in that account; without one, everything")
