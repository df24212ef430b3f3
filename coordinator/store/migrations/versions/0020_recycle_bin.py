"""The recycle bin, and snapshot policies."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0020"
down_revision: str | None = "0019"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Brings the schema to this revision."""
    op.create_table(
        "recycled_instance",
        sa.Column("instance_id", sa.Integer(), nullable=False),
        sa.Column("recycled_at", _MOMENT, nullable=False),
        sa.Column("purge_at", _MOMENT, nullable=False),
        sa.Column("status_before", sa.String(length=32), nullable=False),
        sa.Column("purging", sa.Boolean(), nullable=False),
        sa.Column("announced", sa.Boolean(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("not_before", _MOMENT, nullable=True),
        sa.ForeignKeyConstraint(
            ["instance_id"], ["instance.id"], name=op.f("fk_recycled_instance_instance_id_instance")
        ),
        sa.PrimaryKeyConstraint("instance_id", name=op.f("pk_recycled_instance")),
    )
    op.create_index(op.f("ix_recycled_instance_purge_at"), "recycled_instance", ["purge_at"])
    op.add_column("snapshot", sa.Column("purge_at", _MOMENT, nullable=True))
    op.create_index(op.f("ix_snapshot_purge_at"), "snapshot", ["purge_at"])
    op.create_index(op.f("ix_snapshot_expires_at"), "snapshot", ["expires_at"])
    _create_policies()


def _create_policies() -> None:
    op.create_table(
        "snapshot_policy",
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("updated_at", _MOMENT, nullable=False),
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("policy_id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=127), nullable=False),
        sa.Column("tenant_id", sa.String(length=19), nullable=False),
        sa.Column("department_id", sa.String(length=19), nullable=False),
        sa.Column("resource_group_id", sa.String(length=19), nullable=False),
        sa.Column("hours", sa.String(length=63), nullable=False),
        sa.Column("week_days", sa.String(length=15), nullable=False),
        sa.Column("time_zone", sa.String(length=63), nullable=False),
        sa.Column("keep_minutes", sa.Integer(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("next_at", _MOMENT, nullable=True),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_snapshot_policy_tenant_id_tenant")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_snapshot_policy")),
        sa.UniqueConstraint("policy_id", name=op.f("uq_snapshot_policy_policy_id")),
    )
    op.create_index(op.f("ix_snapshot_policy_next_at"), "snapshot_policy", ["next_at"])
    op.create_index(op.f("ix_snapshot_policy_tenant_id"), "snapshot_policy", ["tenant_id"])
    op.create_table(
        "snapshot_policy_binding",
        sa.Column("instance_id", sa.Integer(), nullable=False),
        sa.Column("policy_id", sa.Integer(), nullable=False),
        sa.Column("bound_at", _MOMENT, nullable=False),
        sa.Column("due_at", _MOMENT, nullable=True),
        sa.Column("not_before", _MOMENT, nullable=True),
        sa.Column("last_due_at", _MOMENT, nullable=True),
        sa.Column("last_snapshot_id", sa.String(length=32), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["instance_id"], ["instance.id"], name=op.f("fk_snapshot_policy_binding_instance_id_instance")
        ),
        sa.ForeignKeyConstraint(
            ["policy_id"], ["snapshot_policy.id"], name=op.f("fk_snapshot_policy_binding_policy_id_snapshot_policy")
        ),
        sa.PrimaryKeyConstraint("instance_id", name=op.f("pk_snapshot_policy_binding")),
    )
    op.create_index(op.f("ix_snapshot_policy_binding_due_at"), "snapshot_policy_binding", ["due_at"])
    op.create_index(op.f("ix_snapshot_policy_binding_policy_id"), "snapshot_policy_binding", ["policy_id"])


def downgrade() -> None:
    """Takes the revision back."""
    op.drop_table("snapshot_policy_binding")
    op.drop_table("snapshot_policy")
    op.drop_index(op.f("ix_snapshot_expires_at"), table_name="snapshot")
    op.drop_index(op.f("ix_snapshot_purge_at"), table_name="snapshot")
    op.drop_column("snapshot", "purge_at")
    op.drop_table("recycled_instance")
