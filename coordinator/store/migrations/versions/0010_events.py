"""Events, webhooks and the audit log."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0010"
down_revision: str | None = "0009"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Brings the schema to this revision."""
    _create_event()
    _create_webhook()
    _create_audit()


def _create_event() -> None:
    op.create_table(
        "event",
        sa.Column("id", _NUMBER, nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=True),
        sa.Column("at", _MOMENT, nullable=False),
        sa.Column("kind", sa.String(length=63), nullable=False),
        sa.Column("severity", sa.String(length=8), nullable=False),
        sa.Column("resource_type", sa.String(length=31), nullable=False),
        sa.Column("resource_id", sa.String(length=63), nullable=False),
        sa.Column("tenant_id", sa.String(length=19), nullable=True),
        sa.Column("node_id", sa.String(length=32), nullable=True),
        sa.Column("operation_id", sa.String(length=32), nullable=True),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_event")),
        sa.UniqueConstraint("position", name=op.f("uq_event_position")),
    )
    unnumbered = sa.text("position IS NULL")
    op.create_index("ix_event_unnumbered", "event", ["id"], sqlite_where=unnumbered, postgresql_where=unnumbered)
    op.create_index("ix_event_of_tenant", "event", ["tenant_id", "position"])
    op.create_index("ix_event_of_resource", "event", ["resource_id", "position"])
    op.create_index(op.f("ix_event_at"), "event", ["at"])


def _create_webhook() -> None:
    op.create_table(
        "webhook",
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("updated_at", _MOMENT, nullable=False),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("url", sa.String(length=1023), nullable=False),
        sa.Column("kinds", sa.JSON(), nullable=False),
        sa.Column("least_severity", sa.String(length=8), nullable=False),
        sa.Column("tenant_id", sa.String(length=19), nullable=True),
        sa.Column("secret_encrypted", sa.Text(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("last_position", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("failing_since", _MOMENT, nullable=True),
        sa.Column("not_before", _MOMENT, nullable=True),
        sa.Column("last_error", sa.Text(), nullable=False),
        sa.Column("last_error_at", _MOMENT, nullable=True),
        sa.Column("last_delivered_at", _MOMENT, nullable=True),
        sa.Column("lease_owner", sa.String(length=64), nullable=False),
        sa.Column("lease_expires_at", _MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook")),
    )


def _create_audit() -> None:
    op.create_table(
        "audit",
        sa.Column("id", _NUMBER, nullable=False),
        sa.Column("at", _MOMENT, nullable=False),
        sa.Column("request_id", sa.String(length=64), nullable=False),
        sa.Column("caller_id", sa.String(length=255), nullable=False),
        sa.Column("caller_name", sa.String(length=255), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("tenant_id", sa.String(length=19), nullable=True),
        sa.Column("method", sa.String(length=8), nullable=False),
        sa.Column("path", sa.String(length=1023), nullable=False),
        sa.Column("operation", sa.String(length=63), nullable=False),
        sa.Column("resources", sa.Text(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("code", sa.String(length=127), nullable=False),
        sa.Column("operation_ids", sa.Text(), nullable=False),
        sa.Column("source_address", sa.String(length=63), nullable=False),
        sa.Column("body_digest", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    for column in ("at", "request_id", "caller_id", "tenant_id"):
        op.create_index(op.f(f"ix_audit_{column}"), "audit", [column])


def downgrade() -> None:
    """Takes the revision back."""
    for table in ("audit", "webhook", "event"):
        op.drop_table(table)
