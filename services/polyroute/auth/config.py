"""What an operator may set of the auth role."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from polyroute.auth import keys
from polyroute.mesh.config import Section

Name = Annotated[str, Field(min_length=1, max_length=128)]


class AuthConfig(Section):
    """Settings of the auth role; every one has a default that suits one machine."""

    model_config = ConfigDict(hide_input_in_errors=True)  # a mistake in `bootstrap_key` must not print the key

    database: Path | None = Field(
        default=None,
        description="SQLite file of accounts, projects and keys; default: `auth.db` in the data directory",
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
    bootstrap_account: Name = Field(default="default", description="name of the account that the first start creates")
    bootstrap_project: Name = Field(default="default", description="name of the project that the first start creates")

    @field_validator("bootstrap_key")
    @classmethod
    def _check_form(cls, secret: str) -> str:
        if secret and not keys.well_formed(secret):
            raise ValueError(f"a key is {keys.FORM}")
        return secret

    @model_validator(mode="after")
    def _check_times(self) -> Self:
        if self.usable_for < self.fresh_for:
            raise ValueError("usable_for must not be shorter than fresh_for")
        return self
