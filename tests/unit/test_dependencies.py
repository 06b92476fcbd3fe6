"""What the program imports is what an installation brings: a tool of the developers may not slip in."""

import re
import sys
import tomllib
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
GENERATED: Final = {"polyroute", "buf", "google", "xai"}
# Modules that are called otherwise than what brings them.
BROUGHT_BY: Final = {
    "argon2": "argon2-cffi",
    "grpc": "grpcio",
    "grpc_health": "grpcio-health-checking",
    "grpc_reflection": "grpcio-reflection",
    "grpc_status": "grpcio-status",
    "yaml": "pyyaml",
}

_IMPORT: Final = re.compile(r"^ *(?:from (\w+)[\w.]* import |import (\w+)[\w.]*(?: as \w+)?$)", re.MULTILINE)


def declared() -> set[str]:
    """The distributions that pyproject.toml names as dependencies, also of extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    return {re.split(r"[\[<>=!~; ]", line)[0] for line in lines}


def test_everything_imported_is_declared() -> None:
    """A program that was installed without the development tools starts."""
    imported = {
        (name, path.relative_to(ROOT).as_posix())
        for path in (ROOT / "services").rglob("*.py")
        for name in map("".join, _IMPORT.findall(path.read_text(encoding="utf-8")))
        if name not in sys.stdlib_module_names | GENERATED
    }
    known = declared()

    strange = {(name, path) for name, path in imported if BROUGHT_BY.get(name, name.replace("_", "-")) not in known}
    assert len(imported) > 100
    assert set() == strange
