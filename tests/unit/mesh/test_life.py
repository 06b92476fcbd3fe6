"""Names of lives of processes."""

import os
import subprocess
import sys

from polyroute.mesh import life


def test_a_life_that_goes_on_has_not_ended() -> None:
    """And no two have one name, which is as short as the contract wants it."""
    names = {life.name() for _ in range(3)}

    assert 3 == len(names)
    assert [False] * 3 == [life.ended(name) for name in names]
    assert max(len(name.encode()) for name in names) <= 64


def test_a_life_is_over_when_its_process_is() -> None:
    """Also while nobody has asked how it ended, and when another process has its number."""
    asked = [sys.executable, "-c", "from polyroute.mesh import life; print(life.name())"]
    name = subprocess.run(asked, capture_output=True, check=True, text=True).stdout.strip()
    unique, machine, _, started = name.split(".")

    assert life.ended(name)
    assert life.ended(f"{unique}.{machine}.{os.getpid()}.{started}")


def test_nobody_knows_of_other_machines() -> None:
    """What cannot be known is not said to be over."""
    unique, _, pid, started = life.name().split(".")

    assert [False] * 4 == [
        life.ended(name) for name in (f"{unique}.{'0' * 16}.{pid}.{started}", "", "0" * 32, f"{unique}.x.y.z")
    ]
