"""How the suite is spread over workers."""

from pathlib import Path

import pytest

from tests.databases import _emptied, _tables, database
from tests.postgres import postgres

__all__ = ["_emptied", "_tables", "database", "postgres"]  # fixtures of every folder: the databases that tests run on

TESTS = Path(__file__).parent
# They start processes and count milliseconds: one at a time, in one worker, while the other runs the rest.
TOGETHER = ("process", "clients")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keeps the tests that need the machine for themselves in one worker."""
    for item in items:
        if item.path.relative_to(TESTS).parts[0] in TOGETHER:
            item.add_marker(pytest.mark.xdist_group("processes"))
