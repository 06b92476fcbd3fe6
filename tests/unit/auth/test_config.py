"""What an operator may set."""

import pytest
from pydantic import ValidationError

from polyroute.auth.config import AuthConfig
from polyroute.mesh.config import validated
from polyroute.mesh.roles import ConfigError


@pytest.mark.parametrize("secret", ["pr-hunter2", "sk-" + "s3cret" * 10, "pr-" + "s3cret/+" * 8])
def test_weak_or_malformed_first_key_is_refused_unseen(secret: str) -> None:
    """The error says what a key is and does not repeat the operator's."""
    with pytest.raises(ValidationError) as refused:
        AuthConfig(bootstrap_key=secret)

    assert "43" in str(refused.value)
    assert secret not in str(refused.value)


def test_first_key_is_not_shown() -> None:
    """A configuration in a log does not give the key away."""
    secret = "pr-" + "k" * 43

    assert secret not in repr(AuthConfig(bootstrap_key=secret))


def test_verdict_is_usable_for_as_long_as_it_is_fresh() -> None:
    """The two spans cannot contradict each other."""
    with pytest.raises(ValidationError, match="usable_for"):
        AuthConfig(fresh_for=60, usable_for=30)


def test_unknown_setting_is_refused() -> None:
    """A typo does not pass for a default."""
    with pytest.raises(ValidationError, match="fresh_four"):
        AuthConfig.model_validate({"fresh_four": 30})


def test_redis_is_known_by_its_url() -> None:
    """Anything else is refused at the start, and no password is shown."""
    config = validated(AuthConfig, {"redis": "valkeys://u:secret@host/1"})
    with pytest.raises(ConfigError) as caught:
        validated(AuthConfig, {"redis": "http://u:secret@host"})

    assert "secret" not in repr(config)
    assert "secret" not in str(caught.value)
    assert "must begin with redis://" in str(caught.value)
