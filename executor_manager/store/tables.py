"""The tables. Portable types only; every time is a number of seconds since the epoch."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy import String as PlainString
from sqlalchemy import Text as PlainText


class String(TypeDecorator[str]):
    """Text that may come from outside: half of a surrogate pair cannot be stored as UTF-8."""

    impl = PlainString
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Replace what cannot be encoded."""
        return None if value is None else value.encode("utf-8", "replace").decode()


class Text(String):
    """The same without a length."""

    impl = PlainText
    cache_ok = True


metadata: Final = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

nodes: Final = Table(
    "nodes",
    metadata,
    Column("id", String(200), primary_key=True),
    Column("kind", String(20), nullable=False),
    Column("name", Text, nullable=False),
    Column("hostname", Text, nullable=False),
    Column("platform", Text, nullable=False),
    Column("arch", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("workspace_root", Text, nullable=False),
    Column("capabilities", JSON, nullable=False),
    Column("isolation", JSON, nullable=False),
    Column("capacity", Integer, nullable=False),
    Column("status", String(20), nullable=False),
    Column("incarnation", Integer, nullable=False),
    Column("last_heartbeat", Double, nullable=False),
    Column("lease_expiry", Double, nullable=False),
    # It refused as busy although it has free capacity by our count: ask again after this time.
    Column("busy_until", Double, nullable=False),
    Column("registered_at", Double, nullable=False),
)

sessions: Final = Table(
    "sessions",
    metadata,
    Column("id", String(128), primary_key=True),
    Column("user_id", String(200), nullable=False),
    Column("node_id", String(200), ForeignKey("nodes.id")),
    Column("sdk_session_id", String(64)),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Index(None, "user_id"),
)

runs: Final = Table(
    "runs",
    metadata,
    # The order of arrival: times can be equal, and clocks can go back.
    Column(
        "ordinal",
        BigInteger().with_variant(Integer, "sqlite"),
        primary_key=True,
        autoincrement=True,
    ),
    Column("id", String(128), nullable=False),
    Column("session_id", String(128), ForeignKey("sessions.id"), nullable=False),
    Column("user_id", String(200), nullable=False),
    Column("idempotency_key", String(200)),
    Column("request", JSON, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("schedule_mode", String(20), nullable=False),
    Column("scheduled_at", Double),
    Column("on_node_loss", String(20), nullable=False),
    Column("state", String(20), nullable=False),
    Column("attempt", Integer, nullable=False),
    # Where it is or last was; the lease owner is empty once the node has no say any more.
    Column("node_id", String(200), ForeignKey("nodes.id")),
    Column("lease_owner", String(200), ForeignKey("nodes.id")),
    Column("lease_expiry", Double),
    Column("unreachable", Boolean, nullable=False),
    Column("dispatch_due", Boolean, nullable=False),
    Column("accepted", Boolean, nullable=False),
    Column("cancel_due", Boolean, nullable=False),
    Column("cancel_reason", Text),
    Column("last_seq", Integer, nullable=False),
    Column("last_sequence", Integer, nullable=False),
    Column("progress", Integer, nullable=False),
    Column("verdict", JSON(none_as_null=True)),
    Column("error_code", String(40)),
    Column("created_at", Double, nullable=False),
    Column("started_at", Double),
    Column("finished_at", Double),
    UniqueConstraint("id"),
    UniqueConstraint("user_id", "idempotency_key"),
    Index(None, "state", "priority", "ordinal"),
    Index(None, "session_id", "state"),
    Index(None, "lease_owner", "state"),
)

events: Final = Table(
    "events",
    metadata,
    Column("run_id", String(128), ForeignKey("runs.id"), primary_key=True),
    Column("sequence", Integer, primary_key=True, autoincrement=False),
    Column("attempt", Integer, nullable=False),
    # Empty for what the control plane itself adds.
    Column("seq", Integer),
    Column("type", String(100), nullable=False),
    Column("source", JSON(none_as_null=True)),
    Column("data", JSON, nullable=False),
    Column("timestamp", String(40), nullable=False),
    UniqueConstraint("run_id", "attempt", "seq"),
)

questions: Final = Table(
    "questions",
    metadata,
    Column("run_id", String(128), ForeignKey("runs.id"), primary_key=True),
    Column("request_id", String(200), primary_key=True),
    Column("attempt", Integer, nullable=False),
    # The event that asks; what is asked is there.
    Column("sequence", Integer, nullable=False),
    # Empty as long as the agent waits.
    Column("outcome", String(20)),
    # The user's answer, encrypted, until the node has it; its fingerprint stays.
    Column("answer", LargeBinary),
    Column("fingerprint", String(64)),
    Column("delivered", Boolean, nullable=False),
)

secrets: Final = Table(
    "secrets",
    metadata,
    Column("run_id", String(128), ForeignKey("runs.id"), primary_key=True),
    Column("ciphertext", LargeBinary, nullable=False),
)
