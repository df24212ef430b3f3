"""Deployment sets, and instances found by theirs."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0006"
down_revision: str | None = "0005"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Brings the schema to this revision."""
    op.create_table(
        "deployment_set",
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=127), nullable=False),
        sa.Column("tenant_id", sa.String(length=19), nullable=False),
        sa.Column("department_id", sa.String(length=19), nullable=False),
        sa.Column("resource_group_id", sa.String(length=19), nullable=False),
        sa.Column("host_policy", sa.String(length=32), nullable=False),
        sa.Column("rack_policy", sa.String(length=32), nullable=False),
        sa.Column("switch_policy", sa.String(length=32), nullable=False),
        sa.Column("net_switch_policy", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_deployment_set_tenant_id_tenant")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deployment_set")),
        sa.UniqueConstraint("tenant_id", "name", name=op.f("uq_deployment_set_tenant_id_name")),
    )
    op.create_index(op.f("ix_instance_deployment_set"), "instance", ["deployment_set"])


def downgrade() -> None:
    """Takes the revision back."""
    op.drop_index(op.f("ix_instance_deployment_set"), "instance")
    op.drop_table("deployment_set")
