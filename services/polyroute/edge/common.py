"""Limits that bind more than one caller, as auth says them: of all calls, and of the attempts at deployments."""

import math
from collections.abc import Callable, Iterable
from typing import Any, Final

import structlog

from polyroute.api.auth.v1.auth_pb2 import GetCommonLimitsRequest
from polyroute.edge.authorizer import heard
from polyroute.edge.capacity import Capacity
from polyroute.edge.share import DEPLOYMENT, INSTALLATION
from polyroute.edge.shares import Shares
from polyroute.mesh.errors import MeshError

FRESH_SECONDS: Final = 10.0  # that they are believed without news of a change

_log = structlog.get_logger("limits")


class CommonLimits:
    """Keeps shares and capacity up to date with the limits that are not a caller's own.

    Args:
        stub: AuthService.
        shares: Bound by those of all calls.
        capacity: Bound by those of deployments.
        clock: Seconds, monotonic.
        timeout: Seconds to wait for auth.
    """

    def __init__(
        self, stub: Any, shares: Shares, capacity: Capacity, clock: Callable[[], float], timeout: float
    ) -> None:
        self._stub = stub
        self._shares = shares
        self._capacity = capacity
        self._clock = clock
        self._timeout = timeout
        self._until = -math.inf

    def changed(self, scopes: Iterable[str]) -> None:
        """Has them asked for again if they are among what has changed."""
        if any(scope in (INSTALLATION, DEPLOYMENT) for scope in scopes):
            self._until = -math.inf

    async def renew(self) -> None:
        """Asks for them when they are no longer fresh; those that are known stand while auth does not answer."""
        now = self._clock()
        if now < self._until:
            return
        self._until = now + FRESH_SECONDS
        try:
            found = await heard(self._stub.GetCommonLimits(GetCommonLimitsRequest(), timeout=self._timeout))
        except MeshError as error:
            _log.warning("common limits not heard", reason=error.message)
            return
        self._shares.bind(limit for limit in found.limits if limit.scope == INSTALLATION)
        self._capacity.bind(limit for limit in found.limits if limit.scope == DEPLOYMENT)
