"""The accounts: those that are configured, those whose keys are found, the embedded model."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from polyroute.api.chat.v1 import chat_pb2
from polyroute.api.errors.v1 import errors_pb2
from polyroute.api.providers.v1.providers_pb2 import KnownModel
from polyroute.mesh.errors import MeshError
from polyroute.mesh.roles import ConfigError
from polyroute.providers.account import Account
from polyroute.providers.config import ProviderConfig
from polyroute.providers.credentials import AwsKey
from polyroute.providers.local.model import LocalModel
from polyroute.providers.registry import all_vendors
from polyroute.providers.roster import Roster, configured, discovered, local_account, offered, price_book
from polyroute.providers.signing.ask import Question, Reply
from polyroute.providers.signing.signers import Signers
from polyroute.providers.vendor import Setting, Vendor

KEYED = Vendor(name="acme", base_url="https://acme.example/v1", key_env=("ACME_KEY", "ACME_TOKEN"), price_book="openai")
HOMELESS = Vendor(name="anywhere", keyless=True)
EMBEDDED = Vendor(name="local", keyless=True)
PLACE = Vendor(
    name="place",
    base_url="https://{region}.place.example/{project}",
    regions={"moon": "https://moon.example/{project}"},
    settings={
        "project": Setting(env=("PLACE_PROJECT",)),
        "region": Setting(env=("PLACE_REGION",), default="eu"),
    },
    key_env=("PLACE_KEY",),
)
TWO = Vendor(name="two", base_url="https://a.example", regions={"east": "https://b.example"}, key_env=("TWO_KEY",))
HOMELY = Vendor(name="homely", key_env=("HOME_KEY",), url_env=("HOME_URL",))
COMMON = Vendor(name="common", base_url="https://x.example", key_env=("COMMON_TOKEN",), discover=False)
SIGNED = Vendor(name="signed", base_url="https://x.example", credential=AwsKey("bedrock"))
VENDORS = {vendor.name: vendor for vendor in (KEYED, HOMELESS, EMBEDDED, PLACE, TWO, HOMELY, COMMON, SIGNED)}


async def nobody(_: Question) -> Reply:
    """Nobody is asked for a token here."""
    raise AssertionError("the network was used")


class Endpoints:
    base_url = "http://127.0.0.1:1"
    embedding_url = "http://127.0.0.1:2"
    api_key = "k"


class Model:
    """An embedded model that is there, or not yet."""

    def __init__(self) -> None:
        self.status = self
        self.endpoints: Endpoints | None = None
        self.state = "loading: 10 %"


def accounts(**providers: dict[str, Any]) -> dict[str, Account]:
    configs = {name: ProviderConfig.model_validate(config) for name, config in providers.items()}
    return configured(configs, VENDORS, local=None)


def head(account: Account) -> bytes:
    return account.target(chat_pb2.OPERATION_CHAT).head


class TestConfigured:
    def test_name_of_the_account_names_the_vendor(self) -> None:
        """Unless it says which."""
        found = accounts(acme={"keys": ["k"]}, second={"vendor": "acme", "keys": ["k"]})

        assert {"acme": KEYED, "second": KEYED} == {name: account.vendor for name, account in found.items()}
        assert not found["acme"].discovered

    def test_own_address_and_headers(self) -> None:
        """Stand instead of the vendor's."""
        found = accounts(anywhere={"base_url": "http://here:8000/v1/", "headers": {"x-team": "red"}})

        assert head(found["anywhere"]).startswith(b"POST /v1/chat/completions HTTP/1.1\r\nhost: here:8000\r\n")
        assert b"x-team: red\r\n" in head(found["anywhere"])

    def test_account_that_is_switched_off(self) -> None:
        """Is not there, and need not be complete, but its vendor must exist."""
        assert {} == accounts(acme={"enabled": False})
        with pytest.raises(ConfigError, match="no vendor"):
            accounts(amce={"enabled": False})

    @pytest.mark.parametrize(
        ("name", "config", "text"),
        [
            ("amce", {"keys": ["k"]}, r"providers\.amce\.vendor: no vendor is called 'amce', did you mean 'acme'"),
            ("acme", {}, r"providers\.acme\.keys: acme needs a key"),
            ("acme", {"keys": [""]}, r"providers\.acme\.keys: acme needs a key"),
            ("anywhere", {}, r"providers\.anywhere\.base_url: anywhere has no address of its own"),
            ("local", {}, r"providers\.local: this process has no embedded model"),
            ("acme", {"keys": ["a\r\nx-evil: 1"]}, r"providers\.acme"),
            ("acme", {"keys": ["k\u2026"]}, r"providers\.acme"),
            ("acme", {"keys": ["k"], "base_url": "http://h:99999/v1"}, r"providers\.acme"),
        ],
    )
    def test_errors_name_their_place(self, name: str, config: dict[str, Any], text: str) -> None:
        """At the start, not at the first call; and never with the key."""
        with pytest.raises(ConfigError, match=text) as caught:
            configured({name: ProviderConfig.model_validate(config)}, VENDORS, local=None)

        assert "evil" not in str(caught.value)
        assert "k\u2026" not in str(caught.value)

    def test_key_from_a_file_ends_with_a_line(self) -> None:
        """White space around a key is not a part of it."""
        assert b"authorization: Bearer k-1\r\n" in head(accounts(acme={"keys": [" k-1\n"]})["acme"])


