"""What HTTP requests of administration ask of the roles behind it: the bound methods, and how each is called."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, cast

import grpc
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from polyroute.api.auth.v1.admin_pb2 import SearchKeysRequest
from polyroute.api.router.v1.router_pb2 import GetCatalogStatusRequest, ListModelsRequest
from polyroute.api.router.v1.router_pb2_grpc import RouterServiceStub
from polyroute.edge.admin.bindings import Binding, Found, Table, bindings, services
from polyroute.edge.admin.names import UNASKED, Known, Named, judged, named
from polyroute.edge.admin.transcoding import read
from polyroute.mesh.errors import from_rpc
from polyroute.mesh.validation import Rules

# Role -> the package of the contract of which all that has an HTTP path is served; the edge asks itself as others.
PACKAGES: Final[Mapping[str, str]] = {"auth": "polyroute.api.auth.v1", "edge": "polyroute.api.gateway.v1"}
SECONDS: Final = 30.0  # the longest: an audit adds a whole ledger up
LOOK_UP_SECONDS: Final = 2.0  # that the catalog may take; keys are made without it too
SECRET: Final = "polyroute-admin"  # noqa: S105 - the name of the metadata
MARK: Final = "pa-"  # with which an admin secret begins
CLIENT: Final = "polyroute-client"

_Call = Callable[..., Awaitable[Any]]


class Administration:
    """Administrative RPCs by their HTTP form.

    Args:
        channel: Gives the channel to a role.

    Raises:
        UndeclaredError: A method of a service that is served has no path.
    """

    def __init__(self, channel: Callable[[str], grpc.aio.Channel]) -> None:
        bound = {role: list(bindings(services(package))) for role, package in PACKAGES.items()}
        self.table: Final = Table(binding for each in bound.values() for binding in each)
        self._named = {binding.method.name: binding for binding in self.table.bindings}
        self._rules = Rules()
        self._calls = {binding.rpc: _call(channel(role), binding) for role, each in bound.items() for binding in each}
        self._router = RouterServiceStub(channel("router"))

    def request(self, found: Found, query: str, body: bytes) -> Message:
        """The request that a path, a query and a body make, its rules checked: the mesh trusts what this process sends.

        Raises:
            MeshError: REASON_INVALID_REQUEST.
        """
        request = read(found, query, body)
        self._rules.check(request)
        return request

    async def ask(self, binding: Binding, request: Message, credential: str, address: str) -> Message:
        """The answer of the role that the method is of.

        Args:
            binding: What is asked.
            request: From `request`.
            credential: What the caller presents; empty when nothing.
            address: Where the caller is.

        Raises:
            MeshError: What it refuses; REASON_INVALID_REQUEST, it names what the catalog has not.
        """
        wanted = named(request)
        warnings = await self._judged(wanted, credential, address) if wanted.any else []
        try:
            answer = await self._calls[binding.rpc](request, timeout=SECONDS, metadata=metadata(credential, address))
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error) from None
        if warnings:
            answer.warnings.extend(warnings)
        return cast("Message", answer)

    async def _judged(self, wanted: Named, credential: str, address: str) -> list[str]:
        """What is probably a mistake in names of the catalog, for those who may look at keys: it is nobody else's."""
        looking = SearchKeysRequest(page_size=1)
        await self.ask(self._named["SearchKeys"], looking, credential, address)
        try:
            status, listed = await asyncio.gather(
                self._router.GetCatalogStatus(GetCatalogStatusRequest(), timeout=LOOK_UP_SECONDS),
                self._router.ListModels(ListModelsRequest(), timeout=LOOK_UP_SECONDS),
            )
        except grpc.aio.AioRpcError:
            return [UNASKED]
        models = frozenset(model.name.casefold() for model in listed.models)
        return list(judged(wanted, Known(models, tuple(status.policies), tuple(status.regions))))

    async def call(self, name: str, request: Message, address: str) -> Any:
        """The answer to a request of somebody who has no credential yet.

        Args:
            name: The method.
            request: Its rules are checked here.
            address: Where the caller is.

        Raises:
            MeshError: REASON_INVALID_REQUEST, or what the auth role refuses.
        """
        self._rules.check(request)
        return await self.ask(self._named[name], request, "", address)


def metadata(credential: str, address: str = "") -> tuple[tuple[str, str], ...]:
    """What goes along with a request: who asks, and from where.

    Args:
        credential: What is presented; empty when nothing.
        address: Where the caller is; empty where nobody asks.
    """
    said = [(CLIENT, address)] if address else []
    if credential:
        said.append(("authorization", f"Bearer {credential}"))
    if credential.startswith(MARK):
        said.append((SECRET, credential))
    return tuple(said)


def _call(channel: grpc.aio.Channel, binding: Binding) -> _Call:
    request, answer = (GetMessageClass(kind) for kind in (binding.method.input_type, binding.method.output_type))
    return channel.unary_unary(
        binding.rpc, request_serializer=request.SerializeToString, response_deserializer=answer.FromString
    )
