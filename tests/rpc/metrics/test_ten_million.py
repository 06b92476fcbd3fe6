"""Ten million calls, added up in time."""

import os
from pathlib import Path

import pytest

from tests.rpc.metrics.ten_million import measure


@pytest.mark.skipif("POLYROUTE_SLOW" not in os.environ, reason="fills a large database: set POLYROUTE_SLOW=1")
async def test_answers_in_a_fifth_of_a_second(tmp_path: Path) -> None:
    """Usage by model, key, project, day or workflow is read from sums, whatever the number of calls."""
    seconds = await measure(tmp_path)

    assert {} == {name: took for name, took in seconds.items() if took > 0.2 and "tag" not in name}
