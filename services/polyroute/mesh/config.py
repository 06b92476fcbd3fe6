"""Settings of the mesh itself, and how every setting is read: one YAML file, `${NAME}` from the environment.

An unknown key is an error that names its place and suggests the right one.
"""

import difflib
import ipaddress
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from polyroute.mesh.roles import ROLES, ConfigError

_REFERENCE: Final = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")


class Section(BaseModel):
    """A section of the configuration: immutable, and nothing in it is unknown."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TlsConfig(Section):
    """Mutual TLS between the processes of the mesh: PEM files."""

    cert: Path = Field(description="this process's certificate")
    key: Path = Field(description="its private key")
    ca: Path = Field(description="the authority that signed every process's certificate")
    allowed: dict[str, frozenset[str]] = Field(
        default_factory=dict,
        description="role -> names in client certificates that may call it; a role without an entry admits all. "
        "`role/Method` admits further names to one method",
    )

    def methods_of(self, role: str) -> dict[str, frozenset[str]]:
        """Methods of a role -> further names that may call these alone."""
        entries = ((place.partition("/"), names) for place, names in self.allowed.items())
        return {method: names for (named, _, method), names in entries if named == role and method}


class LogConfig(Section):
    """What is logged, and how."""

    level: str = Field(
        default="info", pattern="^(debug|info|warning|error)$", description="least level that is written"
    )
    format: str = Field(
        default="auto", pattern="^(auto|json|console)$", description="`auto` is console on a terminal, JSON elsewhere"
    )


class DatabaseConfig(Section):
    """The PostgreSQL database of everything that must last; a text alone is its URL."""

    model_config = ConfigDict(hide_input_in_errors=True)  # a mistake in `url` must not print the password

    url: SecretStr = Field(
        default=SecretStr(""),
        description="`postgresql://user:password@host:5432/name`; empty: SQLite files in the data directory",
    )
    connections: int = Field(
        default=4, ge=1, le=100, description="connections of each role that read; up to three more write"
    )
    statement_timeout: float = Field(default=30.0, gt=0, le=3600, description="seconds that one statement may take")
    lock_timeout: float = Field(default=5.0, gt=0, le=600, description="seconds to wait for another process's write")

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, given: Any) -> Any:
        return {"url": given} if isinstance(given, str) else given

    @staticmethod
    def or_text(schema: dict[str, Any]) -> None:
        """Has the JSON Schema of a field say that a text will do as well."""
        schema["anyOf"] = [{"$ref": schema.pop("$ref")}, {"type": "string"}]

    @field_validator("url")
    @classmethod
    def _check_scheme(cls, url: SecretStr) -> SecretStr:
        scheme, found, _ = url.get_secret_value().partition("://")
        if url.get_secret_value() and (not found or scheme not in ("postgresql", "postgres")):
            raise ValueError("must begin with postgresql://")
        return SecretStr(url.get_secret_value().replace("postgres://", "postgresql://", 1))


class MeshConfig(Section):
    """Where the roles listen and where they find each other.

    A role that is not named listens on a unix socket below `data_dir/run` and is looked for there.
    """

    listen: dict[str, str] = Field(
        default_factory=dict, description="role -> address its gRPC server binds: `host:port` or `unix:/path`"
    )
    peers: dict[str, str] = Field(
        default_factory=dict,
        description="role -> address it is reached at, such as `dns:///name:port`; default: `listen`",
    )
    figures: dict[str, str] = Field(
        default_factory=dict,
        description="role -> `host:port` at which its process answers `GET /metrics` for Prometheus, without a key; "
        "the edge has it at its HTTP door anyway, with the figures of all calls",
    )
    token: SecretStr = Field(
        default=SecretStr(""),
        description="shared secret of the mesh's processes, for roles that listen beyond loopback",
    )
    tls: TlsConfig | None = Field(default=None, description="mutual TLS between processes; none on unix sockets")
    reflection: bool = Field(default=False, description="serve gRPC reflection")
    drain_delay: float = Field(
        default=2.0, ge=0, le=60, description="seconds between saying not-ready and refusing, for balancers to notice"
    )
    drain_grace: float = Field(default=120.0, ge=0, le=600, description="seconds that running streams may still take")

    @model_validator(mode="after")
    def _closed(self) -> Self:
        for name in (*self.listen, *self.peers, *self.figures):
            if name not in ROLES:
                raise ValueError(f"unknown role {name!r}{suggestion(name, ROLES)}")
        for name, address in self.figures.items():
            if not address.rpartition(":")[2].isdecimal():
                raise ValueError(f"figures of {name}: {address!r} is not host:port")
        exposed = [role for role, address in self.listen.items() if role != "edge" and not _private(address)]
        if exposed and self.tls is None and not self.token.get_secret_value():
            raise ValueError(f"{', '.join(exposed)} would listen beyond loopback: set mesh.tls or mesh.token")
        return self


def _private(address: str) -> bool:
    """Whether only this machine can reach `address`."""
    if address.startswith("unix:"):
        return True
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


Model = TypeVar("Model", bound=BaseModel)


def read_yaml(path: Path, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """A YAML file's mapping with `${NAME}` and `${NAME:-default}` replaced from the environment.

    Raises:
        ConfigError: The file cannot be read, is not a YAML mapping, or names a variable that is not set.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not YAML: {error}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: not a mapping of sections")
    missing: list[str] = []
    replaced = _replaced(tree, os.environ if environment is None else environment, missing)
    if missing:
        raise ConfigError("\n".join(f"{path}: ${{{name}}} is not set in the environment" for name in missing))
    return dict(replaced)


