"""What happened, who is told of it, and who did what."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Index, Integer, text
from sqlmodel import JSON, Field, SQLModel, Text

from coordinator.domain.clock import utc_now
from coordinator.store.column import UtcDateTime
from coordinator.store.tables.base import Timestamped

# SQLite numbers rows by itself only in columns of this very type.
NUMBER = BigInteger().with_variant(Integer(), "sqlite")
_UNNUMBERED = text("position IS NULL")


class Event(SQLModel, table=True):
    """Something that happened, written in the transaction in which it did. Refers to rows by what people call them."""

    __table_args__ = (
        Index("ix_event_unnumbered", "id", sqlite_where=_UNNUMBERED, postgresql_where=_UNNUMBERED),
        Index("ix_event_of_tenant", "tenant_id", "position"),
        Index("ix_event_of_resource", "resource_id", "position"),
    )

    id: int | None = Field(default=None, primary_key=True, sa_type=NUMBER)
    # Its place in the order that everybody sees, and its id outside; None until `number_events` gave it one.
    position: int | None = Field(default=None, unique=True, sa_type=BigInteger)
    at: datetime = Field(default_factory=utc_now, sa_type=UtcDateTime, index=True)
    kind: str = Field(max_length=63)
    # A coordinator.domain.event.Severity.
    severity: str = Field(max_length=8)
    # "instance", "volume", "image", "node", "operation", "webhook" or "schedule".
    resource_type: str = Field(max_length=31)
    resource_id: str = Field(max_length=63)
    tenant_id: str | None = Field(default=None, max_length=19)
    node_id: str | None = Field(default=None, max_length=32)
    operation_id: str | None = Field(default=None, max_length=32)
    data: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)


class Webhook(Timestamped, table=True):
    """An address that is sent events, and how far it has got."""

    id: str = Field(primary_key=True, max_length=32)
    url: str = Field(max_length=1023)
    # Patterns of kinds; empty: all.
    kinds: list[str] = Field(default_factory=list, sa_type=JSON)
    least_severity: str = Field(max_length=8)
    # Only this tenant's events; None: all.
    tenant_id: str | None = Field(default=None, max_length=19)
    # Encrypted with the coordinator's secret key.
    secret_encrypted: str = Field(sa_type=Text)
    # False: given up; an operator enables it again.
    enabled: bool = True
    # Position of the last event that needs to be sent no more.
    last_position: int = Field(default=0, sa_type=BigInteger)
    # Failures in a row, and since when.
    attempts: int = 0
    failing_since: datetime | None = Field(default=None, sa_type=UtcDateTime)
    not_before: datetime | None = Field(default=None, sa_type=UtcDateTime)
    last_error: str = Field(default="", sa_type=Text)
    last_error_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    last_delivered_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    # The coordinator that sends now.
    lease_owner: str = Field(default="", max_length=64)
    lease_expires_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class AuditRecord(SQLModel, table=True):
    """One call that changed something, or was to: who made it, and how it was answered. Never what was in it."""

    __tablename__ = "audit"

    id: int | None = Field(default=None, primary_key=True, sa_type=NUMBER)
    at: datetime = Field(sa_type=UtcDateTime, index=True)
    request_id: str = Field(max_length=64, index=True)
    # Id of the API token, "oidc:<subject>", "certificate:<name>" or "system"; empty: unknown credentials.
    caller_id: str = Field(max_length=255, index=True)
    caller_name: str = Field(default="", max_length=255)
    role: str = Field(default="", max_length=16)
    tenant_id: str | None = Field(default=None, max_length=19, index=True)
    # An HTTP method, "gRPC", or "CLI" on the coordinator's own machine.
    method: str = Field(max_length=8)
    path: str = Field(max_length=1023)
    operation: str = Field(default="", max_length=63)
    # Ids of what it named or made, comma separated.
    resources: str = Field(default="", sa_type=Text)
    # HTTP's, or gRPC's for a call over gRPC.
    status: int
    code: str = Field(max_length=127)
    operation_ids: str = Field(default="", sa_type=Text)
    source_address: str = Field(default="", max_length=63)
    # HMAC-SHA256 of the body in hex, with the coordinator's secret key; empty: no body, or one that is too long.
    body_digest: str = Field(default="", max_length=64)
