"""The door around a servicer of administration: no method of it is reached without the doorman's leave."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from polyroute.auth.people.actors import acting
from polyroute.auth.people.doorman import Doorman, Presented
from polyroute.auth.people.rules import Rule, rule_of

SECRET_KEY: Final = "polyroute-admin"  # noqa: S105 - the name of a header
BEARER_KEY: Final = "authorization"
CLIENT_KEY: Final = "polyroute-client"
_SCHEME: Final = "bearer "
_NAMES: Final = ("x509_common_name", "x509_subject_alternative_name")

Method = Callable[[Any, Any], Awaitable[Any]]


class Admitted:
    """A servicer behind the doorman; it has every method of its service, and nothing else.

    Args:
        servicer: What is served.
        service: Its contract.
        doorman: Decides about every call.

    Raises:
        LookupError: A method has no rule: it would be open to everybody, or to nobody.
    """

    def __init__(self, servicer: Any, service: ServiceDescriptor, doorman: Doorman) -> None:
        for method in service.methods:
            rule = rule_of(service.full_name, method.name)
            if method.server_streaming or method.client_streaming:
                raise LookupError(f"{method.full_name} is a stream, and the doorman looks at single requests")
            setattr(self, method.name, _behind(doorman, method, rule, getattr(servicer, method.name)))


def presented(context: Any) -> Presented:
    """What a call shows of its caller, the admin secret before anything else."""
    metadata = {str(name): value for name, value in context.invocation_metadata() or () if isinstance(value, str)}
    credential = metadata.get(SECRET_KEY, "")
    bearer = metadata.get(BEARER_KEY, "")
    if not credential and bearer[: len(_SCHEME)].lower() == _SCHEME:
        credential = bearer[len(_SCHEME) :].strip()
    identity = context.auth_context() or {}
    names = frozenset(value.decode("utf-8", "replace") for key in _NAMES for value in identity.get(key, ()))
    return Presented(credential, names, metadata.get(CLIENT_KEY, ""))


def _behind(doorman: Doorman, method: MethodDescriptor, rule: Rule, inner: Method) -> Method:
    async def call(request: Any, context: Any) -> Any:
        request, admission = await doorman.admit(method.name, rule, request, presented(context))
        with acting(admission):
            return await inner(request, context)

    return call
