"""The tables that edges share: entries of idempotency keys, which live for a day, and what vendors keep for projects.

Times are microseconds since the Unix epoch.
"""

from typing import Final

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, SmallInteger, String, Table

metadata: Final = MetaData(naming_convention={"ix": "ix_%(table_name)s_%(column_0_N_name)s", "pk": "pk_%(table_name)s"})

# One row per caller, route and key, none of which stands in it: the id is their digest, and the answer is sealed.
entries: Final = Table(
    "idempotency_entries",
    metadata,
    Column("id", LargeBinary(32), primary_key=True),
    Column("fingerprint", LargeBinary(32), nullable=False),
    Column("state", SmallInteger, nullable=False),
    Column("claim", String(64), nullable=False),
    Column("lease", BigInteger, nullable=False),  # until when a running call has the entry
    Column("expires", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False),  # of the answer, bytes
    Column("status", Integer, nullable=False),
    Column("content_type", String(256), nullable=False),
    Column("answer", LargeBinary),
    Index(None, "expires"),
)

# One row per thing that a vendor keeps: its digest is made under the secret of its project, which nobody has here.
things: Final = Table(
    "kept_things",
    metadata,
    Column("digest", LargeBinary(16), primary_key=True),
    Column("key_mark", LargeBinary(8), nullable=False),
)
