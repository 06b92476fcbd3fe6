"""The first start: an account, a project and a key, so that a fresh installation can be called at once."""

import time
from collections.abc import Callable
from typing import Final

import structlog

from polyroute.auth import keys
from polyroute.auth.config import AuthConfig
from polyroute.auth.keys import Digester, NewKey
from polyroute.auth.store import Founding, Store

KEY_NAME: Final = "default"

_log = structlog.get_logger()


async def bootstrap(
    store: Store, digester: Digester, config: AuthConfig, *, now: Callable[[], float] = time.time
) -> str | None:
    """Creates the account, default project and default key that a fresh database lacks.

    A key that the operator set is also created later, when it was set after the first start; one that was revoked
    stays revoked.

    Returns:
        The secret of the default key when it was made up here and now, and nobody else knows it; None otherwise.
    """
    secret = config.bootstrap_key or keys.new_secret()
    founding = Founding(
        account_id=keys.new_id("acc"),
        account_name=config.bootstrap_account,
        project_id=keys.new_id("prj"),
        project_name=config.bootstrap_project,
        key=NewKey(
            id=keys.new_id("key"),
            digest=digester(secret),
            prefix=keys.prefix(secret),
            name=KEY_NAME,
            models=(),
            created=round(now() * 1e6),
        ),
    )
    if await store.found(founding):
        _log.info("first account created", account_id=founding.account_id, project_id=founding.project_id)
        return None if config.bootstrap_key else secret
    if config.bootstrap_key and await store.adopt(founding.key):
        _log.info("operator's key created", key_id=founding.key.id)
    return None
