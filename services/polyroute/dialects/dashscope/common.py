"""The classes of errors of `dashscope.*`, by their codes: inside a stream an error has no status.

https://help.aliyun.com/en/model-studio/error-code
"""

from collections.abc import Mapping
from typing import Final

from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.errors.v1.errors_pb2 import Fault
from polyroute.dialects import faults
from polyroute.dialects.asking import reclassed
from polyroute.mesh.errors import MeshError

# Beginning of a code in lower case -> fault, where the general table knows the code not at all.
_BY_CODE: Final[tuple[tuple[str, Fault.ValueType], ...]] = (
    ("throttling", pb.FAULT_RATE),
    ("limitrequests", pb.FAULT_RATE),
    ("invalidapikey", pb.FAULT_CREDENTIAL),
    ("accessdenied", pb.FAULT_CREDENTIAL),
    ("allocationquota.freetieronly", pb.FAULT_QUOTA),
    ("invalidparameter", pb.FAULT_CLIENT),
    ("badrequest", pb.FAULT_CLIENT),
    ("invalidurl", pb.FAULT_CLIENT),
    ("modelnotfound", pb.FAULT_MODEL_GONE),
    ("model.accessdenied", pb.FAULT_CREDENTIAL),
    ("internalerror", pb.FAULT_SERVER),
    ("systemerror", pb.FAULT_SERVER),
    ("requesttimeout", pb.FAULT_SERVER),
    ("responsetimeout", pb.FAULT_SERVER),
    ("modelservicefailed", pb.FAULT_SERVER),
    ("modelservingerror", pb.FAULT_SERVER),
    ("modelunavailable", pb.FAULT_SERVER),
    ("serviceunavailable", pb.FAULT_SERVER),
)
# A free allowance that is used up is no matter of waiting, whatever the status says.
_SPENT: Final = ("free allocated quota exceeded", "free tier")


def fault_of(status: int, body: bytes, headers: Mapping[str, str]) -> MeshError:
    """See `dialect.Outbound.fault_of`."""
    return _narrowed(faults.fault_of(status, body, headers))


def fault_in(value: object) -> MeshError:
    """The error that stands inside an answer of status 200."""
    return _narrowed(faults.fault_in(value))


def _narrowed(error: MeshError) -> MeshError:
    if any(words in error.message.lower() for words in _SPENT):
        return reclassed(error, pb.FAULT_QUOTA)
    if error.fault != pb.FAULT_BAD_ANSWER:
        return error
    code = error.metadata.get("vendor_code", "").lower()
    fault = next((fault for beginning, fault in _BY_CODE if code.startswith(beginning)), pb.FAULT_BAD_ANSWER)
    return reclassed(error, fault)
