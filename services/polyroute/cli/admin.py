"""`polyroute keys`: asks auth."""

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
    Console(stderr=True).print(f"[dim]{created.key.id}, shown this once:[/]")
    print(created.secret)


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

    table = Table("id", "prefix", "name", "project", "created", "state", "models", box=None)
    for key in run(config, work):
        table.add_row(
            key.id,
            key.prefix,
            key.name,
            key.project_id,
            _when(key.create_time),
            _state(key),
            ", ".join(key.models) or "all",
        )
    show(table)


def revoke_key(config: Config, key: str) -> None:
    """Revokes a key."""

    async def work(node: Node) -> pb.RevokeKeyResponse:
        request = pb.RevokeKeyRequest(key=key)
        response: pb.RevokeKeyResponse = await AuthServiceStub(node.channel("auth")).RevokeKey(request, timeout=SECONDS)
        return response

    revoked = run(config, work).key
    print(f"revoked {revoked.id} ({revoked.prefix}) at {_when(revoked.revoke_time)}")


def _state(key: pb.Key) -> str:
    if key.HasField("revoke_time"):
        return f"revoked {_when(key.revoke_time)}"
    if key.HasField("expire_time"):
        return f"until {_when(key.expire_time)}"
    return "works"


def _when(time: Timestamp) -> str:
    return datetime.fromtimestamp(time.seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
