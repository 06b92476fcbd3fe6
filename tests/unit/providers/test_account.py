"""An account: which format, which address, which headers."""

from dataclasses import dataclass, replace
from typing import Any

import pytest

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects import openai_chat
from polyroute.mesh.errors import MeshError
from polyroute.providers.account import Account
from polyroute.providers.credentials import HeaderKey, QueryKey
from polyroute.providers.spoken import CHAT, EMBEDDINGS, RESPONSES, Spoken, below
from polyroute.providers.traits import Edit, Traits
from polyroute.providers.vendor import Quirks, Setting, Vendor

NATIVE = Spoken(
    pb.OPERATION_CHAT,
    "acme.chat",
    "/p/{project}/models/{model}:ask",
    "/p/{project}/models/{model}:stream?alt=sse",
    headers={"x-form": "2"},
    stream_headers={"x-sse": "on"},
)
ACME = Vendor(
    name="acme",
    base_url="https://{region}.acme.example",
    regions={"moon": "https://acme.moon"},
    settings={"project": Setting(), "region": Setting(default="eu")},
    speaks=(NATIVE, CHAT.at("/v1"), EMBEDDINGS.at("/v1")),
)
SETTINGS = {"project": "p 1", "region": "eu"}


def lines(account: Account, *, dialect: str = "", model: str = "m", stream: bool = False) -> list[str]:
    head = account.target(pb.OPERATION_CHAT, dialect, model=model, stream=stream).head
    return head.decode().split("\r\n")


def mine(vendor: Vendor = ACME, **members: Any) -> Account:
    values = {"keys": ("k",), "settings": SETTINGS, **members}
    return Account("mine", vendor, **values)


class TestFormat:
    @pytest.mark.parametrize(
        ("preferred", "dialect"), [("", "acme.chat"), ("openai.chat", "openai.chat"), ("x", "acme.chat")]
    )
    def test_callers_own_when_it_is_spoken(self, preferred: str, dialect: str) -> None:
        """So that its bytes pass as they are; the vendor's best otherwise."""
        assert dialect == mine().dialect(pb.OPERATION_CHAT, preferred)

    def test_work_that_is_not_offered(self) -> None:
        """Has no format, and no address."""
        account = mine()
        with pytest.raises(MeshError) as caught:
            account.target(pb.OPERATION_IMAGE)

        assert "" == account.dialect(pb.OPERATION_IMAGE)
        assert errors_pb2.FAULT_CLIENT == caught.value.fault

    def test_patterns_of_models(self) -> None:
        """Some models are asked in one format only, others in all but that."""
        vendor = Vendor(
            name="acme",
            base_url="https://x",
            speaks=(replace(NATIVE, models=("big-*",)), replace(CHAT, but=("big-*",))),
        )
        found = [mine(vendor).dialect(pb.OPERATION_CHAT, "openai.chat", model) for model in ("BIG-1", "small", "")]

        assert ["acme.chat", "openai.chat", "openai.chat"] == found

    def test_tools_in_one_format(self) -> None:
        """A request with tools goes where the model takes them."""
        models = (Traits(models=("m",), tools_in="openai.responses"),)
        account = mine(Vendor(name="acme", base_url="https://x", speaks=(CHAT, RESPONSES), models=models))
        found = [
            account.dialect(pb.OPERATION_CHAT, "openai.chat", model, tools=tools)
            for model, tools in (("m", True), ("m", False), ("n", True))
        ]

        assert ["openai.responses", "openai.chat", "openai.chat"] == found


