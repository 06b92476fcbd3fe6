"""One request of AdminService: over the mesh, or over HTTP in the form that the contract gives it."""

import functools
import time
import urllib.error
import urllib.request
from typing import Any

import orjson
from google.protobuf import json_format
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from polyroute.api.auth.v1 import admin_pb2, billing_pb2, people_pb2, tenants_pb2
from polyroute.api.gateway.v1 import usage_pb2
from polyroute.cli.client import run
from polyroute.cli.config import Config
from polyroute.cli.desk import SECONDS
from polyroute.edge.admin.bindings import Binding, bindings
from polyroute.edge.admin.gateway import metadata
from polyroute.edge.admin.transcoding import spoken
from polyroute.mesh.node import Node

USAGE = usage_pb2.DESCRIPTOR.services_by_name["UsageService"]
SERVICES = (
    admin_pb2.DESCRIPTOR.services_by_name["AdminService"],
    billing_pb2.DESCRIPTOR.services_by_name["BillingService"],
    people_pb2.DESCRIPTOR.services_by_name["PeopleService"],
    tenants_pb2.DESCRIPTOR.services_by_name["TenantService"],
    USAGE,
)
_METHODS = {method.name: method for service in SERVICES for method in service.methods}


def over_mesh(config: Config, secret: str, name: str, request: Message) -> Any:
    """The answer of this machine's gateway."""
    method = _METHODS[name]

    async def work(node: Node) -> Any:
        if method.containing_service is USAGE:
            return await _as_the_edge(node, name, request, secret)
        call = node.channel("auth").unary_unary(
            f"/{method.containing_service.full_name}/{name}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=GetMessageClass(method.output_type).FromString,
        )
        return await call(request, timeout=SECONDS, metadata=metadata(secret))

    return run(config, work)


async def _as_the_edge(node: Node, name: str, request: Message, secret: str) -> Any:
    """The answer to a request of usage: all that the edge asks for it can be asked from here."""
    from polyroute.edge.usage.desk import UsageDesk  # which other commands need not wait for

    return await UsageDesk(node.channel, time.monotonic).answer(name, request, metadata(secret))


def over_http(address: str, secret: str, name: str, request: Message) -> Any:
    """The answer of the gateway whose HTTP door is at `address`; a refusal ends the program with what it says."""
    path, body = spoken(_bound()[name], request)
    asked = urllib.request.Request(  # noqa: S310 - the desk has looked at the scheme
        address + path,
        data=body or None,
        method=_bound()[name].verb,
        headers={"content-type": "application/json"} | ({"authorization": f"Bearer {secret}"} if secret else {}),
    )
    try:
        with urllib.request.urlopen(asked, timeout=SECONDS) as response:  # noqa: S310
            return _answer(_METHODS[name], response.read())
    except urllib.error.HTTPError as error:
        raise SystemExit(f"polyroute: {_refusal(error)}") from None
    except (OSError, ValueError, json_format.ParseError) as error:
        reason = getattr(error, "reason", None) or error
        raise SystemExit(f"polyroute: no gateway answers at {address} ({reason})") from None


@functools.cache
def _bound() -> dict[str, Binding]:
    """The first path of each method."""
    return {binding.method.name: binding for binding in reversed(list(bindings(SERVICES)))}


def _answer(method: MethodDescriptor, body: bytes) -> Message:
    # a newer gateway may say more than this program knows
    return json_format.Parse(body, GetMessageClass(method.output_type)(), ignore_unknown_fields=True)


def _refusal(error: urllib.error.HTTPError) -> str:
    try:
        return str(orjson.loads(error.read())["error"]["message"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return f"{error.url}: HTTP status {error.code}: this is not the administration of a gateway"
