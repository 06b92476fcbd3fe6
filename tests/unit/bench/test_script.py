"""The marker in a prompt and the script that it makes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.script import Script, marker, read


def test_no_marker() -> None:
    """A prompt without a marker is answered as the vendor answers by itself."""
    base = Script(chunks=3)

    assert base == read("what is [[a wiki link]], or a[[0]]?", base=base)


def test_marker() -> None:
    """Every key of a marker changes one field, whatever stands around it."""
    script = read("Hello [[chunks=100 first=5 gap=20.5 usage=0]] there")

    assert Script(chunks=100, first=5.0, gap=20.5, usage=False) == script


def test_marker_for_one_model() -> None:
    """A marker bound to a model does not touch another."""
    prompt = "[[for=a status=503 retry_after=2]] [[for=b chunks=5]]"

    assert Script(status=503, retry_after=2.0) == read(prompt, "a")
    assert Script(chunks=5) == read(prompt, "b")
    assert Script() == read(prompt, "c")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[[chunk=3]]", "unknown key 'chunk'"),
        ("[[chunks=many]]", "chunks='many'"),
        ("[[gap=-1]]", "gap='-1'"),
        ("[[drop=yes]]", "drop='yes'"),
        ("[[chunks=1000001]]", "not in 0"),
    ],
)
def test_marker_not_understood(text: str, complaint: str) -> None:
    """A marker with a mistake in it is an error, not a healthy answer."""
    with pytest.raises(ValueError, match=complaint):
        read(text)


@given(st.integers(0, 1_000_000), st.integers(0, 10_000), st.integers(100, 599))
def test_marker_round_trip(chunks: int, gap: int, status: int) -> None:
    """What `marker` writes, `read` reads."""
    script = read("a " + marker(chunks=chunks, gap=gap, status=status) + " b")

    assert Script(chunks=chunks, gap=gap, status=status) == script


@pytest.mark.parametrize(
    ("script", "fault"),
    [
        (Script(chunks=4), (None, 4)),
        (Script(chunks=4, cut=0), ("cut", 0)),
        (Script(chunks=4, stall=2), ("stall", 2)),
        (Script(chunks=4, error=9), ("error", 4)),
    ],
)
def test_fault(script: Script, fault: tuple[str | None, int]) -> None:
    """A fault comes after so many chunks, or after the last one."""
    assert fault == script.fault