class TestSettings:
    @pytest.mark.parametrize(
        ("config", "environment", "host"),
        [
            ({"settings": {"project": "p"}}, {}, "eu.place.example"),
            ({"settings": {"project": "p"}, "region": "us"}, {}, "us.place.example"),
            ({"settings": {"project": "p", "region": "us"}}, {}, "us.place.example"),
            ({"settings": {"project": "p"}, "region": "moon"}, {}, "moon.example"),
            ({}, {"PLACE_PROJECT": "p", "PLACE_REGION": "asia"}, "asia.place.example"),
            ({"settings": {"project": "p"}, "region": "us"}, {"PLACE_REGION": "asia"}, "us.place.example"),
        ],
    )
    def test_file_then_environment_then_vendor(
        self, config: dict[str, Any], environment: dict[str, str], host: str
    ) -> None:
        """Whatever is said most closely."""
        configs = {"place": ProviderConfig.model_validate({"keys": ["k"], **config})}
        found = configured(configs, VENDORS, local=None, environment=environment)

        assert host == found["place"].target(chat_pb2.OPERATION_CHAT).address.host
        assert b"POST /p/chat/completions " in head(found["place"])

    @pytest.mark.parametrize(
        ("name", "config", "text"),
        [
            ("place", {}, r"providers\.place\.settings\.project: place needs one"),
            ("place", {"settings": {"projekt": "p"}}, r"settings\.projekt: .* no such setting, did you mean 'project'"),
            ("acme", {"region": "us"}, r"providers\.acme\.region: acme has no such setting"),
            ("two", {"region": "est"}, r"providers\.two\.region: two is not in 'est', did you mean 'east'"),
            ("signed", {"keys": ["id:"]}, r"providers\.signed\.keys: .* not of the form"),
        ],
    )
    def test_errors_name_their_place(self, name: str, config: dict[str, Any], text: str) -> None:
        """At the start."""
        signing = Signers({}, Path("/nonexistent"), nobody)
        configs = {name: ProviderConfig.model_validate({"keys": ["k"], **config})}
        with pytest.raises(ConfigError, match=text):
            configured(configs, VENDORS, local=None, signing=signing)

    def test_machines_own_credentials(self) -> None:
        """Some accounts need no key."""
        assert ["signed"] == list(accounts(signed={}))

    def test_address_from_the_environment(self) -> None:
        """For vendors where every account has its own."""
        configs = {"homely": ProviderConfig.model_validate({"keys": ["k"]})}
        found = configured(configs, VENDORS, local=None, environment={"HOME_URL": "http://mine:1/"})

        assert b"host: mine:1\r\n" in head(found["homely"])


class TestDiscovered:
    @pytest.mark.parametrize(
        ("environment", "names"),
        [
            ({"PLACE_KEY": "k"}, []),
            ({"PLACE_KEY": "k", "PLACE_PROJECT": "p"}, ["place"]),
            ({"HOME_KEY": "k"}, []),
            ({"HOME_KEY": "k", "HOME_URL": "http://mine"}, ["homely"]),
            ({"COMMON_TOKEN": "k"}, []),
        ],
    )
    def test_only_what_is_whole_and_meant(self, environment: dict[str, str], names: list[str]) -> None:
        """A key alone is none where more is needed, nor one that is often there for other work."""
        assert names == list(discovered(environment, VENDORS, {}))

    def test_key_in_the_environment_is_an_account(self) -> None:
        """Under the vendor's name, with the models it is known to serve."""
        found = discovered({"ACME_KEY": "k-1\n", "PATH": "/bin"}, VENDORS, {})

        assert ["acme"] == list(found)
        assert b"Bearer k-1\r\n" in head(found["acme"])
        assert found["acme"].discovered
        assert offered(found["acme"])

    @pytest.mark.parametrize(
        ("environment", "key"),
        [
            ({"ACME_KEY": "a", "ACME_TOKEN": "b"}, b"Bearer a\r\n"),
            ({"ACME_KEY": "", "ACME_TOKEN": "b"}, b"Bearer b\r\n"),
        ],
    )
    def test_first_of_its_variables_counts(self, environment: dict[str, str], key: bytes) -> None:
        """An empty one is none."""
        assert key in head(discovered(environment, VENDORS, {})["acme"])

    @pytest.mark.parametrize("environment", [{}, {"ACME_KEY": ""}, {"ACME_KEY": " \n"}, {"acme_key": "k"}])
    def test_no_key_no_account(self, environment: dict[str, str]) -> None:
        """Vendors without keys are never guessed."""
        assert {} == discovered(environment, VENDORS, {})

    @pytest.mark.parametrize("name", ["acme", "second"])
    def test_configured_vendor_is_not_found_again(self, name: str) -> None:
        """Whatever its account is called."""
        taken = accounts(**{name: {"vendor": "acme", "keys": ["k"]}})

        assert {} == discovered({"ACME_KEY": "k"}, VENDORS, taken)

    def test_key_that_no_header_can_hold(self) -> None:
        """The variable is named, without its value."""
        with pytest.raises(ConfigError, match="ACME_KEY") as caught:
            discovered({"ACME_KEY": "a\nb"}, VENDORS, {})

        assert "a\nb" not in str(caught.value)


