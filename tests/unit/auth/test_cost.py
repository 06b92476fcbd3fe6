"""What authorizing a known key costs."""

from time import thread_time
from typing import Any, Final

import pytest

from polyroute.api.auth.v1 import auth_pb2 as pb
from polyroute.auth import keys
from polyroute.auth.admin.journal import Journal
from polyroute.auth.admin.keydesk import KeyDesk
from polyroute.auth.keys import Digester, Key
from polyroute.auth.revocations import RevocationFeed
from polyroute.auth.service import AuthService
from polyroute.auth.verdicts import Verdicts
from tests.unit.auth.installation import PEPPER, Installation

KEYS: Final = 10_000
ROUND: Final = 200
MOST: Final = 20e-6  # s of CPU per call


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)  # no database is asked
async def test_known_key_costs_less_than_20_us_among_ten_thousand(auth: Installation) -> None:
    """From message to message, with every key in memory; the best of many short rounds, for the machine is shared."""
    digester, secrets = Digester(PEPPER), [keys.new_secret() for _ in range(KEYS)]
    table = {
        digester(secret): Key(
            keys.new_id("key"), "acc_" + "1" * 32, "prj_" + "1" * 32, secret[:9], "name", (), created=0
        )
        for secret in secrets
    }

    async def find(digest: bytes) -> Key | None:
        return table.get(digest)

    verdicts = Verdicts(digester, find, RevocationFeed())
    desk = KeyDesk(auth.keyring, Journal(auth.store.database))
    service = AuthService(verdicts, auth.keyring, auth.feed, auth.leases, desk=desk, fresh_for=30, usable_for=300)
    requests = [pb.AuthorizeRequest(credential=secret) for secret in secrets]
    context: Any = None  # not looked at
    for request in requests:
        await service.Authorize(request, context)
    table.clear()

    rounds = []
    for start in range(0, KEYS, ROUND):
        started = thread_time()
        for request in requests[start : start + ROUND]:
            await service.Authorize(request, context)
        rounds.append((thread_time() - started) / ROUND)

    assert min(rounds) < MOST
