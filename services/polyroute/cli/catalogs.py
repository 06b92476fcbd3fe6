"""`polyroute catalog`: what is in force, what would be, what was, and back again."""

import asyncio
import contextlib
import difflib
import getpass
import os
import socket
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from polyroute.api.router.v1 import router_pb2 as pb
from polyroute.api.router.v1.router_pb2_grpc import RouterServiceStub
from polyroute.cli import checking
from polyroute.cli.client import connected, routers, run
from polyroute.cli.config import Config, load
from polyroute.cli.desk import ENVIRONMENT, Desk
from polyroute.cli.output import show
from polyroute.edge.admin.gateway import metadata
from polyroute.mesh.node import Node
from polyroute.mesh.roles import ConfigError
from polyroute.router.document import DocumentError, catalog_of, replaced, strangers, with_alias

SECONDS: Final = 30.0
FOLLOW_SECONDS: Final = 30.0  # for the other routers of this machine to have it too
TICK: Final = 0.05


def apply(config: Config, path: Path, note: str) -> None:
    """Writes the catalog of a file into the configuration file, and waits until every router here has it."""
    text = _catalog(path)
    put(config, text, note)


def alias(config: Config, name: str, targets: Iterable[str]) -> None:
    """Has an alias stand for other models."""
    weights = _weights(targets)
    before = version_of(config, "").text
    words = " ".join(f"{model}={weight}" for model, weight in weights.items())
    try:
        text = with_alias(before, name, weights)
    except DocumentError as error:
        raise ConfigError(str(error)) from None
    put(config, text, f"alias {name}: {words}")


def rollback(config: Config, version: str) -> None:
    """Applies an older version again; without a name the one that was in force before this one."""
    older = version_of(config, version) if version else _before(config)
    put(config, older.text, f"rollback to {older.number}")


def diff(config: Config, path: Path) -> None:
    """Prints what a file would change."""
    text = _catalog(path)
    before = version_of(config, "")
    lines = difflib.unified_diff(
        before.text.splitlines(), text.splitlines(), f"in force ({before.number})", str(path), lineterm=""
    )
    print("\n".join(lines) or "no difference")


def check(config_file: Path | None, overrides: Mapping[str, Any], path: Path) -> None:
    """Says whether a catalog can come into force, and what in it is probably a mistake; asks no gateway.

    A file of its own is checked as it is; one with nothing but a catalog, inside of the configuration file.
    """
    text = _read(path)
    whole = text
    with _cutting(path):
        if config_file is not None and not strangers(text):
            whole = replaced(_read(config_file), text)
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
        file.write(whole)
        file.flush()
        try:
            checking.check(path, load(Path(file.name), overrides))
        except ConfigError as error:
            raise ConfigError(str(error).replace(file.name, str(path))) from None


def history(config: Config, count: int) -> None:
    """Prints the versions, newest first."""

    async def work(node: Node) -> pb.ListCatalogVersionsResponse:
        stub = RouterServiceStub(node.channel("router"))
        request = pb.ListCatalogVersionsRequest(page_size=count)
        response: pb.ListCatalogVersionsResponse = await stub.ListCatalogVersions(request, timeout=SECONDS)
        return response

    table = Table("number", "catalog", "when", "by", "note", box=None)
    for one in run(config, work).versions:
        table.add_row(str(one.number), one.version, _when(one.create_time.seconds), one.author, one.note)
    show(table)


def status(config: Config) -> None:
    """Prints what is in force, and how far rollouts are."""

    async def work(node: Node) -> pb.GetCatalogStatusResponse:
        return await _status(node)

    found = run(config, work)
    print(f"catalog    {found.version}, number {found.number}, since {_when(found.load_time)}")
    print(f"holds      {found.models} models, {found.deployments} deployments")
    for warning in found.warnings:
        print(f"warning    {warning}")
    for one in found.rollouts:
        state = pb.RolloutState.Name(one.state).removeprefix("ROLLOUT_STATE_").lower().replace("_", " ")
        print(
            f"rollout    {one.alias} to {one.to}: {state}, {one.percent:g} %, since {_when(one.since.seconds)}"
            f"{f', {one.reason}' if one.reason else ''}"
        )
    if found.error:
        print(f"refused    {found.error}")


