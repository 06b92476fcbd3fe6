"""What a door reads from a request's headers."""

import pytest

from polyroute.edge.http.door import _seconds, credential


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ({}, ""),
        ({"authorization": "Bearer pr-a"}, "pr-a"),
        ({"authorization": "bearer   pr-a "}, "pr-a"),
        ({"authorization": "Basic cHItYQ=="}, ""),
        ({"authorization": "Bearer"}, ""),
        ({"authorization": "Bearer  "}, ""),
        ({"api-key": "pr-b"}, "pr-b"),
        ({"x-api-key": "pr-c"}, "pr-c"),
        ({"authorization": "Basic x", "x-api-key": "pr-c"}, "pr-c"),
        ({"authorization": "Bearer pr-a", "api-key": "pr-b", "x-api-key": "pr-c"}, "pr-a"),
    ],
)
def test_key_is_found_wherever_clients_put_it(headers: dict[str, str], key: str) -> None:
    """OpenAI's own place first, then Azure's, then Anthropic's."""
    assert key == credential(headers)


@pytest.mark.parametrize(
    ("wanted", "seconds"),
    [
        ("", 600),
        ("10", 10),
        ("0.5", 0.5),
        ("6000", 600),
        ("0", 600),
        ("-1", 600),
        ("soon", 600),
        ("nan", 600),
        ("inf", 600),
    ],
)
def test_caller_may_shorten_its_own_time(wanted: str, seconds: float) -> None:
    """Never lengthen it; what is no time is ignored."""
    headers = {"x-polyroute-timeout": wanted} if wanted else {}

    assert seconds == _seconds(headers, 600)
