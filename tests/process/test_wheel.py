"""The wheel, installed where nothing of the checkout is: what it holds, and that the gateway starts from it."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from email.parser import Parser
from pathlib import Path
from typing import Final

import pytest
import yaml

from bench.gateways import free_port, process, vendor_process, wait_ready

ROOT: Final = Path(__file__).resolve().parents[2]
SECONDS: Final = 60.0
KEY: Final = f"pr-{'w' * 43}"


def run(*words: str, cwd: Path, env: Mapping[str, str] | None = None) -> str:
    """A command's output; it must succeed."""
    done = subprocess.run(
        words, cwd=cwd, env=None if env is None else dict(env), capture_output=True, text=True, timeout=SECONDS
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make dist` builds."""
    folder = tmp_path_factory.mktemp("dist")
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation", "--no-index"]
    run(sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", str(folder), str(ROOT), cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@dataclass(frozen=True)
class Installation:
    """A virtual environment with the wheel in it.

    Attributes:
        program: Its `polyroute`.
        python: Its interpreter.
        environment: All that its processes are given.
    """

    program: Path
    python: Path
    environment: Mapping[str, str]


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """The wheel in an environment of its own; its dependencies are those of this one, which need not be fetched."""
    home = tmp_path_factory.mktemp("wheel")
    folder = home / "venv"
    venv.create(folder, with_pip=False)
    bin_folder = folder / "bin"
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-index"]
    run(sys.executable, "-m", "pip", "--python", str(bin_folder / "python"), "install", *options, str(wheel), cwd=home)
    # a path file inside of another environment's folder is not followed, so the checkout stays out of sight
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n", encoding="utf-8")
    environment = {"PATH": f"{bin_folder}{os.pathsep}/usr/bin{os.pathsep}/bin", "HOME": str(home)}
    return Installation(bin_folder / "polyroute", bin_folder / "python", environment)


def test_what_is_in_the_wheel(wheel: Path) -> None:
    """The services, the contract's modules with their types, the vocabulary of rules, a vendor's messages, no more."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (info,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(info).decode())

    assert {"polyroute", "xai", "buf", info.partition("/")[0]} == {name.partition("/")[0] for name in names}
    assert {"polyroute/py.typed", "polyroute/api/py.typed", "polyroute/api/gateway/v1/gateway_pb2_grpc.py"} <= names
    assert "polyroute/__init__.py" not in names
    assert metadata.get_all("Provides-Extra") == ["bedrock", "local", "parquet"]
    assert metadata["License-Expression"] == "Apache-2.0"


def test_it_is_the_wheel_that_runs(installed: Installation, tmp_path: Path) -> None:
    """Both halves of the namespace come from the environment, and neither from the checkout."""
    source = "import polyroute.cli.main as a, polyroute.api.auth.v1.auth_pb2 as b; print(a.__file__, b.__file__)"

    files = run(str(installed.python), "-c", source, cwd=tmp_path, env=installed.environment).split()
    version = run(str(installed.program), "version", cwd=tmp_path, env=installed.environment)

    assert all(Path(file).is_relative_to(installed.python.parents[1]) for file in files)
    assert f"-{version.strip()}-" in "polyroute-0.1.0-py3-none-any.whl"


def test_the_gateway_starts_from_the_wheel(installed: Installation, tmp_path: Path) -> None:
    """`polyroute up` in an empty folder answers by a vendor, and keeps its data where it is told."""
    port, door = free_port(), f"127.0.0.1:{free_port()}"
    with vendor_process(tmp_path) as origin:
        config = {
            "auth": {"bootstrap_key": KEY},
            "edge": {"http": {"listen": f"127.0.0.1:{port}"}, "grpc": {"listen": door}},
            "providers": {"mock": {"vendor": "openai_compatible", "base_url": f"{origin}/v1"}},
            "models": {"bench-model": {"deployments": ["mock/gpt-bench"]}},
        }
        (tmp_path / "polyroute.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        command = [str(installed.program), "up", "--data-dir", str(tmp_path / "data")]
        with process(command, tmp_path, "up") as started:
            wait_ready(f"http://127.0.0.1:{port}/health/ready", [started], tmp_path)
            words = ("chat", "Say hello.", "--address", door)
            key = {**installed.environment, "POLYROUTE_KEY": KEY}
            answer = run(str(installed.program), *words, cwd=tmp_path, env=key)

    assert answer.count("@") == 16  # the mock vendor's chunks
    assert (tmp_path / "data" / "auth.db").exists()
