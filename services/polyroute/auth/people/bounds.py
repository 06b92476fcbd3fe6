"""Nobody gives what they have not."""

from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth.people.actors import Admission
from polyroute.auth.people.roles import Role
from polyroute.auth.scopes import Grant, excess
from polyroute.mesh.errors import MeshError


def check_gift(by: Admission, grant: Grant, *, only_role: bool = False) -> None:
    """Refuses to let a key be allowed more than whoever asks for it.

    Args:
        by: Who asks, and about which project.
        grant: All that the key would be allowed.
        only_role: Look at what it may administer only; the rest is looked at elsewhere.

    Raises:
        MeshError: REASON_NOT_PERMITTED, metadata `param`.
    """
    role = grant.scope.admin_role
    if role and not by.actor.gives(Role(role), by.account_id, by.project_id):
        raise _not_permitted("scope.admin_role", "a key administers no more than whoever makes it")
    if by.actor.grant is None or only_role:
        return
    for param in excess(grant, by.actor.grant):
        raise _not_permitted(param, f"a key grants no more than its creator has: {param}")


def _not_permitted(param: str, message: str) -> MeshError:
    return MeshError(errors_pb2.REASON_NOT_PERMITTED, message, metadata={"param": param})
