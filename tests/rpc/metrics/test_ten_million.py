"""Ten million calls, added up in time."""

import os
from pathlib import Path

import pytest

from polyroute.mesh.config import DatabaseConfig
from polyroute.mesh.database import locate
from tests.rpc.metrics.ten_million import measure


@pytest.mark.timeout(300)
@pytest.mark.skipif("POLYROUTE_SLOW" not in os.environ, reason="fills a large database: set POLYROUTE_SLOW=1")
async def test_answers_in_a_fifth_of_a_second(tmp_path: Path, database: DatabaseConfig) -> None:
    """Usage by model, key, project, day, workflow or tag is read from sums, whatever the number of calls."""
    seconds = await measure(locate("metrics", tmp_path, shared=database))

    assert {} == {name: took for name, took in seconds.items() if took > 0.2}
