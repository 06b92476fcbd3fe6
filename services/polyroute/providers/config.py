"""Settings of the providers role: the vendor accounts, under the names that the catalog uses."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr

from polyroute.mesh.config import Section
from polyroute.providers.local.config import LocalModelConfig


class ProviderConfig(Section):
    """One vendor account."""

    vendor: str = Field(default="", description="which vendor; default: the account's own name")
    base_url: str = Field(
        default="", pattern=r"^(https?://[^\s?#]+)?$", description="its address, when not the vendor's public one"
    )
    region: str = Field(
        default="", pattern=r"^[a-z0-9-]*$", description="where it is to answer, where the vendor has several places"
    )
    settings: dict[str, str] = Field(
        default_factory=dict, description="what else the vendor's address holds of an account, such as `project`"
    )
    keys: tuple[SecretStr, ...] = Field(default=(), description="its keys, used in turn")
    headers: dict[str, str] = Field(default_factory=dict, description="headers sent with every request")
    on_disconnect: Literal["cancel", "drain"] = Field(
        default="cancel",
        description="what becomes of an answer whose caller leaves: `cancel` closes the connection at once, `drain` "
        "reads on for at most 30 s, so that the vendor's own figures are charged",
    )
    enabled: bool = Field(default=True, description="false takes the account out without deleting it")


class ProvidersConfig(Section):
    """What the providers role needs beside the accounts."""

    discover: bool = Field(default=True, description="add vendors whose keys are in the environment")
    vault: Path | None = Field(
        default=None,
        description="folder of the private keys that open vendors' keys entered at run time; default: `data_dir`",
    )
    connections: int = Field(default=0, ge=0, description="most connections to one vendor; 0 means no limit")
    local: LocalModelConfig = Field(default_factory=LocalModelConfig, description="the embedded model")