def _replaced(node: Any, environment: Mapping[str, str], missing: list[str]) -> Any:
    if isinstance(node, dict):
        return {key: _replaced(value, environment, missing) for key, value in node.items()}
    if isinstance(node, list):
        return [_replaced(value, environment, missing) for value in node]
    if not isinstance(node, str):
        return node

    def value_of(match: re.Match[str]) -> str:
        value = environment.get(match["name"]) or match["default"]
        if value is None:
            missing.append(match["name"])
            return ""
        return value

    return _REFERENCE.sub(value_of, node)


def validated(model: type[Model], tree: Mapping[str, Any], *, source: str = "config") -> Model:
    """`tree` as `model`.

    Raises:
        ConfigError: With every problem's place, and a suggestion for each unknown key.
    """
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        raise ConfigError("\n".join(f"{source}: {line}" for line in _explained(model, error))) from None


def _explained(model: type[BaseModel], error: ValidationError) -> Iterator[str]:
    for problem in error.errors(include_url=False, include_input=False):
        place = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            known = _keys_at(model, problem["loc"][:-1])
            yield f"{place}: unknown key{suggestion(str(problem['loc'][-1]), known)}"
        else:
            yield f"{place}: {problem['msg'].removeprefix('Value error, ')}".removeprefix(": ")


def _keys_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """The keys that the section at `loc` knows: those of every model whose fields could stand there."""
    models: list[Any] = [model]
    for part in loc:
        found: list[Any] = []
        for candidate in models:
            field = candidate.model_fields.get(part)
            found.extend(_models_in(field.annotation) if field is not None else [candidate])
        models = found
    return sorted({key for candidate in models for key in candidate.model_fields})


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in getattr(annotation, "__args__", ()) for model in _models_in(argument)]


def suggestion(name: str, known: Iterable[str]) -> str:
    """The end of an error about an unknown name: the known one it resembles, or all there are."""
    listed = list(known)
    close = difflib.get_close_matches(name, listed, n=1, cutoff=0.5)
    if close:
        return f", did you mean {close[0]!r}?"
    return f" (known: {', '.join(listed)})" if listed else ""
