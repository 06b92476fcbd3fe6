"""Where the migrations of the table are, and what they lead to."""

from pathlib import Path
from typing import Final

from polyroute.mesh.migrations.history import History
from polyroute.metrics.idempotency import schema

HISTORY: Final = History("idempotency", schema.metadata, Path(__file__).parent / "versions")
