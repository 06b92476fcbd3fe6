"""docker-compose.yml without Docker: its services as processes, each with its own command, environment and data folder.

What Docker would do is read from the file: commands, environment, mounted configuration, health checks. Only addresses
are others: every name of a service becomes the loopback interface, every port a free one.
"""

import asyncio
import os
import re
import secrets
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import psycopg
import pytest
import yaml

from bench.gateways import free_port, log_tail, stop
from bench.vendor import Vendor
from polyroute.mesh.config import MeshConfig
from polyroute.mesh.roles import ROLES
from polyroute.metrics.schema import CALLS

ROOT: Final = Path(__file__).resolve().parents[2]
PROGRAM: Final = Path(sys.executable).with_name("polyroute")
TOKEN: Final = "a-token-of-the-mesh"
KEY: Final = f"pr-{'k' * 43}"
SECRETS: Final = {"POLYROUTE_MESH_TOKEN": TOKEN, "POLYROUTE_BOOTSTRAP_KEY": KEY}
SECONDS: Final = 40.0

_REFERENCE: Final = re.compile(r"\$\{(\w+)(?:(:-|:\?)([^}]*))?\}")
_ADDRESS: Final = re.compile(r"(0\.0\.0\.0|dns:///\w+):(\d+)")


def compose() -> dict[str, Any]:
    """The file."""
    tree: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    return tree


def services() -> dict[str, dict[str, Any]]:
    """Its roles by name."""
    return {name: service for name, service in compose()["services"].items() if "profiles" not in service}


def databases() -> dict[str, dict[str, Any]]:
    """Its services that are there when they are asked for."""
    return {name: service for name, service in compose()["services"].items() if "profiles" in service}


def interpolated(text: str, environment: Mapping[str, str]) -> str:
    """Compose's `${NAME}`, `${NAME:-default}` and `${NAME:?error}`; KeyError for the last when it is missing."""

    def value(match: re.Match[str]) -> str:
        name, form, rest = match.groups()
        found = environment.get(name, "")
        if not found and form == ":?":
            raise KeyError(rest)
        return found or (rest or "" if form == ":-" else "")

    return _REFERENCE.sub(value, text)


def seconds(duration: str) -> float:
    """A duration of Compose in seconds, such as `1m30s`."""
    units = {"s": 1, "m": 60, "h": 3600}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)([smh])", duration))


def test_one_container_per_role_from_one_image() -> None:
    """Each service plays the role of its name, from the same image."""
    found = services()

    assert set(ROLES) == set(found)
    assert {name: ["serve", name] for name in ROLES} == {name: service["command"] for name, service in found.items()}
    assert len({service["image"] for service in found.values()}) == 1


@pytest.mark.parametrize("name", ROLES)
def test_containers_are_closed(name: str) -> None:
    """No root, no new privileges, no capability, nothing to write to but the volumes and /tmp."""
    service = services()[name]

    assert service["read_only"] is True
    assert "/tmp" in service["tmpfs"]
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    written = [volume.split(":")[1] for volume in service["volumes"]]
    written += [mount.split(":")[0] for mount in service["tmpfs"]]
    assert "/var/lib/polyroute" in written  # sockets and locks, if nothing else
    user = service["user"].partition(":")[0]
    assert user.isdigit()
    assert int(user) >= 1000
    assert f"USER {service['user']}" in (ROOT / "Dockerfile").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ROLES)
def test_containers_have_time_to_drain(name: str) -> None:
    """The grace is longer than the drains of both doors, one after the other."""
    mesh = yaml.safe_load((ROOT / "deploy" / "polyroute.yaml").read_text(encoding="utf-8"))["mesh"]

    assert seconds(services()[name]["stop_grace_period"]) > 2 * (mesh["drain_delay"] + mesh["drain_grace"])


@pytest.mark.parametrize("name", ROLES)
def test_health_is_asked_by_our_own_command(name: str) -> None:
    """The health check asks the role that the container plays, and whoever needs a role waits until it is healthy."""
    service = services()[name]

    assert service["healthcheck"]["test"] == ["CMD", "polyroute", "health", "--role", name]
    for needed, how in service.get("depends_on", {}).items():
        assert how == {"condition": "service_healthy"} | ({"required": False} if needed in databases() else {})


def test_databases_are_optional_and_as_closed() -> None:
    """Files unless it is said otherwise; the credentials are with the roles that keep something, and nobody else."""
    found = databases()
    told = {name for name, service in services().items() if "POLYROUTE_DATABASE" in service["environment"]}
    given = services()["auth"]["environment"]

    assert {"postgres", "redis"} == set(found)
    assert {"auth", "metrics", "router"} == told
    assert ["", ""] == [interpolated(given[f"POLYROUTE_{name}"], {}) for name in ("DATABASE", "REDIS")]
    for service in found.values():
        assert service["profiles"] == ["databases"]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]
        assert service["networks"] == ["mesh"]
        assert "ports" not in service
        assert "healthcheck" in service
        assert service["user"] != "root"


