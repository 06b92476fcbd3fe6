"""The laws of the house, read from the source: who may import whom, how large things may grow, where a name may stand.

A law that needs an exception has it here, with its reason; an exception that nobody uses any more is a failure too.
"""

import ast
import importlib
import os
import pkgutil
import re
import statistics
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest
from google.protobuf.descriptor import ServiceDescriptor

ROOT: Final = Path(__file__).resolve().parents[2]
SERVICES: Final = ROOT / "services" / "polyroute"
GEN: Final = ROOT / "gen" / "polyroute"

FILE_LINES: Final = 600
FUNCTION_LINES: Final = 80
FUNCTION_MEDIAN: Final = 10
REVISIONS: Final = "/migrations/versions/"  # one step a line, written by a tool: as long as what they change

# Folder -> the folders it may import from, besides itself. The contract, `api`, is open to all.
MAY_IMPORT: Final = {
    "mesh": frozenset[str](),
    "dialects": frozenset({"mesh"}),
    "auth": frozenset({"mesh", "dialects"}),
    "metrics": frozenset({"mesh", "dialects"}),
    "providers": frozenset({"mesh", "dialects"}),
    "router": frozenset({"mesh", "dialects"}),
    "edge": frozenset({"mesh", "dialects"}),
    "cli": frozenset({"mesh", "dialects", "auth", "metrics", "providers", "router", "edge"}),
}
# What the dialects take from the mesh: pure functions may fail, and nothing more.
DIALECTS_MAY_IMPORT: Final = "polyroute.mesh.errors"

# Files that know gRPC besides each service's `service.py` and `wiring.py` and the mesh itself.
GRPC: Final = {
    "edge/draining.py": "reads on in the stream of a stub, and goes on without what cannot be read",
    "edge/flow.py": "calls the stubs of the path of a call, and turns their failures into the mesh's errors",
    "edge/deciding.py": "calls the router's stub, and tells a refusal from a router that is away",
    "edge/sightings.py": "calls the router's stub, and keeps what it did not hear",
    "edge/authorizer.py": "calls auth's stub, and tells a refusal from an auth that is away",
    "edge/usage/desk.py": "asks auth, metrics and the router for people, and goes on where a decision is not kept",
    "edge/admin/gateway.py": "calls the stubs of administration, whichever the contract gives a path",
    "edge/http/pages.py": "calls the stubs of metrics for /metrics, and of the ledger for what a key may spend",
    "edge/things.py": "calls the stub that knows what is whose, and goes on without what cannot be written down",
    "edge/idempotency/claims.py": "calls the stub that keeps idempotency keys; without an answer no call is made",
    "metrics/follower.py": "watches auth's ledger, and goes on without it while auth is away",
    "providers/grpc_transport.py": "calls vendors that are asked over gRPC",
    "providers/sealed.py": "calls auth's stub for sealed keys, and goes on with what it has while auth is away",
    "router/watch.py": "holds watches of other services open over their restarts",
    "cli/client.py": "is a client: says in words what a failed RPC means",
    "cli/chat.py": "is a client of the gRPC door",
}

# Where a vendor's name may stand outside of `providers/`.
VENDOR_WORDS: Final = {
    **{
        ("dialects/", name): "the name of a wire format"
        for name in (
            "anthropic",
            "bedrock",
            "cohere",
            "dashscope",
            "gemini",
            "jina",
            "ollama",
            "openai",
            "voyage",
            "xai",
        )
    },
    **{
        ("edge/", name): "the door for clients of that wire format, its errors and its headers"
        for name in ("anthropic", "azure", "cohere", "gemini", "jina", "openai")
    },
    ("cli/welcome.py", "openai"): "an example of an environment variable that a newcomer may have",
}
# Files of `vendors/` that name no company, or one that has the name of a common word.
GENERIC: Final = frozenset({"anthropic_compatible", "github", "local", "openai_compatible", "together"})
ADDRESS: Final = re.compile(r"https?://\S+")  # of a source may name whomever it likes


