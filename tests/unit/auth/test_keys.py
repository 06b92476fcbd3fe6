"""What a key is."""

from hashlib import blake2b

import pytest

from polyroute.auth import keys
from polyroute.auth.keys import Digester
from tests.unit.auth.installation import PEPPER


def test_new_secrets_have_the_form_of_a_key() -> None:
    """256 random bits behind the mark; no two alike."""
    made = {keys.new_secret() for _ in range(100)}

    assert len(made) == 100
    assert {46} == {len(secret) for secret in made}
    assert all(keys.well_formed(secret) for secret in made)


@pytest.mark.parametrize(
    "credential",
    [
        "",
        "pr-",
        "pr-" + "a" * 42,
        "pr-" + "a" * 254,
        "PR-" + "a" * 43,
        "sk-" + "a" * 43,
        " pr-" + "a" * 43,
        "pr-" + "a" * 43 + "\n",
        "pr-" + "a" * 42 + "=",
        "pr-" + "a" * 42 + "é",
        "pr-' OR '1'='1' UNION SELECT digest FROM keys -- aaaaaaaaaaaaaa",
        "pr-" + "a" * 42 + "\0",
    ],
)
def test_what_is_no_key_is_seen_without_looking_it_up(credential: str) -> None:
    """Length, mark and alphabet are exact."""
    assert not keys.well_formed(credential)


def test_prefix_shows_nine_characters() -> None:
    """The mark and six characters of the secret."""
    assert keys.prefix("pr-3fK2x_" + "s" * 37) == "pr-3fK2x_"


def test_digest_is_keyed_by_the_pepper() -> None:
    """BLAKE2b under the pepper; another pepper gives another digest."""
    secret = keys.new_secret()
    expected = blake2b(secret.encode(), key=PEPPER, digest_size=32, person=b"polyroute.key").digest()

    assert expected == Digester(PEPPER)(secret)
    assert expected != Digester(b"another pepper..")(secret)


def test_digester_keeps_no_state_between_secrets() -> None:
    """The same secret always gives the same digest."""
    digester = Digester(PEPPER)
    first = digester("pr-one")
    digester("pr-two")

    assert first == digester("pr-one")


@pytest.mark.parametrize("size", [0, 15, 65])
def test_pepper_of_a_wrong_size_is_refused(size: int) -> None:
    """BLAKE2b would cut a longer one and a shorter one could be guessed."""
    with pytest.raises(ValueError, match="16 to 64"):
        Digester(bytes(size))


def test_later_ids_sort_later() -> None:
    """Pages are cut by id, so their order is the order of creation."""
    made = [keys.new_id("key") for _ in range(1000)]

    assert made == sorted(set(made))
    assert {36} == {len(key_id) for key_id in made}
