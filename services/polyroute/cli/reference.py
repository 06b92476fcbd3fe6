"""The configuration's reference as Markdown, made from the models that check it; `docs/configuration.md` is that."""

from collections.abc import Iterator, Mapping
from typing import Any, Final, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from polyroute.cli.config import DEFAULT_NAMES, ENV_DATA, ENV_FILE, Config
from polyroute.providers.registry import all_vendors

_INTRODUCTION: Final = f"""\
# Configuration

<!-- Written by `make docs` from the models that check the file. -->

One YAML file, and none is needed: every key has a default. `polyroute up` takes the file named by `--config`, else the
one named by `${ENV_FILE}`, else `{DEFAULT_NAMES[0]}` in the working directory, else nothing but defaults. What the
command line says stands above the file.

- `${{NAME}}` in a value is replaced from the environment, `${{NAME:-default}}` has a default; a name that is not set is
  an error.
- An unknown key is an error that names its place and suggests the right one. `polyroute config check` finds every
  mistake without starting anything; `polyroute config schema` prints a JSON Schema for editors.
- `providers`, `models`, `aliases`, `policies`, `routing` and `router` are read again when the file changes and on
  SIGHUP; a bad file leaves the last good one in force, and the log says why. The other sections are read at the start.
- Times are seconds, sizes are bytes, prices are USD per million tokens and exact to the nano-dollar.
- What policies, schedules and rollouts do is told in [routing.md](routing.md).

[polyroute.example.yaml](polyroute.example.yaml) shows a catalog of several vendors.
"""

_VARIABLES: Final = {
    ENV_FILE: "the configuration file, when `--config` names none",
    ENV_DATA: "the data directory, when neither the file nor `--data-dir` names one",
    "POLYROUTE_CACHE": "folder of the embedded model's weights",
    "POLYROUTE_KEY": "the key that `polyroute chat` presents",
    "POLYROUTE_ADMIN": "the admin secret, or an access token, presented to a gateway elsewhere (`--address`)",
    "POLYROUTE_DATABASE": "PostgreSQL, as `--database` of `up`, `serve`, `migrate`, `backup` and `restore`",
    "POLYROUTE_REDIS": "Redis or Valkey, as `--redis` of `up` and `serve`",
}


def reference() -> str:
    """The whole page."""
    sections = [_section(place, model) for place, model in _sections("", Config)]
    return "\n".join([_INTRODUCTION, *sections, _environment()])


def _sections(place: str, model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    """Every section in the order of the file, each before those inside of it."""
    yield place, model
    for name, field in model.model_fields.items():
        for below, inner in _inner(_join(place, name), field.annotation):
            yield from _sections(below, inner)


def _inner(place: str, annotation: Any) -> Iterator[tuple[str, type[BaseModel]]]:
    """The models in a field's type, each with the place where it stands: `providers.NAME`, `deployments[]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield place, annotation
        return
    origin = get_origin(annotation)
    below = f"{place}.NAME" if origin is dict else f"{place}[]" if origin is tuple else place
    for argument in get_args(annotation):
        yield from _inner(below, argument)


def _join(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _section(place: str, model: type[BaseModel]) -> str:
    schema = model.model_json_schema()
    title = f"`{place}`" if place else "The file"
    lines = [f"## {title}", "", " ".join((model.__doc__ or "").split()), ""]
    lines += ["| key | value | default | meaning |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        cells = (
            f"`{name}`",
            _kind(schema["properties"][name], schema.get("$defs", {})),
            _default(field),
            (field.description or "").removesuffix("."),
        )
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join([*lines, ""])


def _kind(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """A field's type in words, from its JSON Schema."""
    if "$ref" in schema:
        return _kind(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in schema:
        return " or ".join(_kind(one, definitions) for one in schema["anyOf"] if one.get("type") != "null")
    if "enum" in schema:
        return ", ".join(f"`{word}`" for word in schema["enum"])
    if "properties" in schema:
        return "section"
    match schema.get("type"):
        case "array":
            return f"list of {_kind(schema['items'], definitions)}"
        case "object":
            return f"mapping of names to {_kind(schema['additionalProperties'], definitions)}"
        case "string":
            return _text(schema)
        case "integer" | "number":
            return "".join(("whole number" if schema["type"] == "integer" else "number", *_bounds(schema)))
        case "boolean":
            return "`true`, `false`"
    return "text or number"


def _text(schema: Mapping[str, Any]) -> str:
    form, pattern = schema.get("format"), schema.get("pattern", "")
    if form == "path":
        return "path"
    if form == "password":
        return "secret"
    words = pattern.removeprefix("^(").removesuffix(")$")
    return ", ".join(f"`{word}`" for word in words.split("|")) if words.replace("|", "").isalpha() else "text"


def _bounds(schema: Mapping[str, Any]) -> Iterator[str]:
    for key, sign in (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤")):
        if key in schema and abs(schema[key]) < 2**62:
            yield f", {sign} {schema[key]:,}"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default_factory is not None:
        return _made(field.default_factory)
    match field.default:
        case None | "" | () | SecretStr():
            return ""
        case bool(value):
            return f"`{str(value).lower()}`"
        case dict() | BaseModel():
            return ""
        case tuple() | frozenset() as values:
            words = [_word(value) for value in values]  # a set has an order of its own in each process
            return f"`[{', '.join(words if isinstance(values, tuple) else sorted(words))}]`"
        case value:
            return f"`{_word(value)}`"


def _word(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _made(factory: Any) -> str:
    """What makes a default says in its first line which."""
    if isinstance(factory, type):
        return ""
    first = (factory.__doc__ or "").partition("\n")[0].removesuffix(".")
    return str(first.rpartition(": ")[2])


def _environment() -> str:
    lines = ["## The environment", "", "| variable | meaning |", "|---|---|"]
    lines += [f"| `{name}` | {meaning} |" for name, meaning in _VARIABLES.items()]
    lines += [
        "",
        "A vendor's key in the environment of the providers role adds that vendor without a line of configuration,",
        "unless `provider.discover` is `false` or the file names an account of that vendor:",
        "",
        "| vendor | variables | address |",
        "|---|---|---|",
    ]
    for vendor in all_vendors().values():
        found = vendor.key_env if vendor.discover else ()
        names = ", ".join(f"`{name}`" for name in found) or "none: its account is named in the file"
        lines.append(f"| `{vendor.name}` | {names} | {vendor.base_url or _placed(vendor.name)} |")
    return "\n".join([*lines, ""])


def _placed(vendor: str) -> str:
    return "this machine" if vendor == "local" else "the account's `base_url`"
