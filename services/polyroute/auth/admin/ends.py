"""TenantService: messages into ends of accounts and projects, and their outcome into messages.

Who calls and whether they may has been decided before a method is reached; see `people/admission.py`.
"""

from typing import Any

from polyroute.api.auth.v1 import tenants_pb2 as pb
from polyroute.api.auth.v1 import tenants_pb2_grpc
from polyroute.auth import messages
from polyroute.auth.admin.etags import tagged
from polyroute.auth.admin.lifecycle import Lifecycle
from polyroute.auth.admin.tenants import State
from polyroute.auth.people.actors import admitted


class TenantService(tenants_pb2_grpc.TenantServiceServicer):
    """The ends of accounts and projects, over the contract.

    Args:
        lifecycle: Does the work.
    """

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle

    async def SuspendAccount(self, request: pb.SuspendAccountRequest, context: Any) -> pb.SuspendAccountResponse:  # noqa: N802
        """Suspends an account."""
        done = await self._lifecycle.set_account(_actor(), request.account_id, State.SUSPENDED)
        return pb.SuspendAccountResponse(account=tagged(messages.account(done)))

    async def ResumeAccount(self, request: pb.ResumeAccountRequest, context: Any) -> pb.ResumeAccountResponse:  # noqa: N802
        """Ends its suspension."""
        done = await self._lifecycle.set_account(_actor(), request.account_id, State.ACTIVE)
        return pb.ResumeAccountResponse(account=tagged(messages.account(done)))

    async def DeleteAccount(self, request: pb.DeleteAccountRequest, context: Any) -> pb.DeleteAccountResponse:  # noqa: N802
        """Deletes an account."""
        done = await self._lifecycle.delete_account(_actor(), request.account_id, request.etag, force=request.force)
        return pb.DeleteAccountResponse(account=tagged(messages.account(done)))

    async def SuspendProject(self, request: pb.SuspendProjectRequest, context: Any) -> pb.SuspendProjectResponse:  # noqa: N802
        """Suspends a project."""
        done = await self._lifecycle.set_project(_actor(), request.project_id, State.SUSPENDED)
        return pb.SuspendProjectResponse(project=tagged(messages.project(done)))

    async def ResumeProject(self, request: pb.ResumeProjectRequest, context: Any) -> pb.ResumeProjectResponse:  # noqa: N802
        """Ends its suspension."""
        done = await self._lifecycle.set_project(_actor(), request.project_id, State.ACTIVE)
        return pb.ResumeProjectResponse(project=tagged(messages.project(done)))

    async def DeleteProject(self, request: pb.DeleteProjectRequest, context: Any) -> pb.DeleteProjectResponse:  # noqa: N802
        """Deletes a project."""
        done = await self._lifecycle.delete_project(_actor(), request.project_id, request.etag, force=request.force)
        return pb.DeleteProjectResponse(project=tagged(messages.project(done)))


def _actor() -> str:
    return admitted().actor.name
