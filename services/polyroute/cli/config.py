"""The whole configuration: each role's own section, in one file."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import Field

from polyroute.auth.config import AuthConfig
from polyroute.edge.config import EdgeConfig
from polyroute.mesh.config import DatabaseConfig, LogConfig, MeshConfig, Section, read_yaml, validated
from polyroute.metrics.config import MetricsConfig
from polyroute.providers.config import ProviderConfig, ProvidersConfig
from polyroute.router.config import CatalogConfig, ModelConfig, Name, RouterConfig, Targets
from polyroute.router.policyconfig import PolicyConfig, RoutingConfig
from polyroute.router.prices.config import PricesConfig

DEFAULT_NAMES: Final = ("polyroute.yaml", "polyroute.yml")
ENV_FILE: Final = "POLYROUTE_CONFIG"
ENV_DATA: Final = "POLYROUTE_DATA"


def default_data_dir(environment: Mapping[str, str] = os.environ) -> Path:
    """$POLYROUTE_DATA, or `polyroute` in the user's data folder."""
    chosen = environment.get(ENV_DATA)
    if chosen:
        return Path(chosen)
    return Path(environment.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "polyroute"


class Config(Section):
    """Everything that can be set. Every section may be left out."""

    data_dir: Path = Field(default_factory=default_data_dir, description="databases, keys' pepper, spools, sockets")
    database: DatabaseConfig = Field(
        default_factory=DatabaseConfig,
        description="PostgreSQL instead of SQLite files: its URL, or this section",
        json_schema_extra=DatabaseConfig.or_text,
    )
    log: LogConfig = Field(default_factory=LogConfig, description="what is logged, and how")
    mesh: MeshConfig = Field(default_factory=MeshConfig, description="where the roles are")
    auth: AuthConfig = Field(default_factory=AuthConfig, description="keys")
    router: RouterConfig = Field(default_factory=RouterConfig, description="how deployments are chosen")
    provider: ProvidersConfig = Field(default_factory=ProvidersConfig, description="how vendors are reached")
    metrics: MetricsConfig = Field(default_factory=MetricsConfig, description="records and figures")
    edge: EdgeConfig = Field(default_factory=EdgeConfig, description="the doors")
    providers: dict[Name, ProviderConfig] = Field(default_factory=dict, description="vendor accounts, by name")
    models: dict[Name, ModelConfig] = Field(default_factory=dict, description="public models and who serves them")
    aliases: dict[Name, Targets] = Field(default_factory=dict, description="names that stand for models")
    policies: dict[Name, PolicyConfig] = Field(default_factory=dict, description="how deployments are chosen, by name")
    prices: PricesConfig = Field(default_factory=PricesConfig, description="what models charge, above the lists")
    routing: RoutingConfig = Field(default_factory=RoutingConfig, description="which policy rules which call")

    @property
    def catalog(self) -> CatalogConfig:
        """The router's part."""
        return CatalogConfig(
            models=self.models,
            aliases=self.aliases,
            policies=self.policies,
            routing=self.routing,
            prices=self.prices,
            router=self.router,
        )


def find(given: Path | None, environment: Mapping[str, str] = os.environ) -> Path | None:
    """The configuration file: the one named, else $POLYROUTE_CONFIG, else `polyroute.yaml` here, if there is one."""
    if given is not None:
        return given
    if environment.get(ENV_FILE):
        return Path(environment[ENV_FILE])
    return next((Path(name) for name in DEFAULT_NAMES if Path(name).exists()), None)


def load(path: Path | None, overrides: Mapping[str, Any] | None = None) -> Config:
    """The configuration in `path`, or the defaults; `overrides` (from the command line) stand above the file.

    Raises:
        ConfigError: With every problem, one a line.
    """
    tree = read_yaml(path) if path is not None else {}
    return validated(Config, _merged(tree, overrides or {}), source=str(path or "command line"))


def _merged(tree: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(tree)
    for key, value in overrides.items():
        below = merged.get(key) or {}
        if not isinstance(value, Mapping):
            merged[key] = value
        elif isinstance(below, Mapping):  # otherwise the file is wrong there, which will be said
            merged[key] = _merged(below, value)
    return merged
