"""How settings are read: one YAML file, the environment, and errors that name their place."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from polyroute.mesh.config import MeshConfig, Section, read_yaml, suggestion, validated
from polyroute.mesh.roles import ConfigError

TLS = {"cert": "a.pem", "key": "a.key", "ca": "ca.pem"}


class Door(Section):
    listen: str = ""
    seconds: float = Field(default=1, gt=0)


class House(Section):
    door: Door = Door()
    rooms: dict[str, Door] = Field(default_factory=dict)
    floors: tuple[Door, ...] = ()
    cellar: Door | None = None


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "polyroute.yaml"


def read(path: Path, text: str | bytes, **environment: str) -> dict[str, Any]:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_yaml(path, environment)


def complaint(tree: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        validated(House, tree, source="f")
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("tree", "line"),
    [
        ({"dor": {}}, "f: dor: unknown key, did you mean 'door'?"),
        ({"door": {"lisen": "x"}}, "f: door.lisen: unknown key, did you mean 'listen'?"),
        ({"rooms": {"hall": {"secnds": 1}}}, "f: rooms.hall.secnds: unknown key, did you mean 'seconds'?"),
        ({"floors": [{}, {"lisen": "x"}]}, "f: floors.1.lisen: unknown key, did you mean 'listen'?"),
        ({"cellar": {"lisen": "x"}}, "f: cellar.lisen: unknown key, did you mean 'listen'?"),
        ({"door": {"qqq": 1}}, "f: door.qqq: unknown key (known: listen, seconds)"),
    ],
)
def test_unknown_key_is_an_error_that_knows_better(tree: dict[str, Any], line: str) -> None:
    """At any depth, in lists, maps and optional sections."""
    assert [line] == complaint(tree)


def test_every_problem_is_told_at_once() -> None:
    """One a line, each with its place; the value itself may be a secret and is not shown."""
    lines = complaint({"door": {"seconds": -1, "listen": ["pr-secret"]}, "dor": 1})

    assert ["f: door.listen", "f: door.seconds", "f: dor"] == [line.rpartition(": ")[0] for line in sorted(lines)]
    assert "pr-secret" not in "".join(lines)


@pytest.mark.parametrize(
    ("text", "environment", "value"),
    [
        ("${A}", {"A": "1"}, "1"),
        ("x-${A}-${B}", {"A": "1", "B": "2"}, "x-1-2"),
        ("${A:-d}", {}, "d"),
        ("${A:-d}", {"A": ""}, "d"),
        ("${A:-d}", {"A": "1"}, "1"),
        ("${A:-}", {}, ""),
        ("$A", {"A": "1"}, "$A"),
        ("$${A}", {"A": "1"}, "$1"),
        ("${A}", {"A": "${B}", "B": "no"}, "${B}"),
    ],
)
def test_environment_is_put_in(path: Path, text: str, environment: dict[str, str], value: str) -> None:
    """In values anywhere, once, never in what the environment itself says."""
    tree = read(path, f"a: {{b: ['{text}', 1, true, null]}}", **environment)

    assert {"a": {"b": [value, 1, True, None]}} == tree


def test_every_missing_variable_is_named(path: Path) -> None:
    """With its file."""
    with pytest.raises(ConfigError) as caught:
        read(path, "a: '${ONE}'\nb: ['${TWO}']")

    lines = [f"{path}: ${{{name}}} is not set in the environment" for name in ("ONE", "TWO")]
    assert lines == str(caught.value).splitlines()


def test_value_from_the_environment_is_text(path: Path) -> None:
    """A key of digits stays one; YAML in a variable is no YAML."""
    assert {"a": "123", "b": "{c: 1}"} == read(path, "a: ${A}\nb: ${B}", A="123", B="{c: 1}")


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n"])
def test_empty_file_is_the_defaults(path: Path, text: str) -> None:
    """Every section may be left out."""
    assert {} == read(path, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a", "not a mapping of sections"),
        ("a: [", "not YAML"),
        (b"\xff\xfea", "not YAML"),
        ("a: !!python/object/apply:os.system ['true']", "not YAML"),
    ],
)
def test_what_is_no_configuration(path: Path, text: str | bytes, message: str) -> None:
    """Names the file; nothing in it is executed."""
    with pytest.raises(ConfigError, match=message) as caught:
        read(path, text)

    assert str(caught.value).startswith(str(path))


def test_file_that_is_not_there(path: Path) -> None:
    """In the system's words."""
    with pytest.raises(ConfigError, match="No such file"):
        read_yaml(path)


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1:1", "127.8.8.8:1", "[::1]:1", "localhost:1", "unix:/run/a.sock"],
)
def test_loopback_needs_no_secret(address: str) -> None:
    """Only this machine can reach it."""
    assert {"auth": address} == MeshConfig(listen={"auth": address}).listen


@pytest.mark.parametrize(
    "address", ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "example.org:1", ":1", "*:1", "127.0.0.1.evil:1"]
)
def test_no_role_listens_beyond_loopback_unprotected(address: str) -> None:
    """With a token, with mutual TLS, or not at all; the edge has keys of its own."""
    with pytest.raises(ConfigError, match="auth would listen beyond loopback"):
        validated(MeshConfig, {"listen": {"auth": address}})
    validated(MeshConfig, {"listen": {"auth": address}, "token": "t"})
    validated(MeshConfig, {"listen": {"auth": address}, "tls": TLS})
    validated(MeshConfig, {"listen": {"edge": address}})


@pytest.mark.parametrize("section", ["listen", "peers"])
def test_unknown_role(section: str) -> None:
    """Is named."""
    with pytest.raises(ConfigError, match="unknown role 'ruoter', did you mean 'router'"):
        validated(MeshConfig, {section: {"ruoter": "127.0.0.1:1"}})


def test_token_is_not_shown() -> None:
    """In no dump, no message."""
    config = MeshConfig.model_validate({"token": "t0ken"})

    assert "t0ken" not in f"{config!r} {config.model_dump()}"


def test_suggestion_without_candidates() -> None:
    """Says nothing."""
    assert "" == suggestion("a", [])