def test_the_mesh_token_is_required() -> None:
    """Without it Compose refuses to start anything: the roles listen beyond loopback."""
    for service in services().values():
        with pytest.raises(KeyError, match="set it"):
            interpolated(service["environment"]["POLYROUTE_MESH_TOKEN"], {})


def test_only_the_roles_that_must_see_the_outside() -> None:
    """The vendors are reached by providers, clients reach the edge; the others have no way out."""
    networks = compose()["networks"]
    outside = {name for name, service in services().items() if set(service["networks"]) != {"mesh"}}

    assert networks["mesh"] == {"internal": True}
    assert outside == {"providers", "edge"}
    assert {name for name, service in services().items() if "ports" in service} == {"edge"}


def test_the_image_has_what_the_file_relies_on() -> None:
    """Hash-locked dependencies, the folders of the volumes, the library that the embedded model's runtime needs."""
    image = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    mounted = {
        target
        for service in services().values()
        for source, target in (volume.split(":")[:2] for volume in service.get("volumes", ()))
        if not source.startswith(".")
    }

    assert "--require-hashes -r requirements/run.txt" in image
    assert "libgomp1" in image
    assert mounted == {"/var/lib/polyroute", "/var/cache/polyroute"}
    assert all(f"{target}" in image for target in mounted)


@dataclass(frozen=True)
class Mesh:
    """The services as processes.

    Attributes:
        directory: Logs, data, configuration.
        url: The HTTP door.
        environments: What each process was given.
        database: The PostgreSQL database that they were given; empty for files.
    """

    directory: Path
    url: str
    environments: Mapping[str, Mapping[str, str]]
    database: str


def configuration(directory: Path, vendor: Vendor) -> tuple[Path, str]:
    """The mounted configuration on loopback, with a vendor in it; and the HTTP door's address."""
    ports: dict[str, int] = {}

    def moved(match: re.Match[str]) -> str:
        return f"127.0.0.1:{ports.setdefault(match[2], free_port())}"

    text = _ADDRESS.sub(moved, (ROOT / "deploy" / "polyroute.yaml").read_text(encoding="utf-8"))
    tree = yaml.safe_load(text)
    tree["mesh"] |= {"drain_delay": 0, "drain_grace": 5}  # nothing balances here
    tree["providers"] = {"mock": {"vendor": "openai_compatible", "base_url": vendor.url}}
    tree["models"] = {"bench-model": {"deployments": ["mock/gpt-bench"]}}
    path = directory / "polyroute.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return path, f"http://{tree['edge']['http']['listen']}"


def environment(
    name: str, service: Mapping[str, Any], config: Path, directory: Path, said: Mapping[str, str] = SECRETS
) -> dict[str, str]:
    """What the container's process would have in its environment, with our paths, for what the operator exported."""
    given = {key: interpolated(value, said) for key, value in service["environment"].items()}
    assert given["POLYROUTE_CONFIG"] in {volume.split(":")[1] for volume in service["volumes"]}
    return given | {
        "POLYROUTE_CONFIG": str(config),
        "POLYROUTE_DATA": str(directory / name),  # its own volume
        "HOME": str(directory),
        "PATH": f"{PROGRAM.parent}{os.pathsep}{os.environ['PATH']}",
    }


