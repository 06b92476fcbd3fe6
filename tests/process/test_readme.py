"""The README's sixty seconds, typed in: what `up` prints, the curl line, OpenAI's client, the Python stub."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
import yaml

from bench.gateways import log_tail, process, vendor_process

ROOT: Final = Path(__file__).resolve().parents[2]
PROGRAM: Final = Path(sys.executable).with_name("polyroute")
EXAMPLES: Final = ROOT / "docs" / "examples"
SECONDS: Final = 40.0
CHUNKS: Final = 16  # the mock vendor's answer to a question that asks for nothing special; each has one stamp, `@`


@dataclass(frozen=True)
class Terminal:
    """The reader's second terminal.

    Attributes:
        printed: What `polyroute up` said in the first one.
        environment: With what the README says to export, and our addresses.
    """

    printed: str
    environment: Mapping[str, str]

    def run(self, *words: str) -> str:
        """A command's output; it must succeed."""
        done = subprocess.run(
            words, env=dict(self.environment), capture_output=True, text=True, timeout=SECONDS, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Generator[Terminal]:
    """A gateway as a person starts it, with a vendor that costs nothing."""
    directory = tmp_path_factory.mktemp("readme")
    with vendor_process(directory) as origin:
        config = {
            "log": {"level": "warning"},
            "edge": {"http": {"listen": "127.0.0.1:0"}, "grpc": {"listen": "127.0.0.1:0"}},
            "providers": {"mock": {"vendor": "openai_compatible", "base_url": f"{origin}/v1"}},
            "models": {"bench-model": {"deployments": ["mock/gpt-bench"]}},
        }
        (directory / "polyroute.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        with process([str(PROGRAM), "up", "--data-dir", str(directory / "data")], directory, "up"):
            printed = said(directory / "up.log", "-d '")
            yield Terminal(printed, environment(printed))


def said(log: Path, last: str) -> str:
    """What the process printed, once it has said `last`."""
    deadline = time.monotonic() + SECONDS
    while last not in (printed := log.read_text(encoding="utf-8")):
        if time.monotonic() > deadline:
            pytest.fail(f"not ready after {SECONDS:.0f} s{log_tail(log.parent)}")
        time.sleep(0.05)
    return printed


def environment(printed: str) -> dict[str, str]:
    """The variables of the second terminal."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join((str(ROOT / "services"), str(ROOT / "gen"))),
        "NO_PROXY": "127.0.0.1",
        "POLYROUTE_KEY": word_after("key", printed),
        "POLYROUTE_URL": word_after("ready", printed),
        "POLYROUTE_GRPC": word_after("gRPC", printed),
        "POLYROUTE_MODEL": "bench-model",
    }


def word_after(label: str, printed: str) -> str:
    """What stands behind a label."""
    found = re.search(rf"\b{label} +(\S+)", printed)
    assert found is not None, printed
    return found[1]


def test_what_up_prints_works(terminal: Terminal) -> None:
    """The line that `up` prints, copied into a shell, streams an answer to its end."""
    line = terminal.printed[terminal.printed.index("  curl") :].strip()

    answer = terminal.run("bash", "-c", f"{line} --silent --show-error")

    assert "pr-" in line
    assert answer.count("@") == CHUNKS
    assert answer.endswith("data: [DONE]\n\n")


def test_the_curl_line_of_the_readme(terminal: Terminal) -> None:
    """The README's own line does the same, with the key from the environment."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(r"^(curl .*?)\n(?!  )", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    here = terminal.environment["POLYROUTE_URL"]
    line = found[1].replace("http://127.0.0.1:8080/v1", here).replace("smollm2-135m-instruct", "bench-model")

    answer = terminal.run("bash", "-c", f"{line} --silent --show-error")

    assert here in line
    assert answer.count("@") == CHUNKS
    assert answer.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("name", ["openai_sdk.py", "grpc_stub.py"])
def test_python_examples(terminal: Terminal, name: str) -> None:
    """Each example prints the answer as it comes."""
    answer = terminal.run(sys.executable, str(EXAMPLES / name))

    assert answer.count("@") == CHUNKS
