"""Who owns the child, between two that look at one folder."""

from pathlib import Path

import pytest

from polyroute.providers.local.child import Endpoints
from polyroute.providers.local.share import ADDRESS_FILE, Share, ShareError
from polyroute.providers.local.status import Phase, Status

READY = Status(Phase.READY, endpoints=Endpoints("http://a", "http://b", "secret", 7))


def test_one_of_two_owns(tmp_path: Path) -> None:
    """The first to claim has it, may claim again, and the second gets it when the first lets go."""
    first, second = Share(tmp_path / "run"), Share(tmp_path / "run")

    claims = [first.claim(), second.claim(), first.claim()]
    first.release(owner=True)

    assert [True, False, True] == claims
    assert second.claim()
    second.release(owner=True)


def test_status_reaches_the_other(tmp_path: Path) -> None:
    """What the owner publishes is what the other reads, each time anew."""
    owner, other = Share(tmp_path / "run"), Share(tmp_path / "run")
    owner.claim()
    before = other.read()
    owner.publish(READY)
    ready = other.read()
    owner.publish(Status(Phase.FAILED, "why"))
    failed = other.read()
    owner.release(owner=True)

    assert (Status(Phase.LOADING), READY, Status(Phase.FAILED, "why")) == (before, ready, failed)
    assert other.read() == Status(Phase.LOADING)


def test_address_is_for_this_user_alone(tmp_path: Path) -> None:
    """The file holds the key: mode 0600, in a folder of mode 0700."""
    share = Share(tmp_path / "run")
    share.claim()
    share.publish(READY)
    modes = [path.stat().st_mode & 0o777 for path in (tmp_path / "run", tmp_path / "run" / ADDRESS_FILE)]
    share.release(owner=True)

    assert [0o700, 0o600] == modes
    assert [] == list((tmp_path / "run").glob(".local-*"))


def test_folder_that_others_may_enter_is_refused(tmp_path: Path) -> None:
    """In a shared temporary folder anyone could have made it first, to be handed the prompts."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run").chmod(0o755)

    with pytest.raises(ShareError, match="must belong to this user and be closed to others"):
        Share(tmp_path / "run").claim()


def test_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    """Told with the system's own words."""
    (tmp_path / "file").touch()

    with pytest.raises(ShareError, match="cannot be used: Not a directory"):
        Share(tmp_path / "file" / "run").claim()


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"phase": "new", "detail": "", "endpoints": null}'])
def test_owner_of_another_version_is_no_crash(tmp_path: Path, data: bytes) -> None:
    """During an update two versions run side by side."""
    (tmp_path / ADDRESS_FILE).write_bytes(data)

    assert Share(tmp_path).read().phase is Phase.FAILED


def test_release_by_another_leaves_the_address(tmp_path: Path) -> None:
    """Only an owner takes its address along."""
    owner, other = Share(tmp_path / "run"), Share(tmp_path / "run")
    owner.claim()
    owner.publish(READY)
    other.claim()
    other.release(owner=False)
    there = (tmp_path / "run" / ADDRESS_FILE).exists()
    owner.release(owner=True)

    assert there
    assert ["local.lock"] == [path.name for path in (tmp_path / "run").iterdir()]
