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
    SmallInteger,
    String,
    Table,
    UniqueConstraint,
)

from polyroute.auth.metadata import metadata
from polyroute.auth.people.schema import (
    identities,
    invitations,
    memberships,
    password_resets,
    people,
    project_roles,
    refresh_tokens,
    sessions,
)
from polyroute.mesh.database import Serial

# What stands elsewhere is had from here as well: whoever has this module has every table of `metadata`.
__all__ = (
    "identities",
    "invitations",
    "memberships",
    "metadata",
    "password_resets",
    "people",
    "project_roles",
    "refresh_tokens",
    "sessions",
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
    Column("kind", SmallInteger, nullable=False, server_default="2"),  # a person's or a team's
    Column("state", SmallInteger, nullable=False, server_default="1"),  # active, suspended or deleted
)

projects: Final = Table(
    "projects",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("account_id", ForeignKey("accounts.id"), nullable=False, index=True),
    Column("name", String(128), nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("state", SmallInteger, nullable=False, server_default="1"),
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
    Column("revision", Serial, primary_key=True),
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

# What attempts are charged in all whose charge is not what their records say; see `money/outbox.py`.
adjustments: Final = Table(
    "adjustments",
    metadata,
    Column("sequence", Serial, primary_key=True),
    Column("request_id", String(64), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("said", LargeBinary, nullable=False),  # an Adjustment
    UniqueConstraint("request_id", "attempt"),
    sqlite_autoincrement=True,  # a number is never given twice, though rows make room for later ones
)

# Movements of money between the books of an account; see `money/entries.py`. Rows are never changed.
ledger: Final = Table(
    "ledger",
    metadata,
    Column("id", Serial, primary_key=True),
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
    Column("model", String(256), nullable=False, server_default=""),
    Column("cost", BigInteger),
    Column("multiplier", BigInteger, nullable=False, server_default="0"),
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
    Column("id", Serial, primary_key=True),
    Column("last_entry", Serial, nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
    sqlite_autoincrement=True,
)

# By what cost is multiplied to make a charge, in millionths: for a group of accounts, or `*` for everybody.
multipliers: Final = Table(
    "multipliers",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("millionths", BigInteger, nullable=False),
)

# The group that an account is in, if any.
account_groups: Final = Table(
    "account_groups",
    metadata,
    Column("account_id", String(40), primary_key=True),
    Column("name", String(64), nullable=False),
)

# Codes that pay money in, each once; only digests of what redeems them.
codes: Final = Table(
    "codes",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("digest", LargeBinary(32), nullable=False, unique=True),
    Column("batch", String(64), nullable=False, index=True),
    Column("amount", BigInteger, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("expires", BigInteger),
    Column("redeemed", BigInteger),
    Column("account_id", String(40), nullable=False),
)

plans: Final = Table(
    "plans",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("period", SmallInteger, nullable=False),
    Column("price", BigInteger, nullable=False),
    Column("quota", BigInteger, nullable=False),
    Column("overage", Boolean, nullable=False),
    Column("closed", Boolean, nullable=False),
    Column("terms", JSON(none_as_null=True)),  # limits and what is open; see `money/terms.py`
)

# Plans in force, in the terms of their current period: `started` to `ends`. One that is over stays as history.
subscriptions: Final = Table(
    "subscriptions",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("scope", String(40), nullable=False, index=True),
    Column("account_id", String(40), nullable=False, index=True),
    Column("plan", String(64), nullable=False),
    Column("period", SmallInteger, nullable=False),
    Column("price", BigInteger, nullable=False),
    Column("quota", BigInteger, nullable=False),
    Column("overage", Boolean, nullable=False),
    Column("time_zone", String(64), nullable=False),
    Column("started", BigInteger, nullable=False),
    Column("ends", BigInteger, index=True),
    Column("cancelled", Boolean, nullable=False),
    Column("ended", Boolean, nullable=False),
    Column("budget_id", String(40), nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("terms", JSON(none_as_null=True)),
)

# Invoices as they were issued: rows are never changed. `number` counts without gaps.
invoices: Final = Table(
    "invoices",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("account_id", String(40), nullable=False),
    Column("started", BigInteger, nullable=False),
    Column("ends", BigInteger, nullable=False),
    Column("issued", BigInteger, nullable=False),
    Column("last_entry", Serial, nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
    Column("document", LargeBinary, nullable=False),
    UniqueConstraint("account_id", "ends"),
)

# Who wants to hear of budgets that pass thresholds; `percents` is a list such as `50,80,100`.
alerts: Final = Table(
    "alerts",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("scope", String(40), nullable=False),
    Column("url", String(2048), nullable=False),
    Column("percents", String(128), nullable=False),
    Column("created", BigInteger, nullable=False),
)

# Messages of alerts, on their way or arrived: one per alert, budget, period and threshold.
deliveries: Final = Table(
    "deliveries",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("alert_id", String(40), nullable=False),
    Column("budget_id", String(40), nullable=False),
    Column("started", BigInteger, nullable=False),
    Column("percent", Integer, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("next_try", BigInteger, index=True),  # none once it arrived, or was given up
    Column("tries", Integer, nullable=False),
    Column("delivered", BigInteger),
    Column("problem", String(256), nullable=False),
    UniqueConstraint("alert_id", "budget_id", "started", "percent"),
)

# What administrators changed; each row's digest covers the one before. Rows are never changed.
audit_events: Final = Table(
    "audit_events",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("time", BigInteger, nullable=False),
    Column("actor", String(64), nullable=False),
    Column("action", String(64), nullable=False),
    Column("resource", String(64), nullable=False, index=True),
    Column("before", String, nullable=False),
    Column("after", String, nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
    Column("account_id", String(40), nullable=False, server_default="", index=True),
    Column("told_id", String(64), unique=True, index=True),  # what another role calls a change that it told of
    sqlite_autoincrement=True,
)

# Keys of vendors, sealed for the providers role.
vendor_keys: Final = Table(
    "vendor_keys",
    metadata,
    Column("provider", String(64), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
    Column("sealing_key_id", String(16), nullable=False),
    Column("created", BigInteger, nullable=False),
)


class Property:
    """Names of rows in `properties`."""

    PEPPER: Final = "pepper_fingerprint"
    DEFAULT_PROJECT: Final = "default_project_id"
