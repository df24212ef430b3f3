"""Resource pools, host groups, stored overcommitment of CPUs, and labels of hosts."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Brings the schema to this revision."""
    op.add_column("node", sa.Column("label", sa.String(length=63), nullable=False, server_default=""))
    op.create_table(
        "cpu_overcommit",
        sa.Column("zone", sa.String(length=63), nullable=False),
        sa.Column("ratio", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("zone", name=op.f("pk_cpu_overcommit")),
    )
    _create_groups()
    _create_pools()


def _create_groups() -> None:
    op.create_table(
        "host_group",
        *_moments(),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=127), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_host_group")),
        sa.UniqueConstraint("name", name=op.f("uq_host_group_name")),
    )
    op.create_table(
        "group_host",
        *_moments(),
        sa.Column("node_id", sa.String(length=32), nullable=False),
        sa.Column("hg_id", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["node_id"], ["node.id"], name=op.f("fk_group_host_node_id_node")),
        sa.ForeignKeyConstraint(["hg_id"], ["host_group.id"], name=op.f("fk_group_host_hg_id_host_group")),
        sa.PrimaryKeyConstraint("node_id", name=op.f("pk_group_host")),
    )
    op.create_index(op.f("ix_group_host_hg_id"), "group_host", ["hg_id"])


def _create_pools() -> None:
    op.create_table(
        "resource_pool",
        *_moments(),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=127), nullable=False),
        sa.Column("zone", sa.String(length=63), nullable=False),
        sa.Column("cpu_allocation_ratio", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_resource_pool")),
        sa.UniqueConstraint("name", name=op.f("uq_resource_pool_name")),
    )
    op.create_table(
        "pool_host",
        *_moments(),
        sa.Column("node_id", sa.String(length=32), nullable=False),
        sa.Column("rp_id", sa.String(length=32), nullable=False),
        sa.Column("joined_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["node_id"], ["node.id"], name=op.f("fk_pool_host_node_id_node")),
        sa.ForeignKeyConstraint(["rp_id"], ["resource_pool.id"], name=op.f("fk_pool_host_rp_id_resource_pool")),
        sa.PrimaryKeyConstraint("node_id", name=op.f("pk_pool_host")),
    )
    op.create_index(op.f("ix_pool_host_rp_id"), "pool_host", ["rp_id"])


def _moments() -> tuple[sa.Column[object], sa.Column[object]]:
    return (
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
    )


def downgrade() -> None:
    """Takes the revision back."""
    for table in ("pool_host", "resource_pool", "group_host", "host_group", "cpu_overcommit"):
        op.drop_table(table)
    op.drop_column("node", "label")
