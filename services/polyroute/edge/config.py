"""Settings of the edge role."""

from typing import Annotated, Final, Literal

from pydantic import Field, IPvAnyNetwork, field_validator

from polyroute.mesh.config import Section

ADDRESS: Final = r"^\S+:\d{1,5}$"


class HttpConfig(Section):
    """The HTTP door."""

    listen: str = Field(default="127.0.0.1:8080", pattern=ADDRESS, description="`host:port`; port 0 takes a free one")
    admin: bool | None = Field(
        default=None,
        description="serve `/admin/v1` to everybody, or to nobody; unset: to this machine, when `listen` is loopback",
    )
    trusted_proxies: tuple[IPvAnyNetwork, ...] = Field(
        default=(),
        description="networks of the load balancers before this door, such as `10.0.0.0/8`: of a request that comes "
        "from there, the caller's address is the last one in `forwarded_by` that is none of them",
    )
    forwarded_by: Literal["x-forwarded-for", "forwarded"] = Field(
        default="x-forwarded-for", description="the header that they all write; no other is looked at"
    )
    max_body_bytes: int = Field(default=10 * 1024 * 1024, ge=1024, le=15 * 1024 * 1024, description="of a request")
    max_decompressed_bytes: int = Field(default=15 * 1024 * 1024, ge=1024, description="of a request, opened")
    max_header_bytes: int = Field(default=64 * 1024, ge=4096, description="request line and headers together")
    header_seconds: float = Field(default=10.0, gt=0, description="from connecting to the last header")
    body_seconds: float = Field(default=30.0, gt=0, description="from the last header to the last byte of the body")
    stall_seconds: float = Field(default=60.0, gt=0, description="that a client may leave its answer unread")
    keep_alive_seconds: float = Field(default=75.0, gt=0, description="that an idle connection is kept")
    ping_seconds: float = Field(default=15.0, gt=0, description="between keep-alive comments before the first token")

    @field_validator("trusted_proxies")
    @classmethod
    def _check_trusted(cls, networks: tuple[IPvAnyNetwork, ...]) -> tuple[IPvAnyNetwork, ...]:
        if any(network.prefixlen == 0 for network in networks):
            raise ValueError("whoever can connect could say to be anybody: name the networks of your proxies")
        return networks


class GrpcConfig(Section):
    """The gRPC door."""

    listen: str = Field(default="127.0.0.1:8081", pattern=ADDRESS, description="`host:port`; port 0 takes a free one")


class EdgeConfig(Section):
    """The doors and what they allow."""

    http: HttpConfig = Field(default_factory=HttpConfig, description="for HTTP clients")
    grpc: GrpcConfig = Field(default_factory=GrpcConfig, description="for gRPC clients")
    total_seconds: float = Field(default=600.0, gt=0, le=3600, description="that a call may take in all")
    authorize_seconds: float = Field(default=5.0, gt=0, description="to wait for auth on a key's first call")
    unknown_keys: int = Field(
        default=60,
        ge=0,
        le=1_000_000,
        description="a minute from one address, before more of them are refused with 429 and without a look at auth; "
        "addresses of private networks count only where `http.trusted_proxies` are set; 0: no bound",
    )
    decide_seconds: float = Field(default=5.0, gt=0, description="to wait for the router")
    reach_seconds: float = Field(default=10.0, gt=0, description="to wait for a providers role that is restarting")
    max_calls: Annotated[int, Field(ge=0, le=1_000_000)] | Literal["auto"] = Field(
        default=0,
        description="calls under way at once in this process; more wait their turn, fairly among projects; `auto`: as "
        "many as it keeps up with; 0: no bound",
    )
    max_waiting: int = Field(
        default=0,
        ge=0,
        le=1_000_000,
        description="calls that may wait for their turn; 0: as many as `max_calls`, and 1024 when that is `auto`",
    )
    turn_seconds: float = Field(default=5.0, gt=0, le=600, description="that a call waits for its turn at most")
    max_memory_bytes: Annotated[int, Field(ge=0, le=1 << 50)] | Literal["auto"] = Field(
        default="auto",
        description="that this process may take; from 85 % on `sheddable` calls are turned away, from 92 % on all but "
        "`critical` ones, from 95 % on all; `auto`: of the container what its processes may take together, where it "
        "has such a limit; 0: no bound",
    )
    idempotency_lease: float = Field(
        default=30.0,
        ge=0.1,
        le=600,
        description="seconds for which an idempotency key is held by a call whose edge has died",
    )
    unmarked_ids: bool = Field(
        default=False,
        description="let requests name what vendors keep by ids that this installation has not given to their project, "
        "and show it in lists: every key can then reach all that a vendor keeps for the account",
    )
    spool_bytes: int = Field(default=1 << 30, ge=1 << 20, description="call records kept while metrics is away")
