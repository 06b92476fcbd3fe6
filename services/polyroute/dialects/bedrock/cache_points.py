"""Cache points: blocks that say up to where a model may keep what it was told.

https://docs.aws.amazon.com/bedrock/latest/userguide/prompt-caching.html. Callers ask for them in this API's manner, or
mark a part, a message or a tool in the manner of other APIs; only some families of models take them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from polyroute.dialects import jsontools
from polyroute.dialects.bedrock.blocks import Block
from polyroute.dialects.bedrock.families import Family

# What a client marks for caching in the manner of other APIs: a member of a part, a message or a tool.
CACHE_MARK: Final = "cache_control"
_LIFETIMES: Final = ("5m", "1h")


class CachePoints:
    """The cache points of one request.

    Args:
        family: Of the model that is asked.
        dropped: Gets the marks that the model does not take.
        own: Extensions are of this dialect.
    """

    def __init__(self, family: Family, dropped: list[str], *, own: bool) -> None:
        self._family = family
        self._dropped = dropped
        self._own = own

    def after(self, extensions: Mapping[str, bytes], where: str, before: Sequence[Block]) -> list[Block]:
        """The cache point that extensions ask for, if any.

        Args:
            extensions: Of the part, the message or the tool that is marked.
            where: Where it stands: `system`, `messages` or `tools`.
            before: The blocks that it follows: there is none after nothing.
        """
        point: Any = None
        if self._own and "cachePoint" in extensions:
            point = jsontools.loads(extensions["cachePoint"])
        elif CACHE_MARK in extensions:
            mark = jsontools.loads(extensions[CACHE_MARK])
            lifetime = mark.get("ttl") if isinstance(mark, dict) else None
            point = {"type": "default"} | ({"ttl": lifetime} if lifetime in _LIFETIMES else {})
        if point is None or not before:
            return []
        if where not in self._family.cache and not self._own:
            self._dropped.append(CACHE_MARK)
            return []
        return [{"cachePoint": point}]
