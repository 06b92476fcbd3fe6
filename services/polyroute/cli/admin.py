"""`polyroute keys` for those whom the mesh trusts; see `polyroute.cli.keys` for administrators."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.table import Table

from polyroute.api.auth.v1 import auth_pb2 as pb
from polyroute.api.auth.v1.auth_pb2_grpc import AuthServiceStub
from polyroute.cli.client import run
from polyroute.cli.config import Config
from polyroute.cli.output import show
from polyroute.mesh.node import Node

SECONDS: Final = 5.0
DAY: Final = 86_400


def create_key(config: Config, name: str, project: str, models: list[str], days: int) -> None:
    """Creates a key; its secret goes to standard output, everything else to standard error."""

    async def work(node: Node) -> pb.CreateKeyResponse:
        request = pb.CreateKeyRequest(name=name, project_id=project, models=models)
        if days:
            request.lifetime.FromSeconds(days * DAY)
        response: pb.CreateKeyResponse = await AuthServiceStub(node.channel("auth")).CreateKey(request, timeout=SECONDS)
        return response

    created = run(config, work)
    show_secret(created.key, created.secret)


def show_secret(key: pb.Key, secret: str) -> None:
    """Prints a secret, so that a script can take it, and beside that whose it is."""
    Console(stderr=True).print(f"[dim]{key.id}, shown this once:[/]")
    print(secret)


def list_keys(config: Config, *, ended: bool) -> None:
    """Prints the keys as a table."""

    async def work(node: Node) -> list[pb.Key]:
        stub = AuthServiceStub(node.channel("auth"))
        keys: list[pb.Key] = []
        token = ""
        while True:
            page = await stub.ListKeys(pb.ListKeysRequest(page_token=token, show_ended=ended), timeout=SECONDS)
            keys += page.keys
            token = page.next_page_token
            if not token:
                return keys

    show_keys(run(config, work))


def show_keys(keys: Iterable[pb.Key]) -> None:
    """Prints keys as a table."""
    table = Table("id", "prefix", "name", "project", "created", "state", "models", box=None)
    for key in keys:
        table.add_row(
            key.id,
            key.prefix,
            key.name,
            key.project_id,
            when(key.create_time),
            state(key),
            ", ".join(key.models) or "all",
        )
    show(table)


def revoke_key(config: Config, key: str) -> None:
    """Revokes a key."""

    async def work(node: Node) -> pb.RevokeKeyResponse:
        request = pb.RevokeKeyRequest(key=key)
        response: pb.RevokeKeyResponse = await AuthServiceStub(node.channel("auth")).RevokeKey(request, timeout=SECONDS)
        return response

    show_revoked(run(config, work).key)


def show_revoked(revoked: pb.Key) -> None:
    """Says which key does not work any more."""
    print(f"revoked {revoked.id} ({revoked.prefix}) at {when(revoked.revoke_time)}")


def state(key: pb.Key) -> str:
    """Whether a key works, and until when."""
    if key.HasField("revoke_time"):
        return f"revoked {when(key.revoke_time)}"
    if key.HasField("expire_time"):
        return f"until {when(key.expire_time)}"
    return "works"


def when(time: Timestamp) -> str:
    """A moment for people, UTC."""
    return datetime.fromtimestamp(time.seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
