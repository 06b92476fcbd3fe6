"""The tables of the router's own file: times in microseconds since the Unix epoch, messages of router.v1 as bytes."""

from typing import Final

from sqlalchemy import BigInteger, Column, Float, Integer, LargeBinary, MetaData, String, Table, Text

from polyroute.mesh.database import Serial

metadata: Final = MetaData(
    naming_convention={  # names that a migration can rely on
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# One row per decision: what differs from call to call. `number` is the order in which they were stored.
decisions: Final = Table(
    "decisions",
    metadata,
    Column("number", Serial, primary_key=True),
    Column("request_id", String(64), nullable=False, unique=True),
    Column("time_us", BigInteger, nullable=False, index=True),
    Column("slate", LargeBinary, nullable=False),
    Column("planned", Text, nullable=False),  # whom it tried, one a line: a replay must come to the same
    Column("record", LargeBinary, nullable=False),  # a DecisionRecord
)

# What decisions share, each once: named by a digest of its content, so that it needs no number that could be reused.
slates: Final = Table(
    "slates",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("used_us", BigInteger, nullable=False, index=True),  # the last decision that names it
    Column("record", LargeBinary, nullable=False),  # a DecisionRecord, compressed
)

# What was in force when: the catalog as the operator wrote it.
versions: Final = Table(
    "catalog_versions",
    metadata,
    Column("number", Serial, primary_key=True),
    Column("source", String(32), nullable=False),  # digest of what was written, rollouts applied
    Column("version", String(32), nullable=False),  # digest of the catalog that was made of it
    Column("time_us", BigInteger, nullable=False),
    Column("author", Text, nullable=False),
    Column("note", Text, nullable=False),
    Column("text", Text, nullable=False),
    sqlite_autoincrement=True,  # a number that was deleted is never given again
)

# Changes of the catalog that auth is to be told, in their order.
changes: Final = Table(
    "changes",
    metadata,
    Column("number", Serial, primary_key=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("time_us", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("before", Text, nullable=False),
    Column("after", Text, nullable=False),
)

# How far each staged rollout is; every router of the file follows what stands here.
rollouts: Final = Table(
    "rollouts",
    metadata,
    Column("alias", Text, primary_key=True),
    Column("plan", String(32), nullable=False),  # digest of what was asked for: another one begins anew
    Column("state", String(16), nullable=False),
    Column("step", Integer, nullable=False),
    Column("began_us", BigInteger, nullable=False),
    Column("since_us", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("judged", Float, nullable=False),  # when somebody last evaluated it, seconds since 1970: one does it for all
)
