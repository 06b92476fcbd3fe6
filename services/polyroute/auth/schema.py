"""The tables of auth. Times are microseconds since the Unix epoch, money is nano-USD."""

from typing import Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    UniqueConstraint,
)

VERSION: Final = "2"
# What the tables of an older version lack; whole tables that are missing are created without being named here.
UPGRADES: Final = {
    "1": (
        "ALTER TABLE accounts ADD COLUMN billing_mode SMALLINT NOT NULL DEFAULT 1",
        "ALTER TABLE keys ADD COLUMN scope JSON",
        "ALTER TABLE keys ADD COLUMN creator VARCHAR(40) NOT NULL DEFAULT ''",
    ),
}

metadata: Final = MetaData(
    naming_convention={  # names that a migration can rely on
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# What is true of the installation as a whole; see `Property` for the names.
properties: Final = Table(
    "properties",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", String(256), nullable=False),
)

accounts: Final = Table(
    "accounts",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("name", String(128), nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("billing_mode", SmallInteger, nullable=False, server_default="1"),
)

projects: Final = Table(
    "projects",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("account_id", ForeignKey("accounts.id"), nullable=False, index=True),
    Column("name", String(128), nullable=False),
    Column("created", BigInteger, nullable=False),
)

keys: Final = Table(
    "keys",
    metadata,
    Column("id", String(40), primary_key=True),  # ascending ids are ascending in time: pages are cut by them
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("digest", LargeBinary(32), nullable=False, unique=True),
    Column("prefix", String(16), nullable=False, index=True),
    Column("name", String(128), nullable=False),
    Column("models", JSON, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("expires", BigInteger),
    Column("revoked", BigInteger),
    Column("request_id", String(64), unique=True),
    Column("scope", JSON(none_as_null=True)),
    Column("creator", String(40), nullable=False, server_default=""),
    Index("ix_keys_project_id_id", "project_id", "id"),
)

# Secrets that were replaced and work for a while yet.
former_secrets: Final = Table(
    "former_secrets",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("key_id", ForeignKey("keys.id"), nullable=False, index=True),
    Column("expires", BigInteger, nullable=False),
)

# One row per revocation, in the order in which they were committed.
revocations: Final = Table(
    "revocations",
    metadata,
    Column("revision", Integer, primary_key=True),
    Column("key_id", ForeignKey("keys.id"), nullable=False, unique=True),
    sqlite_autoincrement=True,  # a revision is never given twice, even if rows are ever removed
)

# The scope of a limit or a budget is the id of a key, a project or an account.
limits: Final = Table(
    "limits",
    metadata,
    Column("scope", String(40), primary_key=True),
    Column("kind", SmallInteger, primary_key=True),
    Column("model", String(256), primary_key=True),
    Column("amount", BigInteger, nullable=False),
    Column("burst", BigInteger, nullable=False),
)

# `spent` is the sum of the ledger since `started`, `held` the sum of the open holds: counters, never the truth.
budgets: Final = Table(
    "budgets",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("scope", String(40), nullable=False, index=True),
    Column("period", SmallInteger, nullable=False),
    Column("time_zone", String(64), nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("hard", Boolean, nullable=False),
    Column("prepaid", Boolean, nullable=False),
    Column("started", BigInteger, nullable=False),
    Column("ends", BigInteger),
    Column("spent", BigInteger, nullable=False),
    Column("held", BigInteger, nullable=False),
    Column("created", BigInteger, nullable=False),
)

# Holds that are open. What they bind: a key, its project and its account, or only the later of them.
holds: Final = Table(
    "holds",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("account_id", String(40), nullable=False),
    Column("project_id", String(40), nullable=False),
    Column("key_id", String(40), nullable=False),
    Column("left", BigInteger, nullable=False),
    Column("holder", String(64), nullable=False),
    Column("expires", BigInteger, nullable=False, index=True),
)

# What an attempt under way would be charged if nothing more were heard of it: a Settlement.
checkpoints: Final = Table(
    "checkpoints",
    metadata,
    Column("request_id", String(64), primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("expires", BigInteger, nullable=False, index=True),
    Column("settlement", LargeBinary, nullable=False),
)

# Movements of money between the books of an account; see `money/entries.py`. Rows are never changed.
ledger: Final = Table(
    "ledger",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("kind", SmallInteger, nullable=False),
    Column("request_id", String(64), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("part", Integer, nullable=False),
    Column("debit", SmallInteger, nullable=False),
    Column("credit", SmallInteger, nullable=False),
    Column("amount", BigInteger),
    Column("account_id", String(40), nullable=False),
    Column("project_id", String(40), nullable=False),
    Column("key_id", String(40), nullable=False),
    Column("posted", BigInteger, nullable=False),
    Column("rule", String(64), nullable=False),
    Column("price_version", String(256), nullable=False),
    Column("estimated", Boolean, nullable=False),
    Column("deployment", String(256), nullable=False),
    Column("note", String(256), nullable=False),
    UniqueConstraint("request_id", "attempt", "kind", "part"),
    Index("ix_ledger_account_id_posted", "account_id", "posted"),
    Index("ix_ledger_project_id_posted", "project_id", "posted"),
    Index("ix_ledger_key_id_posted", "key_id", "posted"),
    sqlite_autoincrement=True,
)

# One row per transaction that posted: the digest of its entries and of the seal before.
seals: Final = Table(
    "seals",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("last_entry", Integer, nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
    sqlite_autoincrement=True,
)

# What administrators changed; each row's digest covers the one before. Rows are never changed.
audit_events: Final = Table(
    "audit_events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("time", BigInteger, nullable=False),
    Column("actor", String(64), nullable=False),
    Column("action", String(64), nullable=False),
    Column("resource", String(64), nullable=False, index=True),
    Column("before", String, nullable=False),
    Column("after", String, nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
    sqlite_autoincrement=True,
)


class Property:
    """Names of rows in `properties`."""

    SCHEMA_VERSION: Final = "schema_version"
    PEPPER: Final = "pepper_fingerprint"
    DEFAULT_PROJECT: Final = "default_project_id"