def sources(*roots: Path) -> list[Path]:
    """The Python files below some folders."""
    return sorted(path for root in roots for path in root.rglob("*.py"))


@cache
def tree(path: Path) -> ast.Module:
    """A file's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def inside(path: Path) -> str:
    """A file's place below `services/polyroute`."""
    return path.relative_to(SERVICES).as_posix()


def imported(path: Path) -> Iterator[str]:
    """The modules that a file imports, wherever in it; `from a import b` gives `a` and `a.b`."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative imports hide what a file depends on"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def functions(paths: Iterable[Path]) -> Iterator[tuple[str, int]]:
    """Every function's place and its number of lines."""
    for path in paths:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", node.end_lineno - node.lineno + 1


@cache
def contract() -> tuple[ServiceDescriptor, ...]:
    """The services of the contract."""
    modules = [
        importlib.import_module(".".join(path.relative_to(ROOT / "gen").with_suffix("").parts))
        for path in sources(GEN)
        if path.name.endswith("_pb2.py")
    ]
    return tuple(service for module in modules for service in module.DESCRIPTOR.services_by_name.values())


def test_the_namespace_is_nobodys() -> None:
    """Two source roots share the package `polyroute`: an `__init__.py` in either would hide the other."""
    assert [] == [str(root) for root in (SERVICES, GEN) if (root / "__init__.py").exists()]


def test_packages_are_docstrings() -> None:
    """An `__init__.py` says what its folder is, and nothing else."""
    packages = [path for path in sources(SERVICES) if path.name == "__init__.py"]

    assert packages
    assert [] == [
        inside(path) for path in packages if len(tree(path).body) != 1 or ast.get_docstring(tree(path)) is None
    ]


def test_nobody_imports_another_service() -> None:
    """Who imports another service has skipped the RPC."""
    wrong = []
    for path in sources(SERVICES):
        own = inside(path).partition("/")[0]
        for module in imported(path):
            top, _, rest = module.partition(".")
            folder = rest.partition(".")[0]
            if top == "polyroute" and folder not in {"", "api", own} | MAY_IMPORT[own]:
                wrong.append(f"{inside(path)} imports {module}")

    assert [] == wrong


def test_dialects_are_pure() -> None:
    """A dialect takes nothing from the mesh but its error."""
    wrong = [
        f"{inside(path)} imports {module}"
        for path in sources(SERVICES / "dialects")
        for module in imported(path)
        if module.startswith("polyroute.mesh") and not f"{module}.".startswith(f"{DIALECTS_MAY_IMPORT}.")
    ]

    assert [] == wrong


def test_grpc_stays_at_the_borders() -> None:
    """Domain files do not know gRPC: only `service.py`, `wiring.py`, the mesh, and the callers of stubs listed here."""
    users = {
        inside(path)
        for path in sources(SERVICES)
        if path.name not in {"service.py", "wiring.py"}
        and not inside(path).startswith("mesh/")
        and any(module.partition(".")[0] in {"grpc", "grpc_health", "grpc_status"} for module in imported(path))
    }

    assert set(GRPC) == users


def vendor_words() -> re.Pattern[str]:
    """The vendors' names, at the beginning of a word."""
    names = {path.stem for path in sources(SERVICES / "providers" / "vendors")} - GENERIC - {"__init__"}
    return re.compile(rf"(?i)(?<![a-z0-9])({'|'.join(sorted(names))})")


def test_vendors_are_named_among_the_providers_only() -> None:
    """Adding a vendor touches `providers/` and no other place."""
    words = vendor_words()
    used, wrong = set(), []
    for path in sources(SERVICES):
        place = inside(path)
        if place.startswith("providers/"):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            for word in {found.lower() for found in words.findall(ADDRESS.sub("", line))}:
                allowed = {(where, name) for where, name in VENDOR_WORDS if place.startswith(where) and name == word}
                used |= allowed
                if not allowed:
                    wrong.append(f"{place}:{number} names {word}")

    assert [] == wrong
    assert set(VENDOR_WORDS) == used


