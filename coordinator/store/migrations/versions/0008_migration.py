"""Migrations of instances, and settings of the region."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0008"
down_revision: str | None = "0007"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Brings the schema to this revision."""
    op.create_table(
        "region_setting",
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("value", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_region_setting")),
    )
    op.add_column("node", sa.Column("in_maintenance", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_table(
        "migration",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("instance_id", sa.Integer(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("source_node_id", sa.String(length=32), nullable=False),
        sa.Column("target_node_id", sa.String(length=32), nullable=False),
        sa.Column("operation_id", sa.String(length=32), nullable=False),
        sa.Column("cleaning_id", sa.String(length=32), nullable=False),
        sa.Column("network", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["instance_id"], ["instance.id"], name=op.f("fk_migration_instance_id_instance")),
        sa.ForeignKeyConstraint(["source_node_id"], ["node.id"], name=op.f("fk_migration_source_node_id_node")),
        sa.ForeignKeyConstraint(["target_node_id"], ["node.id"], name=op.f("fk_migration_target_node_id_node")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_migration")),
    )
    op.create_index(op.f("ix_migration_instance_id"), "migration", ["instance_id"])
    op.create_index(op.f("ix_migration_state"), "migration", ["state"])


def downgrade() -> None:
    """Takes the revision back."""
    op.drop_table("migration")
    op.drop_column("node", "in_maintenance")
    op.drop_table("region_setting")
