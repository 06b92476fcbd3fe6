"""The one error type that crosses every hop, and its two directions over the wire.

A service raises `MeshError`; the server builder turns it into a gRPC status with `google.rpc` details (ErrorInfo,
RetryInfo, BadRequest, QuotaFailure; https://google.aip.dev/193). A caller gets the same `MeshError` back from
`from_rpc`. What is lost on the way: the cause and the traceback, on purpose. Any other exception becomes a bare
INTERNAL whose text is only in the log.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Self

import grpc
from google.rpc import code_pb2, error_details_pb2, status_pb2

from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.errors.v1.errors_pb2 import Fault, Reason

DOMAIN: Final = "polyroute"
DETAILS_KEY: Final = "grpc-status-details-bin"  # https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
MAX_MESSAGE_CHARS: Final = 2000  # status text rides in HTTP/2 trailers, of which 8 KiB is safe everywhere

# The status code of each reason, as its comment in errors.proto says.
CODES: Final[Mapping[Reason.ValueType, grpc.StatusCode]] = {
    pb.REASON_UNSPECIFIED: grpc.StatusCode.UNKNOWN,
    pb.REASON_INVALID_REQUEST: grpc.StatusCode.INVALID_ARGUMENT,
    pb.REASON_CREDENTIAL_MISSING: grpc.StatusCode.UNAUTHENTICATED,
    pb.REASON_CREDENTIAL_INVALID: grpc.StatusCode.UNAUTHENTICATED,
    pb.REASON_NOT_PERMITTED: grpc.StatusCode.PERMISSION_DENIED,
    pb.REASON_MODEL_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    pb.REASON_NO_DEPLOYMENT: grpc.StatusCode.FAILED_PRECONDITION,
    pb.REASON_RATE_LIMITED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    pb.REASON_BUDGET_EXHAUSTED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    pb.REASON_TOO_LARGE: grpc.StatusCode.RESOURCE_EXHAUSTED,
    pb.REASON_OVERLOADED: grpc.StatusCode.UNAVAILABLE,
    pb.REASON_SERVICE_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    pb.REASON_UPSTREAM: grpc.StatusCode.UNAVAILABLE,
    pb.REASON_DEADLINE: grpc.StatusCode.DEADLINE_EXCEEDED,
    pb.REASON_INTERNAL: grpc.StatusCode.INTERNAL,
    pb.REASON_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    pb.REASON_STREAM_BROKEN: grpc.StatusCode.ABORTED,
    pb.REASON_USAGE_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    pb.REASON_IDEMPOTENCY_RUNNING: grpc.StatusCode.ABORTED,
    pb.REASON_IDEMPOTENCY_MISMATCH: grpc.StatusCode.INVALID_ARGUMENT,
    pb.REASON_IDEMPOTENCY_NOT_KEPT: grpc.StatusCode.ALREADY_EXISTS,
    pb.REASON_DRAINING: grpc.StatusCode.UNAVAILABLE,
    pb.REASON_CHANGED: grpc.StatusCode.ABORTED,
    pb.REASON_EXISTS: grpc.StatusCode.ALREADY_EXISTS,
}

# A bare gRPC failure, without our details, by its code: what the runtime itself says of a peer.
_BARE: Final[Mapping[grpc.StatusCode, Reason.ValueType]] = {
    grpc.StatusCode.UNAVAILABLE: pb.REASON_SERVICE_UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: pb.REASON_DEADLINE,
    grpc.StatusCode.RESOURCE_EXHAUSTED: pb.REASON_TOO_LARGE,
    grpc.StatusCode.INVALID_ARGUMENT: pb.REASON_INVALID_REQUEST,
    grpc.StatusCode.UNIMPLEMENTED: pb.REASON_SERVICE_UNAVAILABLE,
}


class MeshError(Exception):
    """A refusal or failure with a machine-readable reason.

    Args:
        reason: Why; decides the status code unless `code` says otherwise.
        message: For people; lower case, no period, nothing secret. It reaches the caller.
        metadata: What varies in the message, by name; see errors.proto for each reason's names.
        retry_after: Seconds after which another try makes sense; None when waiting does not help.
        violations: For REASON_INVALID_REQUEST: pairs of field path and what is wrong with it.
        code: A status code other than the reason's own.
    """

    def __init__(
        self,
        reason: Reason.ValueType,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        retry_after: float | None = None,
        violations: Sequence[tuple[str, str]] = (),
        code: grpc.StatusCode | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message[:MAX_MESSAGE_CHARS]
        self.metadata = dict(metadata or {})
        self.retry_after = retry_after
        self.violations = tuple(violations)
        self.code = code or CODES[reason]

    @property
    def fault(self) -> Fault.ValueType:
        """What the vendor did, for REASON_UPSTREAM; FAULT_UNSPECIFIED otherwise."""
        name = self.metadata.get("fault", "")
        return Fault.Value(name) if name in Fault.keys() else pb.FAULT_UNSPECIFIED  # noqa: SIM118 - a wrapper, not a dict

    @classmethod
    def upstream(
        cls, fault: Fault.ValueType, message: str, *, retry_after: float | None = None, **metadata: str
    ) -> Self:
        """A vendor's fault; `metadata` is `provider`, `deployment`, `upstream_status`."""
        return cls(
            pb.REASON_UPSTREAM, message, metadata={"fault": Fault.Name(fault), **metadata}, retry_after=retry_after
        )

    def to_status(self) -> status_pb2.Status:
        """The error as `google.rpc.Status` with its details."""
        status = status_pb2.Status(code=self.code.value[0], message=self.message)
        info = error_details_pb2.ErrorInfo(domain=DOMAIN, reason=Reason.Name(self.reason)[len("REASON_") :])
        info.metadata.update(self.metadata)
        status.details.add().Pack(info)
        if self.retry_after is not None:
            retry = error_details_pb2.RetryInfo()
            retry.retry_delay.FromNanoseconds(int(self.retry_after * 1e9))
            status.details.add().Pack(retry)
        if self.violations:
            bad = error_details_pb2.BadRequest()
            for field, description in self.violations:
                bad.field_violations.add(field=field, description=description)
            status.details.add().Pack(bad)
        if self.reason == pb.REASON_BUDGET_EXHAUSTED:
            quota = error_details_pb2.QuotaFailure()
            quota.violations.add(subject=self.metadata.get("subject", "key"), description=self.message)
            status.details.add().Pack(quota)
        return status


