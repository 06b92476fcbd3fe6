"""Builds what auth has for people."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from google.protobuf.descriptor import ServiceDescriptor

from polyroute.auth.admin.journal import Journal
from polyroute.auth.admin.people import Staff
from polyroute.auth.admin.secret import Gate
from polyroute.auth.config import AuthConfig
from polyroute.auth.keys import Digester
from polyroute.auth.money.ledger import Ledger
from polyroute.auth.people.admission import Admitted
from polyroute.auth.people.doorman import Doorman
from polyroute.auth.people.fetch import ask
from polyroute.auth.people.foreign import Importer
from polyroute.auth.people.identify import Identify
from polyroute.auth.people.issuer import Issuer
from polyroute.auth.people.members import Members
from polyroute.auth.people.oidc import Oidc
from polyroute.auth.people.passwords import Passwords
from polyroute.auth.people.registrar import Registrar
from polyroute.auth.people.registry import People
from polyroute.auth.people.service import PeopleService, VaultService
from polyroute.auth.people.sessions import Sessions
from polyroute.auth.people.signin import SignIn
from polyroute.auth.people.throttle import Throttle
from polyroute.auth.people.tokens import AccessTokens, load_or_create
from polyroute.auth.people.vault import Vault
from polyroute.auth.store import Store
from polyroute.auth.verdicts import Verdicts

PUBLIC_KEY: Final = "vendor-keys.pub"  # as the providers role calls it


@dataclass(frozen=True, slots=True)
class Reception:
    """What auth has for people.

    Attributes:
        doorman: Lets calls of administration in.
        staff: Does what AdminService says about people.
        people_service: What people do for themselves.
        vault_service: Sealed keys for the providers role.
        sessions: Signs people in; to be swept.
        registrar: Lets new people in.
    """

    doorman: Doorman
    staff: Staff
    people_service: PeopleService
    vault_service: VaultService
    sessions: Sessions
    registrar: Registrar

    def behind(self, servicer: Any, service: ServiceDescriptor) -> Admitted:
        """A servicer of administration behind the doorman.

        Raises:
            LookupError: A method of it declares no permission.
        """
        return Admitted(servicer, service, self.doorman)


def reception(
    store: Store,
    digester: Digester,
    ledger: Ledger,
    verdicts: Verdicts,
    config: AuthConfig,
    *,
    admin_secret: str,
    token_file: Path,
    data_dir: Path,
) -> Reception:
    """What auth has for people, on its database.

    Args:
        store: The database.
        digester: Turns codes and tokens into what is kept of them.
        ledger: Where trial quotas are paid in.
        verdicts: Knows keys.
        config: What the operator set.
        admin_secret: What operators present.
        token_file: Where the secrets of access tokens are.
        data_dir: Where the public key of the providers role is, unless `config` names another place.
    """
    database = store.database
    token_keys = load_or_create(token_file)
    tokens = AccessTokens(token_keys, valid_for=config.access_token_for)
    people, members = People(database), Members(database, digester)
    sessions = Sessions(database, digester, tokens, lasts=config.session_for)
    registrar = Registrar(ledger, members, digester, policy=config.registration, trial=config.trial_quota)
    passwords = Passwords(memory=config.password_memory, rounds=config.password_rounds)
    throttle = Throttle()
    sign_in = SignIn(database, people, passwords, sessions, registrar, throttle, digester)
    issuers = {name: Issuer(one, ask) for name, one in config.oidc.items()}
    oidc = Oidc(issuers, people, registrar, database, throttle, key=bytes.fromhex(token_keys[0]))
    vault = Vault(database, config.sealing_key or data_dir / PUBLIC_KEY)
    identify = Identify(Gate(admin_secret), tokens, people, verdicts.authorize, config.certificates)
    return Reception(
        doorman=Doorman(database, identify),
        staff=Staff(people, members, registrar, sign_in, Importer(database, digester), vault, Journal(database)),
        people_service=PeopleService(sign_in, oidc, sessions, tokens, people, members),
        vault_service=VaultService(vault),
        sessions=sessions,
        registrar=registrar,
    )
