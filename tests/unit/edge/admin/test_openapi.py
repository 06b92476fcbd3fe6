"""The description of administration."""

import re
from typing import Any

from polyroute.edge.admin.bindings import Table, bindings, services
from polyroute.edge.admin.gateway import PACKAGES
from polyroute.edge.admin.openapi import document

TABLE = Table(binding for package in PACKAGES.values() for binding in bindings(services(package)))
DOCUMENT = document(TABLE.bindings)


def operations() -> list[Any]:
    return [operation for path in DOCUMENT["paths"].values() for operation in path.values()]


def references(node: Any) -> set[str]:
    if isinstance(node, dict):
        own = {node["$ref"]} if "$ref" in node else set()
        return own.union(*map(references, node.values()))
    return set().union(*map(references, node)) if isinstance(node, list) else set()


def test_every_path_is_described_once() -> None:
    """No two of them are the same but for the names of their variables, which OpenAPI forbids."""
    shapes = [re.sub(r"\{[^}]+\}", "{}", path) for path in DOCUMENT["paths"]]

    assert len(TABLE.bindings) == len(operations())
    assert len(shapes) == len(set(shapes))
    assert len(operations()) == len({operation["operationId"] for operation in operations()})


def test_variables_are_described() -> None:
    """Each by the name that stands in the path."""
    for path, methods in DOCUMENT["paths"].items():
        for operation in methods.values():
            described = [one["name"] for one in operation["parameters"] if one["in"] == "path"]

            assert re.findall(r"\{([^}]+)\}", path) == described


def test_every_reference_leads_somewhere() -> None:
    """To a schema that says something."""
    names = {reference.removeprefix("#/components/schemas/") for reference in references(DOCUMENT)}

    assert names <= set(DOCUMENT["components"]["schemas"])
    assert all(DOCUMENT["components"]["schemas"][name] for name in names)


def test_rules_of_the_contract() -> None:
    """Lengths, kinds and what must be there come from it."""
    created = DOCUMENT["paths"]["/admin/v1/accounts"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    listed = DOCUMENT["paths"]["/admin/v1/accounts"]["get"]

    assert {"type": "string", "minLength": 1, "maxLength": 128} == created["properties"]["name"]
    assert "BILLING_MODE_PREPAID" in created["properties"]["billing_mode"]["enum"]
    assert not created["additionalProperties"]
    assert {"page_size", "page_token", "filter"} <= {one["name"] for one in listed["parameters"]}
    assert "int64" == DOCUMENT["components"]["schemas"]["auth.v1.Budget"]["properties"]["amount_nanos"]["format"]


def test_who_needs_no_credential() -> None:
    """Only those who come to get one."""
    open_to_all = {operation["operationId"] for operation in operations() if operation.get("security") == []}

    assert "SignIn" in open_to_all
    assert not {"GetSelf", "ListAccounts"} & open_to_all
