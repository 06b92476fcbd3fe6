"""Which fault a gRPC status of a vendor is.

Codes: https://grpc.github.io/grpc/core/md_doc_statuscodes.html. What HTTP calls them:
https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Final, NamedTuple

from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.errors.v1.errors_pb2 import Fault
from polyroute.dialects import faults
from polyroute.dialects.asking import reclassed
from polyroute.dialects.grpc_frames import MESSAGE_KEY, STATUS_KEY
from polyroute.dialects.vendor_error import VendorError
from polyroute.mesh.errors import MeshError

DETAILS_KEY: Final = "grpc-status-details-bin"  # a `google.rpc.Status`, in base64
OK: Final = "0"
_LARGER: Final = "message larger than max"


class _Code(NamedTuple):
    name: str
    status: int  # of HTTP, by which the rest of the gateway knows it
    fault: Fault.ValueType


_CODES: Final[Mapping[str, _Code]] = {
    "1": _Code("CANCELLED", 499, pb.FAULT_SERVER),  # by the vendor: whoever asks has left by then
    "2": _Code("UNKNOWN", 500, pb.FAULT_SERVER),
    "3": _Code("INVALID_ARGUMENT", 400, pb.FAULT_CLIENT),
    "4": _Code("DEADLINE_EXCEEDED", 504, pb.FAULT_STALL),
    "5": _Code("NOT_FOUND", 404, pb.FAULT_MODEL_GONE),
    "6": _Code("ALREADY_EXISTS", 409, pb.FAULT_CLIENT),
    "7": _Code("PERMISSION_DENIED", 403, pb.FAULT_CREDENTIAL),
    "8": _Code("RESOURCE_EXHAUSTED", 429, pb.FAULT_RATE),
    "9": _Code("FAILED_PRECONDITION", 400, pb.FAULT_CLIENT),
    "10": _Code("ABORTED", 409, pb.FAULT_SERVER),
    "11": _Code("OUT_OF_RANGE", 400, pb.FAULT_CLIENT),
    "12": _Code("UNIMPLEMENTED", 501, pb.FAULT_SERVER),
    "13": _Code("INTERNAL", 500, pb.FAULT_SERVER),
    "14": _Code("UNAVAILABLE", 503, pb.FAULT_SERVER),
    "15": _Code("DATA_LOSS", 500, pb.FAULT_SERVER),
    "16": _Code("UNAUTHENTICATED", 401, pb.FAULT_CREDENTIAL),
}
_UNHEARD_OF: Final = _Code("UNKNOWN", 500, pb.FAULT_SERVER)


def fault_of(status: int, body: bytes, headers: Mapping[str, str]) -> MeshError:
    """A vendor's refusal or failure as a classified error; see `dialect.Outbound.fault_of`.

    Args:
        status: HTTP status of the answer: of gRPC itself always 200.
        body: What a proxy may have said in place of the vendor; gRPC says nothing there.
        headers: Status and trailing metadata, lower-case names.
    """
    number = headers.get(STATUS_KEY, "")
    if not number:
        return faults.fault_of(status, body, headers)
    code = _CODES.get(number, _UNHEARD_OF)
    details = _details(headers.get(DETAILS_KEY, ""))
    said = VendorError(
        message=headers.get(MESSAGE_KEY, "") or details.message,
        codes=frozenset({code.name.lower(), *(word.lower() for word in (details.reason,) if word)}),
        code=details.reason or code.name,
    )
    error = faults.classified(code.status, said, headers)
    if _LARGER in error.message.lower():  # the runtime's words for a request, under the code of a limited rate
        error = reclassed(error, pb.FAULT_CLIENT)
    elif error.fault == faults.classified(code.status, VendorError(), {}).fault:  # no words say otherwise
        error = reclassed(error, code.fault)
    if error.retry_after is None:
        error.retry_after = details.retry_after
    return error


class _Details(NamedTuple):
    message: str = ""
    reason: str = ""
    retry_after: float | None = None


def _details(text: str) -> _Details:
    """What stands in the rich form of a status; nothing when there is none or it cannot be read."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        status = status_pb2.Status.FromString(raw)
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        for detail in status.details:
            for known in (info, retry):
                if detail.Is(known.DESCRIPTOR):
                    detail.Unpack(known)
    except (binascii.Error, ValueError, DecodeError):
        return _Details()
    seconds = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9 if retry.HasField("retry_delay") else None
    return _Details(status.message, info.reason, seconds)
