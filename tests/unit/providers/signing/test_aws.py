"""Where AWS credentials come from, in which order, and what is said when there are none."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from polyroute.api.errors.v1 import errors_pb2
from polyroute.mesh.errors import MeshError
from polyroute.providers.signing import aws
from polyroute.providers.signing.sigv4 import Credentials


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Botocore:
    """The library's `session` module with credentials that change at every renewal."""

    def __init__(self, *, found: bool = True, error: Exception | None = None) -> None:
        self.found = found
        self.error = error
        self.asked = 0

    def get_session(self) -> Any:
        return SimpleNamespace(get_credentials=lambda: self if self.found else None)

    def get_frozen_credentials(self) -> Any:
        if self.error:
            raise self.error
        self.asked += 1
        return SimpleNamespace(access_key=f"AK{self.asked}", secret_key="s", token="t")


def machine(tmp_path: Path, botocore: Any = None, clock: Clock | None = None, **environment: str) -> Any:
    """Credentials of a machine whose home is a test's folder."""
    return aws.MachineCredentials(environment, tmp_path, clock=clock or Clock(), botocore=lambda: botocore)


def shared(tmp_path: Path, credentials: str = "", config: str = "") -> None:
    """Writes the shared files."""
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text(credentials)
    (tmp_path / ".aws" / "config").write_text(config)


def test_a_key_pair_is_written_with_colons() -> None:
    """With a session's token or without."""
    assert Credentials("a", "b") == aws.parse_key("a:b")
    assert Credentials("a", "b", "c:d") == aws.parse_key(" a:b:c:d ")


@pytest.mark.parametrize("secret", ["a", "a:", ":b", "a:b:"])
def test_a_broken_key_pair_is_refused_without_being_shown(secret: str) -> None:
    """The message says the form, never the key."""
    with pytest.raises(MeshError) as caught:
        aws.parse_key(secret)

    assert errors_pb2.FAULT_CREDENTIAL == caught.value.fault


def test_the_api_key_of_the_environment() -> None:
    """It stands in a variable of its own."""
    assert "k" == aws.api_key({"AWS_BEARER_TOKEN_BEDROCK": " k "})
    assert "" == aws.api_key({})


async def test_the_environment_comes_first(tmp_path: Path) -> None:
    """Before files and the machine."""
    shared(tmp_path, "[default]\naws_access_key_id = F\naws_secret_access_key = f\n")
    credentials = machine(tmp_path, Botocore(), AWS_ACCESS_KEY_ID="E", AWS_SECRET_ACCESS_KEY="e", AWS_SESSION_TOKEN="t")

    assert Credentials("E", "e", "t") == await credentials.get()


async def test_half_a_key_pair_in_the_environment_is_none(tmp_path: Path) -> None:
    """It does not hide the files."""
    shared(tmp_path, "[default]\naws_access_key_id = F\naws_secret_access_key = f\n")

    assert Credentials("F", "f") == await machine(tmp_path, AWS_ACCESS_KEY_ID="E").get()


async def test_the_profile_in_the_shared_files(tmp_path: Path) -> None:
    """By name; the second file adds what the first lacks."""
    shared(
        tmp_path,
        "[default]\naws_access_key_id = D\naws_secret_access_key = d\n[work]\naws_access_key_id = W\n",
        "[profile work]\nregion = eu-west-1\naws_secret_access_key = w%x\naws_session_token = t\n",
    )

    assert Credentials("W", "w%x", "t") == await machine(tmp_path, AWS_PROFILE="work").get()


async def test_the_shared_file_may_lie_elsewhere(tmp_path: Path) -> None:
    """Its path stands in the environment."""
    place = tmp_path / "keys"
    place.write_text("[default]\naws_access_key_id = X\naws_secret_access_key = x\n")

    assert Credentials("X", "x") == await machine(tmp_path, AWS_SHARED_CREDENTIALS_FILE=str(place)).get()


async def test_a_profile_that_leads_elsewhere_is_left_to_the_library(tmp_path: Path) -> None:
    """A role to be assumed is not the key pair beside it."""
    shared(tmp_path, "[default]\naws_access_key_id = F\naws_secret_access_key = f\nrole_arn = arn:x\n")

    assert Credentials("AK1", "s", "t") == await machine(tmp_path, Botocore()).get()


async def test_the_machines_own_credentials_are_asked_for_again(tmp_path: Path) -> None:
    """Every few minutes, while requests go on with those at hand."""
    clock, botocore = Clock(), Botocore()
    credentials = machine(tmp_path, botocore, clock)

    first = [await credentials.get() for _ in range(3)]
    assert [1, "AK1"] == [botocore.asked, first[2].access_key]

    clock.now += 151
    again = await credentials.get()
    await credentials._renewed._task
    assert ["AK1", "AK2"] == [again.access_key, (await credentials.get()).access_key]


@pytest.mark.parametrize(
    ("botocore", "words"),
    [
        (None, "need the extra bedrock"),
        (Botocore(found=False), "no aws credentials in the environment"),
        (Botocore(error=RuntimeError("secret words")), "cannot be had: RuntimeError"),
    ],
)
async def test_without_credentials_it_is_said_what_was_looked_for(tmp_path: Path, botocore: Any, words: str) -> None:
    """In words that help an operator, and hold nothing that a library said."""
    with pytest.raises(MeshError, match=words) as caught:
        await machine(tmp_path, botocore).get()

    assert errors_pb2.FAULT_CREDENTIAL == caught.value.fault
    assert "secret words" not in caught.value.message


async def test_a_broken_shared_file_is_named(tmp_path: Path) -> None:
    """By its name, without what it holds."""
    shared(tmp_path, "aws_access_key_id = F\n")

    with pytest.raises(MeshError, match="the file credentials of shared credentials cannot be read") as caught:
        await machine(tmp_path, Botocore()).get()
    assert "F" not in caught.value.message.split()


def test_the_library_is_loaded_when_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not before it is needed, and its absence is no failure."""
    module = ModuleType("botocore.session")
    monkeypatch.setitem(sys.modules, "botocore.session", module)
    assert module is aws.load_botocore()

    monkeypatch.setitem(sys.modules, "botocore.session", None)
    assert aws.load_botocore() is None
