"""The tables of people: who they are, what they may do where, and how they come in. Times as in `auth/schema.py`."""

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, LargeBinary, SmallInteger, String, Table

from polyroute.auth.metadata import metadata

# People; whoever has no password comes by an identity provider.
people: Final = Table(
    "people",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("email", String(254), unique=True),  # lower case
    Column("name", String(128), nullable=False),
    Column("password", String(256)),  # argon2id, with its parameters and salt
    Column(
        "verified", Boolean, nullable=False
    ),  # the address is theirs: somebody who knows them, or a provider, says so
    Column("disabled", Boolean, nullable=False),
    Column("created", BigInteger, nullable=False),
)

# Who they are elsewhere: never by an address, which may get another owner.
identities: Final = Table(
    "identities",
    metadata,
    Column("issuer", String(255), primary_key=True),
    Column("subject", String(255), primary_key=True),
    Column("person_id", ForeignKey("people.id"), nullable=False, index=True),
)

memberships: Final = Table(
    "memberships",
    metadata,
    Column("account_id", ForeignKey("accounts.id"), primary_key=True),
    Column("person_id", ForeignKey("people.id"), primary_key=True, index=True),
    Column("role", SmallInteger, nullable=False),
    Column("created", BigInteger, nullable=False),
)

# Where a member may do less than in the account.
project_roles: Final = Table(
    "project_roles",
    metadata,
    Column("person_id", ForeignKey("people.id"), primary_key=True),
    Column("project_id", ForeignKey("projects.id"), primary_key=True),
    Column("role", SmallInteger, nullable=False),
)

sessions: Final = Table(
    "sessions",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("person_id", ForeignKey("people.id"), nullable=False, index=True),
    Column("created", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False, index=True),
    Column("ended", BigInteger),
)

# A used one is kept as long as its session, so that its second use is noticed.
refresh_tokens: Final = Table(
    "refresh_tokens",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("session_id", ForeignKey("sessions.id"), nullable=False, index=True),
    Column("used", BigInteger),
)

invitations: Final = Table(
    "invitations",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("digest", LargeBinary(32), nullable=False, unique=True),
    Column("account_id", String(40), nullable=False, index=True),  # empty: an account of their own
    Column("role", SmallInteger, nullable=False),
    Column("email", String(254), nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False),
    Column("used", BigInteger),
)

password_resets: Final = Table(
    "password_resets",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("person_id", ForeignKey("people.id"), nullable=False, index=True),
    Column("expires", BigInteger, nullable=False),
)
