"""The contract's rules for requests (protovalidate), as the mesh's own errors."""

from typing import Any, Final

import protovalidate
from google.protobuf.message import Message

from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.mesh.errors import MeshError


class Rules:
    """Checks messages against the rules beside their fields; what was compiled for a type is kept."""

    def __init__(self) -> None:
        self._validator: Final = protovalidate.Validator()

    def check(self, message: Message) -> None:
        """Returns when a message holds every rule.

        Raises:
            MeshError: REASON_INVALID_REQUEST, with every violation.
        """
        try:
            self._validator.validate(message)
        except protovalidate.ValidationError as error:
            violations = [(_path(violation.proto), violation.proto.message) for violation in error.violations]
            raise MeshError(
                pb.REASON_INVALID_REQUEST,
                ": ".join(filter(None, violations[0])),
                metadata={"param": violations[0][0]},
                violations=violations,
            ) from None


def _path(violation: Any) -> str:
    """A violation's field as `messages[2].role`."""
    text = ""
    for element in violation.field.elements if violation.field else ():
        text += ("." if text else "") + element.field_name
        if element.subscript is not None:
            text += f"[{element.subscript.value}]"
    return text
