"""How a role reaches the Redis or Valkey that processes of the installation share."""

from typing import Final

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as LostError

_SCHEMES: Final = {"valkey": "redis", "valkeys": "rediss"}


def connect(url: str, *, seconds: float, connections: int) -> Redis:
    """A client for the server at `url`; connects when it is first asked.

    Args:
        url: `redis://user:password@host:6379/0`, `rediss://...` with TLS, `unix:///path?db=0`; `valkey` for `redis`.
        seconds: That an answer, a connection or a free connection may take.
        connections: Most at a time.
    """
    scheme, found, rest = url.partition("://")
    pool = BlockingConnectionPool.from_url(
        f"{_SCHEMES.get(scheme, scheme)}{found}{rest}",
        max_connections=connections,
        timeout=seconds,
        socket_timeout=seconds,
        socket_connect_timeout=seconds,
        retry=Retry(NoBackoff(), 1, (LostError,)),  # a connection that a restart broke; a slow answer is not repeated
    )
    return Redis.from_pool(pool)
