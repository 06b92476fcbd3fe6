"""Starting and stopping what is measured, with a stand-in for the gateway's program."""

import shutil
import sys
import time
from pathlib import Path

import pytest
import yaml

from bench.gateways import ROLES, UnavailableError, bare, fetch, nginx, roles, up, vendor_process, workers

# writes down how it was called; the process that has the HTTP door answers, after a child of its own was started
STAND_IN = """#!{python}
import http.server, pathlib, subprocess, sys, time, yaml
config = yaml.safe_load(pathlib.Path(sys.argv[sys.argv.index("--config") + 1]).read_text())
print("called", *sys.argv[1:-2], flush=True)
if config["providers"]["mock"]["base_url"] == "http://broken/v1":
    sys.exit("this vendor cannot be used")
if "up" in sys.argv or "edge" in sys.argv:
    subprocess.Popen(["sleep", "60"])
    host, port = config["edge"]["http"]["listen"].split(":")
    class Door(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/health/ready" else 404)
            self.end_headers()
    http.server.HTTPServer((host, int(port)), Door).serve_forever()
time.sleep(60)
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "bin" / "polyroute"
    program.parent.mkdir()
    program.write_text(STAND_IN.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program.with_name("python")))
    directory = tmp_path / "run"
    directory.mkdir()
    return directory


def first_line(log: Path) -> str:
    """The first line of a log, waited for: readiness is the edge's, others may not have come so far."""
    deadline = time.monotonic() + 5
    while "\n" not in log.read_text() and time.monotonic() < deadline:
        time.sleep(0.01)
    return log.read_text().partition("\n")[0]


def test_one_process_per_role(stand_in: Path) -> None:
    """Five processes with one configuration, all over TCP; none of them, nor a child of theirs, outlives the target."""
    with roles("http://127.0.0.1:1", stand_in) as target:
        assert target.tree is not None
        running = target.tree.pids()
        calls = {role: first_line(stand_in / f"{role}.log") for role in ROLES}

    config = yaml.safe_load((stand_in / "polyroute.yaml").read_text())
    assert len(running) == len(ROLES) + 1
    assert target.tree.pids() == set()
    assert set(config["mesh"]["listen"]) == set(ROLES) - {"edge"}
    assert target.headers == {"authorization": f"Bearer {config['auth']['bootstrap_key']}"}
    assert {role: f"called serve {role}" for role in ROLES} == calls


def test_workers(stand_in: Path) -> None:
    """The command line asks for two data-plane processes."""
    with workers("http://127.0.0.1:1", stand_in):
        pass

    assert first_line(stand_in / "up.log") == "called up --workers 2"


def test_gateway_that_does_not_start(stand_in: Path) -> None:
    """A target that ends by itself is unavailable, and its log says why."""
    with pytest.raises(UnavailableError) as told, up("http://broken", stand_in):
        pass

    assert "ended by itself" in str(told.value)
    assert "up: this vendor cannot be used" in str(told.value)


def test_gateway_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its program a target is unavailable."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))

    with pytest.raises(UnavailableError, match="install the project"), up("http://127.0.0.1:1", tmp_path):
        pass


def test_bare_server_in_front_of_the_vendor(tmp_path: Path) -> None:
    """The plain Python server passes requests to the vendor."""
    (tmp_path / "vendor").mkdir()
    with vendor_process(tmp_path / "vendor") as origin, bare(origin, tmp_path) as target:
        listed = fetch(f"{target.url}/models")

    assert listed is not None
    assert b"gpt-bench" in listed


def test_nginx_in_front_of_the_vendor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plain proxy passes requests to the vendor; where nginx is not installed it says so."""
    (tmp_path / "vendor").mkdir()
    if shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin") is None:
        pytest.skip("nginx is not installed")
    with vendor_process(tmp_path / "vendor") as origin, nginx(origin, tmp_path) as target:
        listed = fetch(f"{target.url}/models")

    assert listed is not None
    assert b"gpt-bench" in listed
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(UnavailableError, match="not installed"), nginx(origin, tmp_path):
        pass
