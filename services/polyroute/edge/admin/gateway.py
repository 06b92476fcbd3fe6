"""What HTTP requests of administration ask of the auth role: the bound methods, and how each is called."""

from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

import grpc
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from polyroute.edge.admin.bindings import Binding, Found, Table, bindings, services
from polyroute.edge.admin.transcoding import read
from polyroute.mesh.errors import from_rpc
from polyroute.mesh.validation import Rules

PACKAGE: Final = "polyroute.api.auth.v1"
SECONDS: Final = 30.0  # the longest: an audit adds a whole ledger up
SECRET: Final = "polyroute-admin"  # noqa: S105 - the name of the metadata
MARK: Final = "pa-"  # with which an admin secret begins
CLIENT: Final = "polyroute-client"

_Call = Callable[..., Awaitable[Any]]


class Administration:
    """Administrative RPCs by their HTTP form.

    Args:
        channel: To the auth role.
        package: Of the contract; all of its methods that have an HTTP path are served.

    Raises:
        UndeclaredError: A method of a service that is served has no path.
    """

    def __init__(self, channel: grpc.aio.Channel, package: str = PACKAGE) -> None:
        self.table: Final = Table(bindings(services(package)))
        self._named = {binding.method.name: binding for binding in self.table.bindings}
        self._rules = Rules()
        self._calls = {binding.rpc: _call(channel, binding) for binding in self.table.bindings}

    def request(self, found: Found, query: str, body: bytes) -> Message:
        """The request that a path, a query and a body make, its rules checked: the mesh trusts what this process sends.

        Raises:
            MeshError: REASON_INVALID_REQUEST.
        """
        request = read(found, query, body)
        self._rules.check(request)
        return request

    async def ask(self, binding: Binding, request: Message, credential: str, address: str) -> Message:
        """The answer of the auth role.

        Args:
            binding: What is asked.
            request: From `request`.
            credential: What the caller presents; empty when nothing.
            address: Where the caller is.

        Raises:
            MeshError: What it refuses.
        """
        try:
            answer = await self._calls[binding.rpc](request, timeout=SECONDS, metadata=metadata(credential, address))
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error) from None
        return cast("Message", answer)

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
