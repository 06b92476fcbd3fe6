"""Who presents something at the door of administration."""

from collections.abc import Awaitable, Callable, Mapping
from ipaddress import ip_address, ip_network
from typing import Final

from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth.admin.secret import MARK, Gate
from polyroute.auth.keys import Key
from polyroute.auth.people.actors import OPERATOR, Actor, How, Standing
from polyroute.auth.people.config import Certificate
from polyroute.auth.people.doorman import Presented
from polyroute.auth.people.registry import People
from polyroute.auth.people.roles import Role
from polyroute.auth.people.tokens import AccessTokens
from polyroute.mesh.errors import MeshError

_TOKEN_PARTS: Final = 3  # of a JSON Web Token


class Identify:
    """Says who presents something.

    Args:
        gate: Knows the admin secret.
        tokens: Reads access tokens.
        people: Knows what somebody is where.
        authorize: Knows keys.
        certificates: Name in a certificate -> what its holder may do.
    """

    def __init__(
        self,
        gate: Gate,
        tokens: AccessTokens,
        people: People,
        authorize: Callable[[str], Awaitable[Key]],
        certificates: Mapping[str, Certificate],
    ) -> None:
        self._gate = gate
        self._tokens = tokens
        self._people = people
        self._authorize = authorize
        self._certificates = certificates

    async def __call__(self, presented: Presented) -> Actor:
        """Who it is.

        Raises:
            MeshError: REASON_CREDENTIAL_MISSING, REASON_CREDENTIAL_INVALID; REASON_NOT_PERMITTED, a key that has no
                place here.
        """
        credential = presented.credential
        if not credential:
            name = min(presented.names & self._certificates.keys(), default="")
            if name:
                return _holder(name, self._certificates[name])
        if not credential or credential.startswith(MARK):
            self._gate.admit(credential)
            return OPERATOR
        if credential.count(".") == _TOKEN_PARTS - 1 and credential.startswith("ey"):
            return await self._person(credential)
        return _key(await self._authorize(credential), presented.address)

    async def _person(self, token: str) -> Actor:
        bearer = self._tokens.read(token)
        standings = await self._people.standings(bearer.person_id, bearer.session_id)
        if standings is None:
            raise MeshError(errors_pb2.REASON_CREDENTIAL_INVALID, "the access token is not valid")
        return Actor(How.TOKEN, bearer.person_id, standings=standings)


def _holder(name: str, what: Certificate) -> Actor:
    if not what.account:
        return Actor(How.CERTIFICATE, name, operator=True)
    return Actor(How.CERTIFICATE, name, standings={what.account: Standing(Role[what.role.upper()])})


def _key(key: Key, address: str) -> Actor:
    if not key.scope.admin_role:
        raise MeshError(errors_pb2.REASON_NOT_PERMITTED, "this key may not administer: its scope has no admin_role")
    if key.scope.source_ranges and not _inside(address, key.scope.source_ranges):
        raise MeshError(errors_pb2.REASON_NOT_PERMITTED, "this key may not be used from there")
    standing = Standing(Role(key.scope.admin_role), only=key.project_id)
    return Actor(How.KEY, key.id, standings={key.account_id: standing}, grant=key.grant)


def _inside(address: str, ranges: tuple[str, ...]) -> bool:
    try:
        place = ip_address(address)
    except ValueError:
        return False
    return any(place in ip_network(text) for text in ranges)
