"""The vendors' files: each is loaded, named as its vendor, and holds what a call needs."""

import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from polyroute.api.chat.v1 import chat_pb2
from polyroute.dialects.registry import DIALECTS
from polyroute.providers import registry, vendors
from polyroute.providers.account import Account
from polyroute.providers.vendor import Vendor

VENDORS = registry.all_vendors()
FILES = sorted(path.stem for path in Path(vendors.__path__[0]).glob("*.py") if path.stem != "__init__")


def test_every_file_is_a_vendor() -> None:
    """Adding one is adding a file."""
    assert FILES == sorted(VENDORS)
    assert all(name == vendor.name for name, vendor in VENDORS.items())


@pytest.fixture
def misnamed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A vendors' folder with a file whose vendor has another name."""
    (tmp_path / "acme.py").write_text("")
    module = types.ModuleType("polyroute.providers.vendors.acme")
    module.VENDOR = Vendor(name="other")  # type: ignore[attr-defined] # made here
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(vendors, "__path__", [str(tmp_path)])
    registry.all_vendors.cache_clear()
    yield
    registry.all_vendors.cache_clear()


@pytest.mark.usefixtures("misnamed")
def test_misnamed_file_is_refused() -> None:
    """Its name in configuration would be another than the one its file suggests."""
    with pytest.raises(ValueError, match=r"vendors/acme\.py describes 'other'"):
        registry.all_vendors()


@pytest.mark.parametrize("name", FILES)
def test_vendor_can_be_called(name: str) -> None:
    """Every operation has a path and a dialect that is known here; keys go to https, or there are none."""
    vendor = VENDORS[name]

    assert set(vendor.dialects) <= set(vendor.paths)
    assert {dialect for dialect in vendor.dialects.values() if dialect not in DIALECTS} <= {"openai.embeddings"}
    assert vendor.base_url.startswith("https://") or vendor.keyless
    assert vendor.keyless or vendor.key_env
    assert not vendor.base_url.endswith("/")


def test_no_two_vendors_look_for_the_same_key() -> None:
    """Otherwise one key would be sent to both."""
    names = [name for vendor in VENDORS.values() for name in vendor.key_env]

    assert len(names) == len(set(names))


def test_key_goes_where_the_vendor_wants_it() -> None:
    """Header and scheme are its own."""
    vendor = Vendor(name="acme", base_url="https://x.example/v1/", auth_header="x-api-key", auth_scheme="")
    account = Account("mine", vendor, keys=("k",), headers={"x-team": "red"})
    head = account.target(chat_pb2.OPERATION_CHAT).head.split(b"\r\n")

    assert b"POST /v1/chat/completions HTTP/1.1" == head[0]
    assert {b"host: x.example", b"x-api-key: k", b"x-team: red", b"accept-encoding: identity"} <= set(head)


@pytest.mark.parametrize(
    ("url", "host", "port", "tls"),
    [
        ("https://a.example/v1", "a.example", 443, True),
        ("http://a.example:8000", "a.example", 8000, False),
        ("http://[::1]:9/v1", "::1", 9, False),
        ("https://me:secret@a.example/v1", "a.example", 443, True),
    ],
)
def test_address(url: str, host: str, port: int, tls: bool) -> None:
    """Where connections go; a name and password in it go nowhere."""
    target = Account("mine", Vendor(name="acme"), base_url=url).target(chat_pb2.OPERATION_CHAT)

    assert (host, port, tls) == (target.address.host, target.address.port, target.address.tls)
    assert b"secret" not in target.head
