"""The whole configuration: found, read, with the command line on top."""

from pathlib import Path
from typing import Any

import pytest

from polyroute.cli.config import Config, default_data_dir, find, load
from polyroute.cli.options import overrides
from polyroute.cli.roles import chosen
from polyroute.mesh.roles import ROLES, ConfigError


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in the current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "polyroute.yaml"


class TestFind:
    def test_named_file_is_taken(self, path: Path) -> None:
        """Whether it is there or not: its absence is an error of its own."""
        path.write_text("")

        assert Path("other.yaml") == find(Path("other.yaml"), {"POLYROUTE_CONFIG": "env.yaml"})

    @pytest.mark.parametrize(
        ("environment", "files", "expected"),
        [
            ({"POLYROUTE_CONFIG": "env.yaml"}, ["polyroute.yaml"], Path("env.yaml")),
            ({"POLYROUTE_CONFIG": ""}, ["polyroute.yaml"], Path("polyroute.yaml")),
            ({}, ["polyroute.yml"], Path("polyroute.yml")),
            ({}, ["polyroute.yml", "polyroute.yaml"], Path("polyroute.yaml")),
            ({}, [], None),
        ],
    )
    def test_order(self, path: Path, environment: dict[str, str], files: list[str], expected: Path | None) -> None:
        """The environment, then this folder, then none."""
        for name in files:
            path.with_name(name).write_text("")

        assert expected == find(None, environment)


class TestLoad:
    def test_no_file_is_the_defaults(self) -> None:
        """A gateway starts without any."""
        config = load(None)

        assert ({}, {}, "127.0.0.1:8080") == (config.providers, config.models, config.edge.http.listen)

    def test_command_line_stands_above_the_file(self, path: Path) -> None:
        """Where both speak; the rest of a section stays."""
        path.write_text("edge: {http: {listen: '127.0.0.1:1', body_seconds: 7}}\nlog: {format: json}")
        config = load(path, overrides(Path("/d"), "debug", "127.0.0.1:2", {"mesh": {"drain_delay": 0}}))

        assert ("127.0.0.1:2", 7) == (config.edge.http.listen, config.edge.http.body_seconds)
        assert (Path("/d"), "debug", "json", 0) == (
            config.data_dir,
            config.log.level,
            config.log.format,
            config.mesh.drain_delay,
        )

    def test_silent_command_line_changes_nothing(self, path: Path) -> None:
        """An option that is not given is no value."""
        path.write_text("log: {level: warning}")

        assert "warning" == load(path, overrides(None, None, None, {})).log.level

    @pytest.mark.parametrize(
        ("text", "place"),
        [
            ("log: info", "log"),
            ("edge: [1]", "edge"),
            ("edge: {http: 8080}", "edge.http"),
            ("1: 2", "1"),
            ("models: {m: {deployments: []}}", "models.m.deployments"),
            ("edge: {http: {max_body_bytes: 99999999999}}", "edge.http.max_body_bytes"),
        ],
    )
    def test_what_cannot_be_merged_is_named(self, path: Path, text: str, place: str) -> None:
        """As any other mistake in the file, whatever the command line says beside it."""
        path.write_text(text)
        said = overrides(None, "debug", "127.0.0.1:2")
        with pytest.raises(ConfigError, match=rf"polyroute\.yaml: {place}"):
            load(path, said)

    def test_empty_section_is_the_defaults(self, path: Path) -> None:
        """YAML says null where nothing follows a key."""
        path.write_text("log:\n")

        assert "debug" == load(path, overrides(None, "debug", None, {})).log.level

    def test_secrets_are_not_shown(self, path: Path) -> None:
        """A key in the file does not come back in a dump."""
        path.write_text("providers: {openai: {keys: [sk-secret]}}\nmesh: {token: t0ken}")
        config = load(path)

        assert not any(secret in f"{config!r}{config.model_dump_json()}" for secret in ("sk-secret", "t0ken"))

    def test_schema_describes_every_setting(self) -> None:
        """Editors show what each one means."""

        def bare(schema: dict[str, Any]) -> list[str]:
            return [
                name
                for definition in [schema, *schema["$defs"].values()]
                for name, setting in definition.get("properties", {}).items()
                if "description" not in setting
            ]

        assert [] == bare(Config.model_json_schema())


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"POLYROUTE_DATA": "/a"}, Path("/a")),
        ({"XDG_DATA_HOME": "/b"}, Path("/b/polyroute")),
        ({"POLYROUTE_DATA": "", "XDG_DATA_HOME": ""}, Path.home() / ".local/share/polyroute"),
    ],
)
def test_data_folder(environment: dict[str, str], expected: Path) -> None:
    """One's own choice, then the desktop's, then the usual one."""
    assert expected == default_data_dir(environment)


def test_unknown_role() -> None:
    """Is named, with those that there are."""
    with pytest.raises(ConfigError, match=r"no role is called 'ruoter'.*auth, metrics, providers, router, edge"):
        chosen(["auth", "ruoter"], ROLES)

    assert frozenset({"auth"}) == chosen(["auth", "auth"], ROLES)
