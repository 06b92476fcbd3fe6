"""`polyroute keys` for administrators: asks AdminService, so that every change is in the log of changes."""

import csv
import hashlib
import io
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import orjson
from google.protobuf.descriptor import FieldDescriptor

from polyroute.api.auth.v1 import admin_pb2 as pb
from polyroute.api.auth.v1 import auth_pb2, people_pb2
from polyroute.cli.admin import DAY, show_keys, show_revoked, show_secret, state, when
from polyroute.cli.desk import Desk
from polyroute.cli.moments import span
from polyroute.cli.printing import Column, show_line, show_list, show_one
from polyroute.edge.admin.transcoding import message_of
from polyroute.mesh.errors import MeshError
from polyroute.mesh.roles import ConfigError

BATCH: Final = 1000
# What tables of other gateways call the same thing.
NAMES: Final = {
    "token": "sha256",
    "hash": "sha256",
    "key_hash": "sha256",
    "key_alias": "name",
    "expires": "expire_time",
}

KEY: Final[tuple[Column, ...]] = (
    ("id", lambda key: key.id),
    ("prefix", lambda key: key.prefix),
    ("name", lambda key: key.name),
    ("project", lambda key: key.project_id),
    ("created", lambda key: when(key.create_time)),
    ("state", lambda key: state(key)),
    ("models", lambda key: ", ".join(key.models) or "all"),
    ("routes", lambda key: ", ".join(key.scope.routes) or "all"),
    ("from", lambda key: ", ".join(key.scope.source_ranges) or "anywhere"),
)
IMPORTED: Final[tuple[Column, ...]] = (
    ("sha256", lambda one: one.sha256),
    ("id", lambda one: one.key.id),
    ("name", lambda one: one.key.name),
    ("", lambda one: "" if one.created else "was there"),
)


def create(desk: Desk, wanted: auth_pb2.CreateKeyRequest) -> None:
    """Creates a key; its secret goes to standard output, everything else to standard error."""
    made = desk.ask("IssueKey", pb.IssueKeyRequest(key=wanted))
    if desk.as_json:
        show_line(made, "", as_json=True)
    else:
        show_secret(made.key, made.secret)


def wanted(
    name: str, project: str, models: list[str], days: int, routes: list[str], sources: list[str]
) -> auth_pb2.CreateKeyRequest:
    """A key that is to be."""
    request = auth_pb2.CreateKeyRequest(name=name, project_id=project, models=models)
    if days:
        request.lifetime.FromSeconds(days * DAY)
    if routes or sources:
        request.scope.routes.extend(routes)
        request.scope.source_ranges.extend(sources)
    return request


def list_all(desk: Desk, project: str, *, ended: bool) -> None:
    """Prints the keys, newest first."""
    own = f'project_id = "{project}"' if project else ""
    found = list(desk.pages("SearchKeys", pb.SearchKeysRequest(filter=own, show_ended=ended)))
    if desk.as_json or not found:
        show_list(found, KEY, "there are no such keys", as_json=desk.as_json)
    else:
        show_keys(found)


def get(desk: Desk, key: str) -> None:
    """Prints a key, without its secret."""
    show_one(desk.ask("GetKey", pb.GetKeyRequest(key=key)).key, KEY, as_json=desk.as_json)


def revoke(desk: Desk, key: str) -> None:
    """Revokes a key."""
    revoked = desk.ask("EndKey", pb.EndKeyRequest(key=key)).key
    if desk.as_json:
        show_line(revoked, "", as_json=True)
    else:
        show_revoked(revoked)


def rotate(desk: Desk, key: str, overlap: str) -> None:
    """Gives a key a new secret, which goes to standard output."""
    request = pb.RotateKeyRequest(key=key)
    if overlap:
        request.overlap.FromSeconds(0 if overlap == "0" else span(overlap, "--overlap"))
    made = desk.ask("RotateKey", request)
    if desk.as_json:
        show_line(made, "", as_json=True)
    else:
        show_secret(made.key, made.secret)


