"""How the suite is spread over workers, and how much of it is drawn at random."""

import gc
from collections.abc import Generator
from pathlib import Path, PurePosixPath
from typing import Final

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

from tests.databases import KINDS, _dropped, _elsewhere, _emptied, _tables, database, kinds
from tests.postgres import postgres
from tests.redis import redis_process
from tests.thorough import examples

# fixtures of every folder: the databases that tests run on
__all__ = ["_dropped", "_elsewhere", "_emptied", "_tables", "database", "postgres", "redis_process"]

# They start processes and count milliseconds: one at a time, in one worker, while the other runs the rest.
TOGETHER: Final = ("process", "clients")

# A machine that is busy is slow: no example has a deadline, and the same ones are drawn in every run.
settings.register_profile(
    "suite",
    max_examples=examples(50, 400),
    deadline=None,
    derandomize=True,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("suite")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Finds the tests without looking for garbage: what is made here stays to the end, and is never looked at again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Has tests of roles and gateways run on what is wanted; in files that is not said."""
    found = kinds(metafunc.definition.path.relative_to(Path(__file__).parent))
    if found != KINDS[:1]:
        metafunc.parametrize("_elsewhere", found, indirect=True, scope="module")


class Schedule(LoadScopeScheduling):  # type: ignore[misc]
    """Files go to workers as they become free, the longest work first; a file's tests share what its modules make."""

    def _split_scope(self, nodeid: str) -> str:
        """The tests that go together with a test."""
        path = nodeid.partition("::")[0]
        return "processes" if PurePosixPath(path).parts[1] in TOGETHER else path


@pytest.hookimpl(optionalhook=True)  # without workers there is nothing to spread
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Schedule:
    """Spreads the tests in the order in which they are found: what takes longest is at the front."""
    config.option.loadscopereorder = False
    return Schedule(config, log)
