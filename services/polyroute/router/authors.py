"""Who changes a catalog, as the log of changes names them."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

APPLY_METHOD: Final = "polyroute.api.router.v1.RouterService.ApplyCatalog"
CREDENTIALS: Final = frozenset({"polyroute-admin", "authorization"})  # names of headers
_NAMES: Final = ("x509_common_name", "x509_subject_alternative_name")

Credentials = Sequence[tuple[str, str]]
Identify = Callable[[Credentials], Awaitable[str]]
"""Has auth say who presents something, empty while it is away; raises `MeshError` where they may not."""


async def author_of(context: Any, said: str, identify: Identify) -> str:
    """Who calls: whom auth knows by what they present, else the holder of a certificate, else who they say they are.

    The last is marked by `local:`: whoever reaches the sockets of this machine's gateway runs it, and says by himself
    which user that is. It is also believed while auth is away, for a catalog must be mended then as well.

    Args:
        context: Of the call.
        said: Who they say they are.
        identify: Asks auth.

    Raises:
        MeshError: REASON_CREDENTIAL_INVALID; REASON_NOT_PERMITTED, they are no operators.
    """
    shown = context.invocation_metadata() or ()
    credentials = [(str(name), value) for name, value in shown if name in CREDENTIALS and isinstance(value, str)]
    if credentials:
        name = await identify(credentials)
        if name:
            return name
    held = context.auth_context() or {}
    name = min((value.decode("utf-8", "replace") for key in _NAMES for value in held.get(key, ())), default="")
    return f"mesh:{name}" if name else f"local:{said}"
