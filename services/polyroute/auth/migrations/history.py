"""Where the migrations of the tables are, and what they lead to."""

from pathlib import Path
from typing import Final

from polyroute.auth import schema
from polyroute.mesh.migrations.history import History

HISTORY: Final = History("auth", schema.metadata, Path(__file__).parent / "versions")