def start(words: list[str], env: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    """A container's process, in a session of its own."""
    with log.open("ab") as output:
        return subprocess.Popen(
            [str(PROGRAM), *words],
            cwd=log.parent,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


@pytest.fixture
async def mesh(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Mesh]:
    """Every service, started at once: `depends_on` spares noise in the logs, nothing else.

    A test that asks for `databases` has the profile of that name: a PostgreSQL and a Redis of the tests' own.
    """
    given, database = SECRETS, ""
    if getattr(request, "param", "") == "databases":
        server, redis = request.getfixturevalue("postgres"), request.getfixturevalue("redis_process")
        database = server.database()
        given = SECRETS | {"POLYROUTE_DATABASE": database, "POLYROUTE_REDIS": redis.url}
    if not PROGRAM.exists():
        pytest.fail(f"{PROGRAM} is not there: install the project")
    async with Vendor() as vendor:
        config, url = configuration(tmp_path, vendor)
        found = services()
        environments = {name: environment(name, service, config, tmp_path, given) for name, service in found.items()}
        with ExitStack() as stack:
            for name, service in found.items():
                stack.callback(stop, start(service["command"], environments[name], tmp_path / f"{name}.log"))
            yield Mesh(tmp_path, url, environments, database)


async def command(*words: str, env: Mapping[str, str]) -> tuple[int, str]:
    """A command's exit status and output."""
    process = await asyncio.create_subprocess_exec(
        *words, env=dict(env), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await asyncio.wait_for(process.communicate(), SECONDS)
    return process.returncode or 0, output.decode()


async def ready(session: aiohttp.ClientSession, mesh: Mesh) -> None:
    """Waits until the edge says that calls can be answered."""
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                async with session.get(f"{mesh.url}/health/ready") as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                pass  # not listening yet
            await asyncio.sleep(0.1)


async def test_a_streamed_answer_through_all_containers(mesh: Mesh) -> None:
    """Five processes over TCP answer a call; their own health checks say so; who lacks the token is refused."""
    await _answered(mesh)

    checks = {name: service["healthcheck"]["test"][1:] for name, service in services().items()}
    healthy, listed, stranger = await asyncio.gather(
        asyncio.gather(*(command(*words, env=mesh.environments[name]) for name, words in checks.items())),
        command("polyroute", "keys", "list", env=mesh.environments["auth"]),
        command("polyroute", "keys", "list", env={**mesh.environments["auth"], "POLYROUTE_MESH_TOKEN": "guessed"}),
    )

    assert [(0, f"{name:<10} serving\n") for name in checks] == healthy
    assert KEY[:9] in listed[1]
    assert (1, "polyroute: the mesh token is missing or wrong\n") == stranger


@pytest.mark.parametrize("mesh", ["databases"], indirect=True)
async def test_the_same_on_databases(mesh: Mesh) -> None:
    """What must last is in PostgreSQL, and nothing of it in files; limits are counted in Redis."""
    await _answered(mesh)

    assert [1, 1, 1] == await kept(mesh.database)
    assert [] == list(mesh.directory.glob("*/*.db"))


async def _answered(mesh: Mesh) -> None:
    """Has a call answered, once that can be."""
    request = {"model": "bench-model", "stream": True, "messages": [{"role": "user", "content": "[[chunks=5]]"}]}
    async with aiohttp.ClientSession(headers={"authorization": f"Bearer {KEY}"}) as session:
        try:
            await ready(session, mesh)
            async with session.post(f"{mesh.url}/v1/chat/completions", json=request) as response:
                body = await response.read()
        except TimeoutError:
            pytest.fail(f"not ready after {SECONDS:.0f} s{log_tail(mesh.directory)}")

    assert response.status == 200, body
    assert body.endswith(b"data: [DONE]\n\n")
    assert body.count(b"\ndata: ") + 1 >= 7  # a role, five chunks, an end


async def kept(database: str) -> list[int]:
    """Keys, calls that were charged and calls on record, once they are there, in PostgreSQL."""
    tables = ("auth.keys", "auth.ledger", f"metrics.{CALLS.name}")

    def look() -> list[int]:
        with psycopg.connect(database) as connection:
            queries = [f"SELECT count(*) FROM polyroute_{table}" for table in tables]
            return [count for query in queries for (count,) in connection.execute(query.encode())]

    async with asyncio.timeout(SECONDS):
        while 0 in (found := await asyncio.to_thread(look)):
            await asyncio.sleep(0.05)
    return found


async def test_a_container_without_its_configuration_does_not_start(tmp_path: Path) -> None:
    """A role without the mesh's token ends at once and says which variable is missing."""
    service = services()["router"]
    config = tmp_path / "polyroute.yaml"
    config.write_text((ROOT / "deploy" / "polyroute.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    given = environment("router", service, config, tmp_path)
    del given["POLYROUTE_MESH_TOKEN"]

    status, output = await command("polyroute", *service["command"], env=given)

    assert status == 1
    assert "${POLYROUTE_MESH_TOKEN} is not set in the environment" in output


def test_the_shared_configuration_stays_inside() -> None:
    """The roles behind the doors listen on the mesh's network only, by names that the file has."""
    text = (ROOT / "deploy" / "polyroute.yaml").read_text(encoding="utf-8").replace("${POLYROUTE_MESH_TOKEN}", TOKEN)
    config = MeshConfig.model_validate(yaml.safe_load(text)["mesh"])

    assert set(config.listen) == set(ROLES) - {"edge"}
    for role, address in config.listen.items():
        port = address.rpartition(":")[2]
        assert config.peers[role] == f"dns:///{role}:{port}"
    assert secrets.compare_digest(config.token.get_secret_value(), TOKEN)