def update(desk: Desk, key: str, name: str | None, models: list[str], days: int | None, *, every_model: bool) -> None:
    """Changes what a key may do.

    Raises:
        ConfigError: Nothing is to be changed, or two things that contradict each other.
    """
    if models and every_model:
        raise ConfigError("--model and --every-model contradict each other")
    request = pb.UpdateKeyRequest(key=auth_pb2.Key(id=_id(desk, key), name=name or "", models=models))
    if name is not None:
        request.update_mask.paths.append("name")
    if models or every_model:
        request.update_mask.paths.append("models")
    if days is not None:
        request.update_mask.paths.append("expire_time")
        if days:
            request.key.expire_time.FromSeconds(int(time.time()) + days * DAY)
    if not request.update_mask.paths:
        raise ConfigError("say what is to change: --name, --model, --every-model or --days")
    show_one(desk.ask("UpdateKey", request).key, KEY, as_json=desk.as_json)


def take_over(desk: Desk, file: Path, project: str) -> None:
    """Takes keys of another gateway over, by their SHA-256 digests, from a CSV, JSON or plain file.

    Raises:
        ConfigError: The file cannot be read as one of these; the error says where.
    """
    rows = _rows(file)
    keys = [_foreign(file, place, row, project) for place, row in enumerate(rows, 1)]
    if not keys:
        raise ConfigError(f"{file}: there are no keys in it")
    taken: list[Any] = []
    for start in range(0, len(keys), BATCH):
        request = people_pb2.ImportKeysRequest(keys=keys[start : start + BATCH])
        taken += desk.ask("ImportKeys", request).keys
    show_list(taken, IMPORTED, "", as_json=desk.as_json)


def _id(desk: Desk, key: str) -> str:
    """The id of a key that may be named by its prefix."""
    return key if key.startswith("key_") else str(desk.ask("GetKey", pb.GetKeyRequest(key=key)).key.id)


def _rows(file: Path) -> list[Mapping[str, Any]]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: {getattr(error, 'strerror', None) or 'not UTF-8'}") from None
    if text.lstrip().startswith(("[", "{")):
        return _json_rows(file, text)
    lines = text.strip().splitlines()
    if lines and not {NAMES.get(name.strip(), name.strip()) for name in lines[0].split(",")} & {"sha256"}:
        return [{"sha256": hashlib.sha256(line.strip().encode()).hexdigest()} for line in lines if line.strip()]
    return [{name: value for name, value in row.items() if value} for row in csv.DictReader(io.StringIO(text))]


def _json_rows(file: Path, text: str) -> list[Mapping[str, Any]]:
    try:
        tree = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ConfigError(f"{file}: not JSON: {error}") from None
    rows = tree.get("keys") if isinstance(tree, dict) else tree
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ConfigError(f"{file}: not an array of objects")
    return rows


def _foreign(file: Path, place: int, row: Mapping[str, Any], project: str) -> people_pb2.ForeignKey:
    """A key from a row; what the row says that a key has not is left out only when it is empty."""
    descriptor = people_pb2.ForeignKey.DESCRIPTOR
    tree: dict[str, Any] = {"project_id": project} if project else {}
    for name, value in row.items():
        known = NAMES.get(name.strip(), name.strip())
        field = descriptor.fields_by_name.get(known)
        if value in (None, "", [], {}):
            continue
        if field is None:
            raise ConfigError(f"{file}: row {place}: a key has no {known}")
        tree[known] = value.split() if field.is_repeated and isinstance(value, str) else _number(field, value)
    try:
        found = message_of(descriptor, tree)
    except MeshError as error:
        raise ConfigError(f"{file}: row {place}: {error.message}") from None
    assert isinstance(found, people_pb2.ForeignKey)  # noqa: S101 - its descriptor was given
    return found


def _number(field: FieldDescriptor, value: Any) -> Any:
    return str(value) if field.type == FieldDescriptor.TYPE_INT64 else value
