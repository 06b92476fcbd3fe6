"""The vendors' files: each is loaded, named as its vendor, and holds what a call needs."""

import json
import sys
import types
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.dialects.embedding_registry import EMBEDDINGS
from polyroute.dialects.registry import DIALECTS, OUTBOUND
from polyroute.dialects.task_registry import TASKS
from polyroute.providers import registry, vendors
from polyroute.providers.account import Account, needed
from polyroute.providers.page import capability_table
from polyroute.providers.vendor import Vendor, Verified
from tests.recordings import FOLDER

VENDORS: Final = registry.all_vendors()
FILES: Final = sorted(path.stem for path in Path(vendors.__path__[0]).glob("*.py") if path.stem != "__init__")
KNOWN: Final = {*DIALECTS, *OUTBOUND, *EMBEDDINGS, *TASKS}
DOCS: Final = Path(__file__).resolve().parents[3] / "docs" / "providers.md"


def account(vendor: Vendor, *, base_url: str = "") -> Account:
    """An account of it, its settings filled in."""
    settings = {name: setting.default or "acme" for name, setting in vendor.settings.items()}
    home = base_url or ("" if vendor.base_url else "http://127.0.0.1:1")
    return Account(vendor.name, vendor, base_url=home, keys=("k",), settings=settings)


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
    """Every format is known here; keys go to https, or there are none; paths begin where addresses end."""
    vendor = VENDORS[name]

    assert vendor.speaks
    assert {spoken.dialect for spoken in vendor.speaks} <= KNOWN
    assert vendor.base_url.startswith("https://") or vendor.keyless or not vendor.base_url
    assert all(url.startswith("https://") for url in vendor.regions.values())
    assert vendor.keyless or vendor.key_env or vendor.credential.needless or not vendor.discover
    assert not any(url.endswith("/") for url in (vendor.base_url, *vendor.regions.values()))
    assert all(one.path.startswith("/") and one.stream_path[:1] in {"", "/"} for one in vendor.speaks)


@pytest.mark.parametrize("name", sorted(set(FILES) - {"local"}))
def test_every_path_can_be_sent(name: str) -> None:
    """Nothing is left open in an address, and no model's name leaves its place in a path."""
    vendor = VENDORS[name]
    mine = account(vendor)
    for spoken in vendor.speaks:
        model = (spoken.models or ("x",))[0].replace("*", "x") + "/../y z"
        line = mine.target(spoken.operation, spoken.dialect, model=model, stream=True).head.split(b"\r\n")[0]

        assert b"{" not in line
        assert 3 == len(line.split(b" "))
        assert b"/../" not in line


@pytest.mark.parametrize("name", FILES)
def test_settings_are_used(name: str) -> None:
    """Whatever a vendor asks of an account stands in its addresses."""
    vendor = VENDORS[name]

    assert set(vendor.settings) == set(needed(vendor, ""))


@pytest.mark.parametrize("name", FILES)
def test_address_may_be_copied_from_the_documentation(name: str) -> None:
    """With the end that the paths hold already, or without it."""
    vendor = VENDORS[name]
    bare = account(vendor, base_url="http://proxy:1/x")
    spoken = vendor.speaks[0]
    model = (spoken.models or ("x",))[0].replace("*", "x")
    expected = bare.target(spoken.operation, model=model).head if name != "local" else b""
    for tail in vendor.tails:
        found = account(vendor, base_url=f"http://proxy:1/x{tail}/")

        assert expected == found.target(spoken.operation, model=model).head


@pytest.mark.parametrize("name", FILES)
def test_options_are_those_of_the_dialects(name: str) -> None:
    """Each dialect takes what the vendor and its models say of it."""
    vendor = VENDORS[name]
    mine = account(vendor)
    for traits in vendor.models:
        model = (traits.models or ("x",))[0].replace("*", "x")
        for dialect in {*vendor.options, *traits.options}:
            known: Any = OUTBOUND.get(dialect) or EMBEDDINGS[dialect]
            tuned = mine.tuned(known, model)

            assert dialect == tuned.name
            assert tuned is mine.tuned(known, model)


@pytest.mark.parametrize("name", FILES)
def test_patterns_are_lower_case(name: str) -> None:
    """Ids of models are compared in lower case."""
    vendor = VENDORS[name]
    patterns = [pattern for traits in vendor.models for pattern in traits.models]
    patterns += [pattern for spoken in vendor.speaks for pattern in (*spoken.models, *spoken.but)]

    assert [pattern.lower() for pattern in patterns] == patterns


def test_no_two_vendors_look_for_the_same_key() -> None:
    """Otherwise one key would be sent to both."""
    names = [name for vendor in VENDORS.values() for name in vendor.key_env]

    assert len(names) == len(set(names))


@cache
def rows() -> list[dict[str, Any]]:
    """The recordings' index."""
    return [json.loads(line) for line in (FOLDER / "index.jsonl").read_text(encoding="utf-8").splitlines()]