def precondition(message: str, **metadata: str) -> MeshError:
    """A refusal of what would be in order if something else were as it must be first."""
    code = grpc.StatusCode.FAILED_PRECONDITION
    return MeshError(pb.REASON_INVALID_REQUEST, message, metadata=metadata, code=code)


def from_rpc(error: grpc.aio.AioRpcError) -> MeshError:
    """The error that the other side raised, or what the runtime itself says when it raised none."""
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            return _from_status(status_pb2.Status.FromString(value))
    code = error.code()
    reason = _BARE.get(code, pb.REASON_INTERNAL)
    return MeshError(reason, error.details() or code.name.lower(), code=code)


def _from_status(status: status_pb2.Status) -> MeshError:
    reason, metadata = pb.REASON_INTERNAL, {}
    retry_after: float | None = None
    violations: list[tuple[str, str]] = []
    for detail in status.details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo.FromString(detail.value)
            name = f"REASON_{info.reason}"
            # a newer peer may know reasons that this one does not: the code still says what class it is
            reason = Reason.Value(name) if name in Reason.keys() else pb.REASON_UNSPECIFIED  # noqa: SIM118
            metadata = dict(info.metadata)
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retry_after = error_details_pb2.RetryInfo.FromString(detail.value).retry_delay.ToNanoseconds() / 1e9
        elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            bad = error_details_pb2.BadRequest.FromString(detail.value)
            violations = [(violation.field, violation.description) for violation in bad.field_violations]
    return MeshError(
        reason,
        status.message,
        metadata=metadata,
        retry_after=retry_after,
        violations=violations,
        code=_code_of(status.code),
    )


def _code_of(number: int) -> grpc.StatusCode:
    name = code_pb2.Code.Name(number) if number in code_pb2.Code.values() else "UNKNOWN"
    return grpc.StatusCode[name]
