"""Vendors' keys that are entered at run time, and the key that they are sealed for."""

import sys
from typing import Any

from rich.table import Table

from polyroute.api.auth.v1 import people_pb2 as pb
from polyroute.api.auth.v1 import vault_pb2, vault_pb2_grpc
from polyroute.cli.client import run
from polyroute.cli.desk import SECONDS, Desk
from polyroute.cli.output import show
from polyroute.mesh.node import Node
from polyroute.mesh.sealing import SealError, sealed_for
from polyroute.providers.sealed import KeyFile


def put(desk: Desk, provider: str, name: str) -> None:
    """Enters a key that is read from standard input: it is in no history and no list of processes."""
    if sys.stdin.isatty():
        print("the key, then Enter:", file=sys.stderr)
    secret = sys.stdin.readline().strip()
    if not secret:
        raise SystemExit("polyroute: no key on standard input")
    key = desk.ask("PutVendorKey", pb.PutVendorKeyRequest(provider=provider, name=name, secret=secret)).vendor_key
    print(f"{key.provider} {key.name}: sealed for {key.sealing_key_id}")


def list_all(desk: Desk, provider: str) -> None:
    """Lists keys without their texts."""
    table = Table("provider", "name", "sealed for", "since", box=None)
    for key in desk.pages("ListVendorKeys", pb.ListVendorKeysRequest(provider=provider)):
        table.add_row(key.provider, key.name, key.sealing_key_id, key.create_time.ToJsonString())
    show(table)


def delete(desk: Desk, provider: str, name: str) -> None:
    """Takes a key out."""
    desk.ask("DeleteVendorKey", pb.DeleteVendorKeyRequest(provider=provider, name=name))
    print(f"{provider} {name}: taken out")


def rotate(desk: Desk, *, forget_old: bool) -> None:
    """Makes a new sealing key, and seals everything anew for it; nothing is opened but here."""
    files = KeyFile(desk.config.provider.vault or desk.config.data_dir)
    opener = files.rotate()
    public = opener.keys[0].public
    # only now: what is entered from here on is sealed for the new key already, and nothing newer is written over
    old = [key for key in run(desk.config, _sealed) if sealed_for(key.sealed) != public.id]
    for key in old:
        names = (key.provider, key.name)
        try:
            envelope = public.seal(opener.open(key.sealed, *names), *names)
        except SealError as error:
            raise SystemExit(
                f"polyroute: {key.provider} {key.name}: {error}; the new key is in use for others"
            ) from None
        desk.ask("PutVendorKey", pb.PutVendorKeyRequest(provider=key.provider, name=key.name, sealed=envelope))
    dropped = files.forget_old() if forget_old else 0
    kept = len(opener.keys) - 1 - dropped
    print(f"{public.id} is in use: {len(old)} keys sealed anew, {kept} old sealing keys kept")


async def _sealed(node: Node) -> Any:
    stub = vault_pb2_grpc.VaultServiceStub(node.channel("auth"))
    return (await stub.FetchVendorKeys(vault_pb2.FetchVendorKeysRequest(), timeout=SECONDS)).keys