# The recordings' names of formats that have another here; None is work that is not asked for in any of them.
WIRES: Final = {
    "openai.audio_speech": "openai.speech",
    "openai.audio_transcriptions": "openai.transcriptions",
    "mistral.audio_transcriptions": "openai.transcriptions",
    "gemini.generateContent": "gemini.generate",
    "gemini.countTokens": "gemini.count_tokens",
    "vertex.countTokens": "gemini.count_tokens_plain",
    "gemini.embedContent": "gemini.embed",
    "cohere.chat_v2": "cohere.chat",
    "cohere.embed_v1": "cohere.embed",
    "cohere.embed_v2": "cohere.embed",
    "rerank": "cohere.rerank",
    "voyage.embeddings": "voyage.embed",
    "dashscope.text_generation": "dashscope.generation",
    "dashscope.multimodal_generation": "dashscope.generation",
    "dashscope.text_embedding": "dashscope.embed",
    "dashscope.text2image": "dashscope.images",
}
# Two vendors here are one in the recordings.
SAME: Final = {"azure_deployments": "azure"}


@pytest.mark.skipif(not FOLDER.exists(), reason="there are no recordings here: POLYROUTE_FIXTURES names their folder")
@pytest.mark.parametrize("name", FILES)
def test_recorded_is_what_the_recordings_have(name: str) -> None:
    """A vendor's file says of which formats there is real traffic, and says it of all."""
    provider = SAME.get(name, name)
    wires = {row["wire"] for row in rows() if row["provider"] == provider and row["status"] == 200}
    spoken = {spoken.dialect for spoken in VENDORS[name].speaks}

    assert {WIRES.get(wire, wire) for wire in wires} & spoken == VENDORS[name].recorded
    assert (VENDORS[name].verified is Verified.RECORDED) == bool(VENDORS[name].recorded)


def test_the_page_is_current() -> None:
    """docs/providers.md is what `make docs` writes."""
    assert capability_table() == DOCS.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("vendor", "model", "preferred", "tools", "dialect"),
    [
        ("vertex", "claude-sonnet-5", "", False, "anthropic.messages"),
        ("vertex", "claude-sonnet-5", "gemini.generate", False, "anthropic.messages"),
        ("vertex", "gemini-3-flash", "anthropic.messages", False, "gemini.generate"),
        ("azure", "claude-opus-5", "openai.chat", False, "anthropic.messages"),
        ("azure", "gpt-5", "openai.chat", False, "openai.chat"),
        ("azure", "gpt-5", "anthropic.messages", False, "openai.chat"),
        ("openai", "gpt-5", "openai.responses", False, "openai.responses"),
        ("openai", "gpt-6-sol", "openai.chat", False, "openai.chat"),
        ("openai", "gpt-6-sol", "openai.chat", True, "openai.responses"),
        ("openai", "gpt-5.4", "openai.chat", True, "openai.chat"),
        ("deepseek", "deepseek-chat", "anthropic.messages", False, "anthropic.messages"),
        ("dashscope", "qwen-vl-max", "dashscope.generation", False, "dashscope.generation"),
        ("anthropic", "claude-sonnet-5", "openai.chat", False, "anthropic.messages"),
    ],
)
def test_which_format_a_model_is_asked_in(vendor: str, model: str, preferred: str, tools: bool, dialect: str) -> None:
    """The caller's own where the vendor takes it for this model, else the vendor's best."""
    found = account(VENDORS[vendor]).dialect(pb.OPERATION_CHAT, preferred, model, tools=tools)

    assert dialect == found


@pytest.mark.parametrize(
    ("vendor", "model", "line"),
    [
        (
            "vertex",
            "claude-x@1",
            "/v1/projects/acme/locations/global/publishers/anthropic/models/claude-x@1:rawPredict",
        ),
        ("azure_deployments", "mine", "/openai/deployments/mine/chat/completions?api-version=2024-10-21"),
        ("bedrock", "us.a.c-v1:0", "/model/us.a.c-v1%3A0/converse"),
        ("gemini", "models/gemini-2.5-pro", "/v1beta/models/gemini-2.5-pro:generateContent"),
        ("openrouter", "a/b", "/api/v1/chat/completions"),
    ],
)
def test_where_a_model_is(vendor: str, model: str, line: str) -> None:
    """Some vendors have it in the path."""
    head = account(VENDORS[vendor]).target(pb.OPERATION_CHAT, model=model).head

    assert f"POST {line} HTTP/1.1" == head.decode().split("\r\n")[0]


def test_models_of_several_families() -> None:
    """The patterns tell generations apart that differ in what they refuse."""
    refused = [
        model
        for model in (
            "claude-3-5-haiku-20241022",
            "claude-haiku-4-5-20251001",
            "claude-opus-4-6",
            "claude-opus-4-7",
            "claude-sonnet-5",
            "us.anthropic.claude-opus-5-v1:0",
        )
        if "temperature" in account(VENDORS["bedrock"]).traits(model).refused
    ]

    assert ["claude-opus-4-7", "claude-sonnet-5", "us.anthropic.claude-opus-5-v1:0"] == refused
    assert not fnmatchcase("claude-haiku-4-5", "*claude-[a-z]*[a-z]-[5-9]*")
