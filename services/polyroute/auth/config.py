"""What an operator may set of the auth role."""

import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import ConfigDict, Field, SecretStr, field_validator, model_validator

from polyroute.auth import keys
from polyroute.auth.people.config import Certificate, OidcConfig
from polyroute.mesh.config import Section

REDIS_SCHEMES: Final = ("redis", "rediss", "valkey", "valkeys", "unix")
_DOLLARS: Final = re.compile(r"(\d{1,9})(?:\.(\d{1,9}))? ?USD")
Name = Annotated[str, Field(min_length=1, max_length=128)]


class AuthConfig(Section):
    """Settings of the auth role; every one has a default that suits one machine."""

    model_config = ConfigDict(hide_input_in_errors=True)  # a mistake in `bootstrap_key` must not print the key

    database: Path | None = Field(
        default=None,
        description="SQLite file of accounts, projects and keys; default: `auth.db` in the data directory",
    )
    redis: SecretStr = Field(
        default=SecretStr(""),
        description="where several auth roles count limits together, such as `redis://user:password@host:6379/0` "
        "(also `rediss`, `valkey`, `unix`); empty: one auth role counts in its memory",
    )
    fresh_for: float = Field(
        default=30.0, gt=0, le=3600, description="seconds for which a verdict may be used without asking again"
    )
    usable_for: float = Field(
        default=300.0, gt=0, le=86400, description="seconds for which a verdict may be used while auth does not answer"
    )
    bootstrap_key: str = Field(
        default="",
        repr=False,
        description="a key that exists from the first start on, in the default project: `pr-` and at least 43 "
        "characters of `A-Z a-z 0-9 _ -`; empty: a random one is made and shown once",
    )
    alerts_to_private_addresses: bool = Field(
        default=False,
        description="messages of alerts may go to addresses inside of our own network, and over plain HTTP",
    )
    bootstrap_account: Name = Field(default="default", description="name of the account that the first start creates")
    bootstrap_project: Name = Field(default="default", description="name of the project that the first start creates")

    registration: Literal["closed", "invited", "open"] = Field(
        default="closed", description="who may register: nobody, whoever has an invitation, or everybody"
    )
    trial_quota: int = Field(
        default=0,
        ge=0,
        le=10**18,
        description="what the account of somebody who registers may spend before they pay, such as `1.00 USD`; a bare "
        "number is nano-USD",
    )
    access_token_for: float = Field(default=600.0, ge=10, le=3600, description="seconds that an access token works")
    session_for: float = Field(
        default=30 * 86_400.0, ge=60, le=366 * 86_400, description="seconds after which one must sign in again"
    )
    password_memory: int = Field(default=65_536, ge=8, le=4_194_304, description="KiB that checking a password takes")
    password_rounds: int = Field(default=3, ge=1, le=64, description="how often it goes over that memory")
    oidc: dict[Name, OidcConfig] = Field(default_factory=dict, description="identity providers, by name")
    certificates: dict[Name, Certificate] = Field(
        default_factory=dict,
        description="name in a client certificate -> what its holder may do in administration without any other "
        "credential; needs `mesh.tls`, and must never name the edge's certificate",
    )
    sealing_key: Path | None = Field(
        default=None,
        description="public key for which vendors' keys are sealed; default: `vendor-keys.pub` in the data directory, "
        "which the providers role of the same machine writes",
    )

    @field_validator("trial_quota", mode="before")
    @classmethod
    def _read_money(cls, given: Any) -> Any:
        if not isinstance(given, str) or given.isdecimal():
            return given
        match = _DOLLARS.fullmatch(given.strip())
        if match is None:
            raise ValueError("an amount is nano-USD, or such as `1.00 USD` with at most nine decimals")
        return int(match[1]) * 10**9 + int((match[2] or "").ljust(9, "0"))

    @field_validator("bootstrap_key")
    @classmethod
    def _check_form(cls, secret: str) -> str:
        if secret and not keys.well_formed(secret):
            raise ValueError(f"a key is {keys.FORM}")
        return secret

    @field_validator("redis")
    @classmethod
    def _check_redis(cls, url: SecretStr) -> SecretStr:
        scheme, found, _ = url.get_secret_value().partition("://")
        if url.get_secret_value() and (not found or scheme not in REDIS_SCHEMES):
            raise ValueError("must begin with redis://")
        return url

    @model_validator(mode="after")
    def _check_times(self) -> Self:
        if self.usable_for < self.fresh_for:
            raise ValueError("usable_for must not be shorter than fresh_for")
        return self
