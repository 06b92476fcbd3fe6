"""Which paths the contract gives to administration."""

from pathlib import Path

import pytest
from google.protobuf.descriptor import ServiceDescriptor

from polyroute.api.auth.v1 import admin_pb2, auth_pb2
from polyroute.edge.admin.bindings import Table, UndeclaredError, bindings, field_at, services
from polyroute.edge.admin.gateway import PACKAGES

ADMIN: ServiceDescriptor = admin_pb2.DESCRIPTOR.services_by_name["AdminService"]
# between roles, and nobody else's; or not administration
INTERNAL = {
    "auth": {"AuthService", "LedgerService", "VaultService", "AdmissionService", "ChangeLogService"},
    "edge": {"GatewayService"},
}
TABLE = Table(binding for package in PACKAGES.values() for binding in bindings(services(package)))


def test_every_method_has_a_path() -> None:
    """And nothing else has."""
    served = [service for package in PACKAGES.values() for service in services(package)]
    methods = {f"/{service.full_name}/{method.name}" for service in served for method in service.methods}

    assert methods == {binding.rpc for binding in TABLE.bindings}
    assert {"AdminService", "PeopleService", "UsageService"} <= {service.name for service in served}


@pytest.mark.parametrize("role", PACKAGES)
def test_every_service_is_one_or_the_other(role: str) -> None:
    """A service is served as a whole or not at all; one that is new is one or the other by a decision."""
    package = PACKAGES[role]
    home = __import__(package, fromlist=["*"]).__path__
    declared = {path.stem for place in home for path in Path(place).glob("*_pb2_grpc.py")}
    served = {service.name for service in services(package)}

    assert not served & INTERNAL[role]
    assert len(declared) == len(served | INTERNAL[role]), "a service is neither served nor known to be internal"


def test_every_path_is_below_the_door() -> None:
    """And none of them is that of the description."""
    templates = {binding.template for binding in TABLE.bindings}

    assert all(template.startswith("/admin/v1/") for template in templates)
    assert "/admin/v1/openapi.json" not in templates


def test_what_only_reads_is_a_get() -> None:
    """And nothing else is."""
    reading = {binding.rpc for binding in TABLE.bindings if binding.verb == "GET"}
    harmless = {binding.rpc for binding in TABLE.bindings if binding.method.GetOptions().idempotency_level == 1}

    assert harmless == reading


@pytest.mark.parametrize(
    ("verb", "path", "rpc", "values"),
    [
        ("GET", "/admin/v1/keys", "SearchKeys", {}),
        ("GET", "/admin/v1/keys/key_1", "GetKey", {"key": "key_1"}),
        ("POST", "/admin/v1/keys/key_1:rotate", "RotateKey", {"key": "key_1"}),
        ("DELETE", "/admin/v1/keys/key_1", "EndKey", {"key": "key_1"}),
        ("PATCH", "/admin/v1/keys/key_1", "UpdateKey", {"key.id": "key_1"}),
        ("GET", "/admin/v1/keys/a%2Fb%3Arotate", "GetKey", {"key": "a/b:rotate"}),
        ("GET", "/admin/v1/ledger/entries", "ListEntries", {}),
        ("DELETE", "/admin/v1/limits/key_1/tokens", "DeleteLimit", {"limit.scope": "key_1", "limit.kind": "tokens"}),
    ],
)
def test_a_request_finds_its_method(verb: str, path: str, rpc: str, values: dict[str, str]) -> None:
    """A variable is one segment, its escapes opened."""
    found = TABLE.find(verb, path)

    assert found is not None
    assert (rpc, values) == (found.binding.method.name, found.values)


@pytest.mark.parametrize(
    "path",
    ["/admin/v1/", "/admin/v1/keys/", "/admin/v1/keys/a/b", "/admin/v1/keys/:rotate", "/admin/v1/keys/a:b", "/v1/keys"],
)
def test_what_is_no_path(path: str) -> None:
    """Is not taken for one that resembles it."""
    assert TABLE.find("GET", path) is None
    assert TABLE.find("POST", path) is None


def test_other_verbs() -> None:
    """What else is possible at a path."""
    assert ["DELETE", "GET", "PATCH"] == TABLE.verbs("/admin/v1/keys/key_1")
    assert [] == TABLE.verbs("/admin/v1/nothing")


def test_path_that_is_not_utf8() -> None:
    """Is an error of its own, and not another path."""
    with pytest.raises(UnicodeDecodeError):
        TABLE.find("GET", "/admin/v1/keys/%ff")


def test_method_without_a_path() -> None:
    """Stops the start."""
    service = auth_pb2.DESCRIPTOR.services_by_name["AuthService"]

    with pytest.raises(UndeclaredError, match="Authorize says no path"):
        list(bindings([service]))


def test_two_methods_of_one_path() -> None:
    """Stop the start as well."""
    with pytest.raises(UndeclaredError, match="are both"):
        Table([*bindings([ADMIN]), *bindings([ADMIN])])


def test_field_that_is_not_there() -> None:
    """Is named with its method."""
    with pytest.raises(UndeclaredError, match=r"GetKey has no field key\.id"):
        field_at(ADMIN.methods_by_name["GetKey"], "key.id")