def test_protos_name_no_vendor_in_a_name() -> None:
    """The contract's own names are nobody's: vendors may only be examples in its comments."""
    words = vendor_words()
    wrong = []
    for path in sorted((ROOT / "protos" / "polyroute").rglob("*.proto")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if words.search(line.partition("//")[0]):
                wrong.append(f"{path.relative_to(ROOT)}:{number}")

    assert [] == wrong


def test_nothing_grows_too_large() -> None:
    """The tail is what separates good code from bad: the longest file and the longest function are bounded."""
    ours = sources(SERVICES, ROOT / "bench", ROOT / "tests")
    files = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in ours}

    assert [] == [f"{path.relative_to(ROOT)}: {lines}" for path, lines in files.items() if lines > FILE_LINES]
    assert [] == [
        f"{place}: {lines}" for place, lines in functions(ours) if lines > FUNCTION_LINES and REVISIONS not in place
    ]


def test_functions_are_short() -> None:
    """Half of the functions fit in ten lines."""
    assert statistics.median(lines for _, lines in functions(sources(SERVICES))) <= FUNCTION_MEDIAN


def test_every_unary_call_has_a_timeout() -> None:
    """A unary call without a bound is a call that can hang for ever."""
    unary = {method.name for service in contract() for method in service.methods if not method.server_streaming}
    calls, wrong = 0, []
    for path in sources(SERVICES):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in unary:
                calls += 1
                if all(keyword.arg != "timeout" for keyword in node.keywords):
                    wrong.append(f"{inside(path)}:{node.lineno} {node.func.attr}")

    assert calls >= 8  # the path of a call and the command line; fewer means that this test has gone blind
    assert [] == wrong


def test_the_contract_has_no_client_streams() -> None:
    """Unary calls and server streams only: that is what the channels of the mesh carry."""
    streams = [method.full_name for service in contract() for method in service.methods if method.client_streaming]

    assert len(contract()) >= 6
    assert [] == streams


# Imports every module and prints what has changed in the process since before: nothing should have.
IMPORT_ALL: Final = """
import importlib, os, pathlib, signal, sys, threading
import asyncio, grpc, pydantic, protovalidate, prometheus_client, rich.console, sqlalchemy.ext.asyncio, uvicorn

def seen():
    sockets = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            sockets.add(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:
            pass  # the descriptor of this listing
    return {
        "threads": {thread.name for thread in threading.enumerate()},
        "descriptors": {name for name in sockets if not name.startswith("/proc/")},
        "environment": set(os.environ.items()),
        "path": set(sys.path),
        "signals": {str(signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)},
        "files": {str(path) for path in pathlib.Path.cwd().rglob("*")},
    }

before = seen()
for name in sys.argv[1:]:
    importlib.import_module(name)
after = seen()
for kind, had in before.items():
    for what in sorted(map(str, after[kind] - had)):
        print(kind, what)
"""


def modules() -> list[str]:
    """Every module below `services/polyroute`."""
    found = []
    for package in sorted(path for path in SERVICES.iterdir() if (path / "__init__.py").exists()):
        found.append(f"polyroute.{package.name}")
        found += [module.name for module in pkgutil.walk_packages([str(package)], prefix=f"polyroute.{package.name}.")]
    return found


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks at open files by way of /proc")
def test_importing_does_nothing(tmp_path: Path) -> None:
    """No thread, socket, file, signal handler, environment variable or output comes of importing any module."""
    path = os.pathsep.join((str(ROOT / "services"), str(ROOT / "gen")))
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PYTHONPATH": path,
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    names = modules()

    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, *names],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert len(names) > 100
    assert ("", "", 0) == (done.stdout, done.stderr, done.returncode)