def put(config: Config, text: str, note: str) -> None:
    """Puts a catalog in force at every router of this machine, and says so."""
    desk = Desk(config, secret=os.environ.get(ENVIRONMENT, ""))
    presented = metadata(desk.secret) if desk.presents else ()  # who that is, the log of changes wants to know
    author = f"{getpass.getuser()}@{socket.gethostname()}"

    async def work(node: Node) -> pb.ApplyCatalogResponse:
        request = pb.ApplyCatalogRequest(text=text, author=author, note=note)
        stub = RouterServiceStub(node.channel("router"))
        response: pb.ApplyCatalogResponse = await stub.ApplyCatalog(request, timeout=SECONDS, metadata=presented)
        await asyncio.gather(*(_followed(config, address, response.version) for address in routers(config)))
        return response

    applied = run(config, work)
    for warning in applied.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    what = "in force" if applied.changed else "was in force already"
    print(f"catalog {applied.version.version}, number {applied.version.number}: {what}")


async def _followed(config: Config, address: str, version: pb.CatalogVersion) -> None:
    """Returns once the router at an address has a version, or a later one."""
    deadline = time.monotonic() + FOLLOW_SECONDS
    async with connected(config, {"router": address}) as node:
        while True:
            found = await _status(node)
            if found.number >= version.number:
                return
            if time.monotonic() > deadline:
                raise ConfigError(
                    f"{address} still has catalog {found.version}: {found.error or 'it has not followed'}"
                )
            await asyncio.sleep(TICK)


async def _status(node: Node) -> pb.GetCatalogStatusResponse:
    stub = RouterServiceStub(node.channel("router"))
    response: pb.GetCatalogStatusResponse = await stub.GetCatalogStatus(pb.GetCatalogStatusRequest(), timeout=SECONDS)
    return response


def version_of(config: Config, name: str) -> pb.CatalogVersion:
    """A version of the catalog with its text; the one in force without a name."""

    async def work(node: Node) -> pb.CatalogVersion:
        return await _fetched(node, name)

    return run(config, work)


async def _fetched(node: Node, name: str) -> pb.CatalogVersion:
    stub = RouterServiceStub(node.channel("router"))
    response = await stub.GetCatalogVersion(pb.GetCatalogVersionRequest(version=name), timeout=SECONDS)
    version: pb.CatalogVersion = response.version
    return version


def _before(config: Config) -> pb.CatalogVersion:
    """The newest version that says something else than the one in force."""

    async def work(node: Node) -> pb.CatalogVersion | None:
        now = await _fetched(node, "")
        for number in range(now.number - 1, 0, -1):
            found = await _fetched(node, str(number))
            if found.text != now.text:
                return found
        return None

    found = run(config, work)
    if found is None:
        raise ConfigError("there is no version before this one")
    return found


def _catalog(path: Path) -> str:
    """The catalog in a file; what else is in it is said, and left as it is."""
    text = _read(path)
    with _cutting(path):
        others = strangers(text)
        if others:
            print(f"{path}: {', '.join(others)}: no part of the catalog, left as configured", file=sys.stderr)
        return catalog_of(text)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None


@contextlib.contextmanager
def _cutting(path: Path) -> Iterator[None]:
    """Says in which file a text cannot be cut."""
    try:
        yield
    except DocumentError as error:
        raise ConfigError(f"{path}: {error}") from None


def _weights(targets: Iterable[str]) -> dict[str, int]:
    """`model=weight` of each; the weight of one alone may be left out."""
    found: dict[str, int] = {}
    for one in targets:
        model, _, weight = one.rpartition("=") if "=" in one else (one, "=", "1")
        if not model or not weight.isdecimal() or not int(weight):
            raise ConfigError(f"{one!r} is not of the form model=weight")
        found[model] = int(weight)
    return found


def _when(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
