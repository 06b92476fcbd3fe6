"""What an operator may set of the metrics role."""

from pathlib import Path

from pydantic import Field

from polyroute.mesh.config import Section


class MetricsConfig(Section):
    """Settings of the metrics role; every one has a default that suits one machine."""

    database: Path | None = Field(
        default=None, description="SQLite file of call records; default: `metrics.db` in the data directory"
    )
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
