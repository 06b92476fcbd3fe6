"""The tables of auth. Times are microseconds since the Unix epoch."""

from typing import Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
)

VERSION: Final = "1"

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
    Index("ix_keys_project_id_id", "project_id", "id"),
)

# One row per revocation, in the order in which they were committed.
revocations: Final = Table(
    "revocations",
    metadata,
    Column("revision", Integer, primary_key=True),
    Column("key_id", ForeignKey("keys.id"), nullable=False, unique=True),
    sqlite_autoincrement=True,  # a revision is never given twice, even if rows are ever removed
)


class Property:
    """Names of rows in `properties`."""

    SCHEMA_VERSION: Final = "schema_version"
    PEPPER: Final = "pepper_fingerprint"
    DEFAULT_PROJECT: Final = "default_project_id"
