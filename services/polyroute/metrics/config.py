"""What an operator may set of the metrics role."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from polyroute.mesh.config import Section


class KeepConfig(Section):
    """How long records and sums are kept, in days; 0 is for ever.

    They leave by whole months: what is over is kept until all of its month is over.
    """

    calls: int = Field(default=90, ge=0, le=36_500, description="single calls")
    hourly: int = Field(default=400, ge=0, le=36_500, description="hourly sums; not shorter than calls")
    daily: int = Field(default=0, ge=0, le=36_500, description="daily sums; not shorter than hourly sums")

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        for finer, coarser in (("calls", "hourly"), ("hourly", "daily")):
            short, long = getattr(self, finer), getattr(self, coarser)
            if long and (not short or short > long):
                raise ValueError(f"{coarser} must be kept as long as {finer}, or longer")
        return self


class MetricsConfig(Section):
    """Settings of the metrics role; every one has a default that suits one machine."""

    database: Path | None = Field(
        default=None, description="SQLite file of call records; default: `metrics.db` in the data directory"
    )
    idempotency_bytes: int = Field(
        default=1 << 28, ge=1 << 20, description="most bytes of answers kept for idempotency keys"
    )
    keep: KeepConfig = Field(default=KeepConfig(), description="how long records and sums are kept")
    stats_interval: float = Field(
        default=1.0, ge=0.05, le=60, description="seconds between two pushes of live statistics to the routers"
    )
    max_deployments: int = Field(
        default=2000, ge=1, description="deployments with live statistics; the one longest unused makes room"
    )
    max_series: int = Field(
        default=1000,
        ge=10,
        description="label combinations per Prometheus metric; what comes later is counted under `other`",
    )

    @property
    def idempotency_database(self) -> Path | None:
        """The file of idempotency keys, beside that of call records; None where that is not named."""
        return self.database.with_name("idempotency.db") if self.database else None
