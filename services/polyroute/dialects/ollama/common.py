"""What the parts of `ollama.chat` share: the class of an error, the time of an answer."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects import faults
from polyroute.dialects.asking import reclassed
from polyroute.mesh.errors import MeshError

NAME: Final = "ollama.chat"


def fault_of(status: int, body: bytes, headers: Mapping[str, str]) -> MeshError:
    """See `dialect.Outbound.fault_of`."""
    return faults.fault_of(status, body, headers)


def fault_in(value: object) -> MeshError:
    """The error in an answer of status 200: the runner broke while it answered, unless the words say otherwise."""
    error = faults.fault_in(value)
    return reclassed(error, errors_pb2.FAULT_SERVER) if error.fault == errors_pb2.FAULT_BAD_ANSWER else error


def seconds_of(created_at: object) -> int:
    """Seconds since 1970 of an RFC 3339 time; 0 for anything else."""
    if not isinstance(created_at, str):
        return 0
    try:
        moment = datetime.fromisoformat(created_at)
    except ValueError:
        return 0
    return max(0, int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()))
