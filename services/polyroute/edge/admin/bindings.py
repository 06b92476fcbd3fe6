"""Which verb and path stand for which RPC: read from the contract, where `google.api.http` of a method says it once.

The rules are those of https://github.com/googleapis/googleapis/blob/master/google/api/http.proto, of which this much is
needed here: a variable stands for one segment of a path and names a field of the request; the body is a field, or all
fields that the path does not name; the other fields are in the query.
"""

import importlib
import pkgutil
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

from google.api import annotations_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor, ServiceDescriptor

from polyroute.api.options.v1 import options_pb2

VERBS: Final = ("get", "put", "post", "delete", "patch")
ALL: Final = "*"
_VARIABLE: Final = re.compile(r"\{([a-z_][a-z0-9_.]*)\}")


class UndeclaredError(Exception):
    """A method of the contract cannot be served over HTTP as it is declared; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Binding:
    """A verb and a path that stand for an RPC.

    Attributes:
        verb: In capitals.
        template: The path, with its variables: `/admin/v1/keys/{key.id}`.
        body: The field that the body is; `*` for all that the path does not name; empty when there is no body.
        method: The RPC.
        variables: Fields of the request that the path names, in its order, dotted.
        pattern: What paths look like.
    """

    verb: str
    template: str
    body: str
    method: MethodDescriptor
    variables: tuple[str, ...]
    pattern: re.Pattern[str]

    @property
    def rpc(self) -> str:
        """The RPC as it stands on the wire."""
        return f"/{self.method.containing_service.full_name}/{self.method.name}"


@dataclass(frozen=True, slots=True)
class Found:
    """The binding that a request means, and the values of its variables."""

    binding: Binding
    values: Mapping[str, str]


class Table:
    """All bindings, to be looked up.

    Args:
        bindings: See `bindings`.

    Raises:
        UndeclaredError: Two of them are the same verb and path.
    """

    def __init__(self, bindings: Iterable[Binding]) -> None:
        # of two that fit, the one with fewer variables is meant: `/keys/mine` before `/keys/{key}`
        self.bindings: Sequence[Binding] = sorted(bindings, key=lambda binding: len(binding.variables))
        seen: dict[tuple[str, str], Binding] = {}
        for binding in self.bindings:
            other = seen.setdefault((binding.verb, binding.pattern.pattern), binding)
            if other is not binding:
                raise UndeclaredError(f"{binding.rpc} and {other.rpc} are both {binding.verb} {binding.template}")

    def find(self, verb: str, path: str) -> Found | None:
        """What a request means; None when there is nothing at its path, or not with this verb.

        Args:
            verb: In capitals.
            path: As it was sent, its escapes unopened.

        Raises:
            UnicodeDecodeError: Its escapes are not UTF-8.
        """
        for binding in self.bindings:
            if binding.verb == verb and (fits := binding.pattern.fullmatch(path)):
                values = (unquote(value, errors="strict") for value in fits.groups())
                return Found(binding, dict(zip(binding.variables, values, strict=True)))
        return None

    def verbs(self, path: str) -> list[str]:
        """The verbs that are possible at a path; none when there is nothing."""
        return sorted({binding.verb for binding in self.bindings if binding.pattern.fullmatch(path)})


def services(package: str) -> list[ServiceDescriptor]:
    """The services of a package of the contract that are served over HTTP: those of which any method has a path."""
    home = importlib.import_module(package)
    names = sorted(found.name for found in pkgutil.iter_modules(home.__path__) if found.name.endswith("_pb2"))
    modules = [importlib.import_module(f"{package}.{name}") for name in names]
    declared = [service for module in modules for service in module.DESCRIPTOR.services_by_name.values()]
    return [service for service in declared if any(_rule(method) is not None for method in service.methods)]


def bindings(served: Iterable[ServiceDescriptor]) -> Iterator[Binding]:
    """Every binding of every method.

    Raises:
        UndeclaredError: A method has no path, is a stream, or its path or body names a field that there is not.
    """
    for service in served:
        for method in service.methods:
            rule = _rule(method)
            if rule is None:
                raise UndeclaredError(f"{method.full_name} says no path: give it an option (google.api.http)")
            if method.client_streaming or method.server_streaming:
                raise UndeclaredError(f"{method.full_name} is a stream, and has a path")
            for each in (rule, *rule.additional_bindings):
                yield _bound(method, each)


def field_at(method: MethodDescriptor, path: str) -> FieldDescriptor:
    """The field of a method's request at a dotted path.

    Raises:
        UndeclaredError: There is none.
    """
    descriptor: Descriptor | None = method.input_type
    field: FieldDescriptor | None = None
    for name in path.split("."):
        field = descriptor.fields_by_name.get(name) if descriptor is not None else None
        if field is None:
            raise UndeclaredError(f"{method.full_name} has no field {path}")
        descriptor = field.message_type
    assert field is not None  # noqa: S101 - there is at least one name
    return field


def anonymous(method: MethodDescriptor) -> bool:
    """Whether a method asks for no credential beside its request."""
    return bool(method.GetOptions().Extensions[options_pb2.anonymous])


def _rule(method: MethodDescriptor) -> Any:
    options = method.GetOptions()
    return options.Extensions[annotations_pb2.http] if options.HasExtension(annotations_pb2.http) else None


def _bound(method: MethodDescriptor, rule: Any) -> Binding:
    verb = rule.WhichOneof("pattern")
    if verb not in VERBS:
        raise UndeclaredError(f"{method.full_name}: {verb} is none of {', '.join(VERBS)}")
    template = getattr(rule, verb)
    variables = tuple(_VARIABLE.findall(template))
    for name in variables:
        field_at(method, name)
    if rule.body not in ("", ALL) and field_at(method, rule.body).message_type is None:
        raise UndeclaredError(f"{method.full_name}: the body must be a message, and {rule.body} is none")
    return Binding(verb.upper(), template, rule.body, method, variables, _pattern(method, template))


def _pattern(method: MethodDescriptor, template: str) -> re.Pattern[str]:
    literals = _VARIABLE.split(template)[::2]
    if any(sign in "".join(literals) for sign in "{}*"):
        raise UndeclaredError(f"{method.full_name}: {template}: a variable is one segment, such as {{key}}")
    # a colon begins a verb of its own (https://google.aip.dev/136); within a value it is escaped
    return re.compile("([^/:]+)".join(map(re.escape, literals)))
