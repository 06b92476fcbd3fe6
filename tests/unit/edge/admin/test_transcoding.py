"""Requests of administration as HTTP and as messages."""

import json
from typing import Any

import orjson
import pytest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st

from polyroute.api.auth.v1 import admin_pb2, auth_pb2, limits_pb2
from polyroute.api.errors.v1 import errors_pb2
from polyroute.edge.admin.bindings import Found, Table, bindings, services
from polyroute.edge.admin.gateway import PACKAGES
from polyroute.edge.admin.transcoding import read, spoken, written
from polyroute.mesh.errors import MeshError
from tests.unit.edge.admin.messages import requests

TABLE = Table(binding for package in PACKAGES.values() for binding in bindings(services(package)))
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def asked(verb: str, url: str, body: Any = b"") -> Any:
    """The request that a client's makes."""
    path, _, query = url.partition("?")
    found = TABLE.find(verb, path)
    assert found is not None
    return read(found, query, body if isinstance(body, bytes) else orjson.dumps(body))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_what_a_client_says_is_what_the_door_reads(data: st.DataObject) -> None:
    """Of every method, for any values: nothing is lost between a message, its HTTP form, and the message again."""
    binding = data.draw(st.sampled_from(TABLE.bindings))
    request = data.draw(requests(binding))
    url, body = spoken(binding, request)
    path, _, query = url.partition("?")
    found = TABLE.find(binding.verb, path)

    assert found is not None
    assert binding is found.binding
    assert request == read(found, query, body)


@settings(max_examples=60, deadline=None)
@given(st.data(), ANY, st.text(max_size=20))
def test_anything_is_read_or_refused(data: st.DataObject, body: Any, query: str) -> None:
    """Whatever comes is a request, or the caller's mistake; never an error of ours."""
    binding = data.draw(st.sampled_from(TABLE.bindings))
    field = data.draw(st.sampled_from([field.name for field in binding.method.input_type.fields] or ["x"]))
    values = dict.fromkeys(binding.variables, "1")

    for tree in (body, {field: body}):
        refused = refusal(Found(binding, values), query, json.dumps(tree).encode())

        assert refused is None or errors_pb2.REASON_INVALID_REQUEST == refused.reason


def refusal(found: Found, query: str, body: bytes) -> MeshError | None:
    try:
        read(found, query, body)
    except MeshError as error:
        return error
    return None


def test_names_in_either_spelling() -> None:
    """As the contract has them, or as JSON often does."""
    expected = admin_pb2.CreateAccountRequest(name="a", billing_mode=admin_pb2.BILLING_MODE_PREPAID)

    for name in ("billing_mode", "billingMode"):
        assert expected == asked("POST", "/admin/v1/accounts", {"name": "a", name: "BILLING_MODE_PREPAID"})


def test_path_query_and_body_together() -> None:
    """Each says its own part."""
    request = asked("PATCH", "/admin/v1/keys/key_1?update_mask=name,expire_time", {"name": "n", "models": ["m"]})

    assert auth_pb2.Key(id="key_1", name="n", models=["m"]) == request.key
    assert ["name", "expire_time"] == list(request.update_mask.paths)


def test_body_of_all_other_fields() -> None:
    """With times and numbers in the forms of JSON."""
    request = asked("POST", "/admin/v1/keys/pr-abc:rotate", {"overlap": "3600s"})

    assert ("pr-abc", 3600) == (request.key, request.overlap.seconds)


@pytest.mark.parametrize("kind", ["requests", "REQUESTS", "LIMIT_KIND_REQUESTS", "1"])
def test_enums_in_paths(kind: str) -> None:
    """By name, with or without what all names share, or by number."""
    request = asked("DELETE", f"/admin/v1/limits/key_1/{kind}?limit.model=a%2Fb")

    assert limits_pb2.Limit(scope="key_1", kind=limits_pb2.LIMIT_KIND_REQUESTS, model="a/b") == request.limit