class TestAddress:
    def test_parts_of_a_path(self) -> None:
        """Settings and model are percent-encoded, each in its own segment."""
        first = [lines(mine(), model="a/b?c#d", stream=stream)[:2] for stream in (False, True)]

        assert [
            ["POST /p/p%201/models/a%2Fb%3Fc%23d:ask HTTP/1.1", "host: eu.acme.example"],
            ["POST /p/p%201/models/a%2Fb%3Fc%23d:stream?alt=sse HTTP/1.1", "host: eu.acme.example"],
        ] == first

    @pytest.mark.parametrize("model", ["", ".", ".."])
    def test_names_that_no_model_has(self, model: str) -> None:
        """They would make another path of it."""
        with pytest.raises(MeshError) as caught:
            lines(mine(), model=model)

        assert errors_pb2.FAULT_MODEL_GONE == caught.value.fault

    @pytest.mark.parametrize(
        ("base_url", "settings", "host"),
        [
            ("", SETTINGS, "eu.acme.example"),
            ("", {**SETTINGS, "region": "moon"}, "acme.moon"),
            ("http://proxy:8080/", SETTINGS, "proxy:8080"),
        ],
    )
    def test_own_then_region_then_vendor(self, base_url: str, settings: dict[str, str], host: str) -> None:
        """Whatever is said most closely."""
        assert f"host: {host}" in lines(mine(base_url=base_url, settings=settings))

    def test_work_at_another_address(self) -> None:
        """A vendor may have a second one; whoever has his own address keeps everything there."""
        vendor = replace(ACME, speaks=(replace(CHAT, base_url="https://other.{region}"),))

        assert "host: other.eu" in lines(mine(vendor))
        assert "host: proxy" in lines(mine(vendor, base_url="http://proxy"))

    def test_query(self) -> None:
        """What the path, the vendor and the key put there, in this order."""
        vendor = replace(ACME, query={"v": "{region}"}, credential=QueryKey("key"))
        account = Account("mine", vendor, keys=("a b",), settings=SETTINGS)

        assert "POST /p/p%201/models/m:stream?alt=sse&v=eu&key=a%20b HTTP/1.1" == lines(account, stream=True)[0]

    @pytest.mark.parametrize(
        ("url", "host", "port", "tls"),
        [
            ("https://a.example/v1", "a.example", 443, True),
            ("http://a.example:8000", "a.example", 8000, False),
            ("http://[::1]:9/v1", "::1", 9, False),
            ("https://me:secret@a.example/v1", "a.example", 443, True),
        ],
    )
    def test_connection(self, url: str, host: str, port: int, tls: bool) -> None:
        """Where connections go; a name and password in it go nowhere."""
        target = Account("mine", Vendor(name="acme"), base_url=url).target(pb.OPERATION_CHAT)

        assert (host, port, tls) == (target.address.host, target.address.port, target.address.tls)
        assert b"secret" not in target.head

    def test_target_is_made_once(self) -> None:
        """Every call needs one."""
        account = mine()
        key = account.key()
        made = [account.target(pb.OPERATION_CHAT, "acme.chat", model="m", key=key) for _ in range(2)]

        assert made[0] is made[1]
        assert made[0] is not account.target(pb.OPERATION_CHAT, "acme.chat", model="n", key=key)


class TestHeaders:
    def test_all_that_have_a_say(self) -> None:
        """The vendor's, the format's, the account's, the key's: the later stand in place of the earlier."""
        vendor = replace(ACME, headers={"x-form": "1", "x-version": "3"}, credential=HeaderKey("x-api-key", ""))
        account = mine(vendor, headers={"X-Team": "red", "x-version": "4"})
        whole, stream = lines(account), lines(account, stream=True)

        assert {"x-form: 2", "x-version: 4", "x-team: red", "x-api-key: k", "accept-encoding: identity"} <= set(whole)
        assert "x-sse: on" in stream
        assert "x-sse: on" not in whole
        assert len(whole) == len({line.partition(":")[0] for line in whole})

    def test_connection_that_the_vendor_closes(self) -> None:
        """Is not kept."""
        vendor = replace(ACME, quirks=Quirks(keep_alive=False))

        assert "connection: close" in lines(mine(vendor))
        assert "connection: close" not in lines(mine())

    @pytest.mark.parametrize("members", [{"keys": ("a\nb",)}, {"headers": {"x": "a\r\ny: b"}}, {"keys": ("\u2026",)}])
    def test_what_cannot_be_sent_is_known_at_the_start(self, members: dict[str, Any]) -> None:
        """Not at the first call."""
        with pytest.raises(ValueError, match=r"."):
            mine(**members)

    async def test_most_vendors_sign_nothing(self) -> None:
        """Their targets hold all there is."""
        account = mine()
        key = account.key()

        assert {} == dict(await account.authorize(key, account.target(pb.OPERATION_CHAT, model="m", key=key), b"{}"))


@dataclass(frozen=True)
class Plain:
    """A dialect without options."""

    name: str = "acme.chat"


class TestTuning:
    def test_options_of_vendor_and_model(self) -> None:
        """The model's members stand above the vendor's."""
        vendor = replace(
            ACME,
            options={"openai.chat": openai_chat.Options(reasoning_member="reasoning", developer_role=True)},
            models=(Traits(models=("m*",), options={"openai.chat": {"reasoning_member": "thoughts"}}),),
        )
        found = [mine(vendor).tuned(openai_chat.OpenAIChat(), model).options for model in ("m1", "other")]

        assert [("thoughts", True), ("reasoning", True)] == [
            (one.reasoning_member, one.developer_role) for one in found
        ]

    def test_dialect_that_needs_none(self) -> None:
        """Stays as it is."""
        dialect, plain = openai_chat.OpenAIChat(), Plain()

        assert dialect is mine().tuned(dialect, "m")
        assert plain is mine().tuned(plain)

    def test_edit_of_a_format(self) -> None:
        """What a vendor has in its path is no loss."""
        spoken = replace(NATIVE, edit=Edit(drop=frozenset({"model"}), put={"version": b'"1"'}))
        account = mine(replace(ACME, speaks=(spoken, *below("/v1", CHAT))))
        found = account.edited(pb.OPERATION_CHAT, "acme.chat", b'{"model":"m","a":[1, 2]}', "m")

        assert (b'{"version":"1","a":[1, 2]}', []) == (found.body, found.dropped)
        assert b"{}" == account.edited(pb.OPERATION_CHAT, "openai.chat", b"{}", "m").body
        assert b"{}" == account.edited(pb.OPERATION_IMAGE, "", b"{}").body
