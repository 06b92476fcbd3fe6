"""Where the migrations of the tables are, and what they lead to."""

from pathlib import Path
from typing import Final

from polyroute.mesh.migrations.history import History
from polyroute.metrics import schema

HISTORY: Final = History("metrics", schema.metadata, Path(__file__).parent / "versions")