@pytest.mark.parametrize("amount", ["9223372036854775807", 9223372036854775807])
def test_large_numbers(amount: Any) -> None:
    """Are exact, as strings and as numbers."""
    request = asked("POST", "/admin/v1/accounts/acc_1:credit", {"amount_nanos": amount, "request_id": "r"})

    assert 9223372036854775807 == request.amount_nanos


@pytest.mark.parametrize(
    ("verb", "url", "body", "said"),
    [
        ("POST", "/admin/v1/accounts", {"nmae": "a"}, "nmae: unknown member, did you mean 'name'?"),
        ("POST", "/admin/v1/keys", {"scope": {"route": []}}, "key.scope.route: unknown member, did you mean 'routes'?"),
        ("GET", "/admin/v1/keys?page_sise=1", b"", "page_sise: unknown member of the query, did you mean 'page_size'?"),
        ("POST", "/admin/v1/accounts?name=a", {}, "name: unknown member of the query"),
        ("GET", "/admin/v1/keys?show_ended=yes", b"", "show_ended: is neither true nor false"),
        ("GET", "/admin/v1/keys?page_size=many", b"", "page_size"),
        ("GET", "/admin/v1/keys?filter=a&filter=b", b"", "filter: is said twice"),
        ("GET", "/admin/v1/keys?filter=%ff", b"", "the query: is not UTF-8"),
        ("GET", "/admin/v1/keys?" + "&".join(["a=1"] * 101), b"", "the query: has more than 100 members"),
        ("GET", "/admin/v1/keys", {"page_size": 1}, "GET /admin/v1/keys takes no body"),
        ("POST", "/admin/v1/accounts", b"{", "the body is not JSON"),
        ("POST", "/admin/v1/accounts", b"[]", "the body: is not a JSON object"),
        ("POST", "/admin/v1/accounts", {"name": 1}, "name"),
        ("POST", "/admin/v1/accounts", {"billing_mode": "LATER"}, "Invalid enum value LATER"),
        ("POST", "/admin/v1/accounts", {"billing_mode": 1, "billingMode": 2}, "billingMode: is said twice"),
        ("PATCH", "/admin/v1/keys/key_1", {"id": "key_2"}, "key.id: is said twice, and differently"),
        ("POST", "/admin/v1/keys/key_1:rotate", {"overlap": 5}, "overlap"),
    ],
)
def test_what_cannot_be_understood(verb: str, url: str, body: Any, said: str) -> None:
    """Is refused with its place, and with what was probably meant."""
    with pytest.raises(MeshError) as caught:
        asked(verb, url, body)

    assert errors_pb2.REASON_INVALID_REQUEST == caught.value.reason
    assert said in caught.value.message


def test_deep_bodies() -> None:
    """Are refused before they cost anything."""
    with pytest.raises(MeshError):
        asked("POST", "/admin/v1/keys", b'{"scope":' * 5000 + b"1" + b"}" * 5000)


def test_answers() -> None:
    """Members at their defaults are there; large numbers are strings; what JSON says is what was meant."""
    answer = admin_pb2.ListEntriesResponse(entries=[admin_pb2.LedgerEntry(id=1, kind=admin_pb2.ENTRY_KIND_SETTLE)])
    entry = orjson.loads(written(answer))["entries"][0]

    assert ("1", "ENTRY_KIND_SETTLE", "", False) == (entry["id"], entry["kind"], entry["note"], entry["estimated"])
    assert "amount_nanos" not in entry  # unknown is not nothing
    assert answer == json_format.Parse(written(answer), admin_pb2.ListEntriesResponse())


def test_a_path_that_needs_a_value() -> None:
    """Is not said without it."""
    binding = next(binding for binding in TABLE.bindings if binding.method.name == "GetKey")

    with pytest.raises(MeshError, match="key: is missing"):
        spoken(binding, admin_pb2.GetKeyRequest())