class TestEmbeddedModel:
    def test_its_place_is_known_when_it_runs(self) -> None:
        """Chats and vectors have servers of their own."""
        model = Model()
        account = local_account(EMBEDDED, cast("LocalModel", model), name="local", discovered=True)
        before = account.unavailable
        with pytest.raises(MeshError) as caught:
            head(account)
        model.endpoints = Endpoints()
        ports = [
            account.target(operation).address.port
            for operation in (chat_pb2.OPERATION_CHAT, chat_pb2.OPERATION_EMBEDDING)
        ]

        assert ("loading: 10 %", errors_pb2.FAULT_CONNECT, 2.0) == (
            before,
            caught.value.fault,
            caught.value.retry_after,
        )
        assert ([1, 2], "") == (ports, account.unavailable)


class TestRoster:
    async def test_watchers_hear_every_change(self) -> None:
        """An event that was waited for is set once; the next change has another."""
        roster = Roster()
        first = roster.changed
        roster.replace(accounts(acme={"keys": ["k"]}), {"acme": [KnownModel(id="m")]})
        second = roster.changed
        roster.notify()

        assert (True, True, False) == (first.is_set(), second.is_set(), roster.changed.is_set())

    async def test_accounts_in_the_contracts_form(self) -> None:
        """Any model may be asked of a vendor; the embedded one serves its own, whatever its account is called."""
        roster = Roster()
        mine = local_account(EMBEDDED, cast("LocalModel", Model()), name="mine", discovered=True)
        roster.replace({**accounts(acme={"keys": ["k"]}), "mine": mine}, {"acme": [KnownModel(id="m")]})
        acme, local = roster.providers()

        assert (["m"], True, False, "") == (
            [model.id for model in acme.models],
            acme.open_ended,
            acme.discovered,
            acme.unavailable,
        )
        assert (False, True, "loading: 10 %") == (local.open_ended, local.discovered, local.unavailable)

    def test_models_that_each_account_names(self) -> None:
        """Are not known beforehand."""
        vendor = replace(KEYED, own_models=True)
        found = discovered({"ACME_KEY": "k"}, {"acme": vendor}, {})

        assert [] == offered(found["acme"])

    def test_models_of_a_configured_account_are_the_catalogs(self) -> None:
        """Only what was found is offered unasked."""
        assert [] == offered(accounts(acme={"keys": ["k"]})["acme"])


def test_every_vendor_can_be_configured() -> None:
    """With a key and an address, each of them makes an account."""
    configs = {
        name: ProviderConfig.model_validate(
            {
                "keys": ["k"],
                "base_url": "" if vendor.base_url else "http://127.0.0.1:1/v1",
                "settings": dict.fromkeys(vendor.settings, "acme"),
            }
        )
        for name, vendor in all_vendors().items()
    }
    found = configured(configs, all_vendors(), local=cast("LocalModel", Model()))

    assert set(all_vendors()) == set(found)


REGIONAL = replace(TWO, price_book="two", price_books={"east": "two-east"})


@pytest.mark.parametrize(
    ("vendor", "base_url", "expected"),
    [
        (KEYED, "", "openai"),
        (TWO, "", ""),
        (REGIONAL, "", "two"),
        (REGIONAL, "https://b.example/", "two-east"),
        (REGIONAL, "https://proxy.example", "two"),
        (replace(KEYED, own_models=True), "", ""),
    ],
)
def test_price_book_is_that_of_the_region(vendor: Vendor, base_url: str, expected: str) -> None:
    """By its address; behind a proxy the vendor's own; none where names of models are the account's own."""
    account = Account("ours", vendor, base_url=base_url, keys=("k",))
    roster = Roster()
    roster.replace({"ours": account}, {})

    assert expected == price_book(account)
    assert [expected] == [one.price_book for one in roster.providers()]
