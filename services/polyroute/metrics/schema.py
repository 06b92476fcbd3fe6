"""The table of calls: times in microseconds since the Unix epoch, days counted from it in UTC, money in nano-USD."""

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, MetaData, SmallInteger, String, Table

metadata: Final = MetaData(
    naming_convention={  # names that a migration can rely on
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# One row per call: the whole record, which is what a list of calls gives back, and of its fields those that people ask
# sums and searches for. Texts are empty and numbers 0 where the record says nothing; only an unknown price is null.
calls: Final = Table(
    "calls",
    metadata,
    Column("id", Integer, primary_key=True),  # the order in which they were stored
    Column("request_id", String(64), nullable=False, unique=True),
    Column("day", Integer, nullable=False),
    Column("start_us", BigInteger, nullable=False),
    Column("account_id", String, nullable=False),
    Column("project_id", String, nullable=False),
    Column("key_id", String, nullable=False),
    Column("operation", SmallInteger, nullable=False),
    Column("requested_model", String, nullable=False),
    Column("model", String, nullable=False),
    Column("deployment", String, nullable=False),
    Column("provider", String, nullable=False),
    Column("stream", Boolean, nullable=False),
    Column("outcome", SmallInteger, nullable=False),
    Column("reason", SmallInteger, nullable=False),
    Column("http_status", Integer, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("cache_read_tokens", BigInteger, nullable=False),
    Column("cache_write_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    Column("images", BigInteger, nullable=False),
    Column("audio_ms", BigInteger, nullable=False),
    Column("estimated", Boolean, nullable=False),
    Column("cost_nanos", BigInteger),
    Column("total_us", BigInteger, nullable=False),
    Column("first_token_us", BigInteger, nullable=False),
    Column("overhead_us", BigInteger, nullable=False),
    Column("user", String, nullable=False),
    Column("record", LargeBinary, nullable=False),  # a CallRecord; fields that only a newer sender knows are in it too
    # What the filters of usage and of lists are; grouping reads the rows that the filter leaves.
    Index(None, "start_us"),
    Index(None, "project_id", "start_us"),
    Index(None, "key_id", "start_us"),
    Index(None, "model", "start_us"),
)
