"""A share of one limit: how it stands while estimates of tokens are under way, and after."""

import pytest

from polyroute.api.auth.v1.auth_pb2 import LimitClaim, LimitShare
from polyroute.api.auth.v1.limits_pb2 import LIMIT_KIND_TOKENS, Limit
from polyroute.edge.share import Share


class TestFigures:
    """Of a limit of 100 tokens a minute, of which 70 are used by calls that were taken for 522."""

    def share(self, *, granted: int, remaining: int = 0, reset: float = 0.0) -> Share:
        """What auth gave at 1000."""
        share = Share(Limit(scope="key_1", kind=LIMIT_KIND_TOKENS, amount=100, burst=100))
        given = LimitShare(granted=granted, remaining=remaining, holders=1)
        given.valid_for.FromSeconds(1)
        given.reset_after.FromMicroseconds(round(reset * 1e6))
        share.fill(given, LimitClaim(needed=granted), 1000.0)
        return share

    def test_what_a_call_did_not_use_is_there_again_at_once(self) -> None:
        """On its own answer, as on the next one."""
        share = self.share(granted=522, reset=313.2)
        share.take(522)
        own = share.figure(1000.0, 522, 70)
        share.settle(522, 70)

        assert own == share.figure(1000.0)
        assert (100, 30) == (own.limit, own.remaining)
        assert 42.0 == pytest.approx(own.reset)

    def test_estimates_of_calls_under_way_are_no_long_wait(self) -> None:
        """They count for a burst at most, for the figures as for the wait."""
        share = self.share(granted=522, reset=313.2)
        share.take(522)
        share.closed_until = 1313.2
        first, error = share.figure(1000.0), share.refusal(1000.0)

        assert ("tokens", 100, 0) == first[:3]
        assert 60.0 == pytest.approx(first.reset)
        assert 60.0 == pytest.approx(error.retry_after)

    @pytest.mark.parametrize("used", [1, 99, 100, 101, 5000])
    def test_figures_stay_within_the_limit(self, used: int) -> None:
        """And what was really used beyond it is owed."""
        share = self.share(granted=522, remaining=0, reset=313.2)
        share.take(522)
        share.settle(522, used)
        figure = share.figure(1000.0)

        assert max(0, 100 - used) == figure.remaining
        assert used * 0.6 == pytest.approx(figure.reset)
        assert 100 == share.figure(1000.0 + used).remaining

    def test_a_call_beyond_the_burst_owes_nothing_that_was_left_over(self) -> None:
        """It asks for all it needs, and gives back what an earlier one did not use."""
        share = self.share(granted=522, reset=313.2)
        share.take(522)
        share.settle(522, 70)
        claim = share.claim(522, 1000.5)

        assert (452, 522) == (claim.returned, claim.needed)

    def test_what_came_back_is_asked_about_again(self) -> None:
        """A refusal that was told before does not outlive what it was told for."""
        share = self.share(granted=522, reset=313.2)
        share.take(522)
        short = LimitShare(granted=0, holders=1)
        short.retry_after.FromSeconds(300)
        share.fill(short, LimitClaim(needed=522), 1000.2)
        before = share.closed(522, 1000.3)
        share.settle(522, 70)
        share.has(522, 1002.0)  # the share is over by then, and what is left of it is to go back

        assert before
        assert not share.closed(522, 1002.0)
