"""What can be said of the embedded model at one moment."""

from dataclasses import dataclass
from enum import StrEnum

from polyroute.providers.local.child import Endpoints


class Phase(StrEnum):
    """How far the embedded model is."""

    STOPPED = "stopped"  # not started, or stopped
    ABSENT = "absent"  # its extra is not installed; for good
    FETCHING = "fetching"  # weights are on their way
    LOADING = "loading"  # the child starts, or another process's does
    READY = "ready"
    FAILED = "failed"  # of late; tried again unless the detail says that it is no use


@dataclass(frozen=True, slots=True)
class Status:
    """A phase, why, and where the models are: endpoints are there when, and only when, it is READY."""

    phase: Phase
    detail: str = ""
    endpoints: Endpoints | None = None

    def __str__(self) -> str:
        """Like "ready" or "failed: why"."""
        return f"{self.phase}: {self.detail}" if self.detail else str(self.phase)
