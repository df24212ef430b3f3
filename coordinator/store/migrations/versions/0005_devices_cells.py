"""NUMA cells and devices of nodes, who holds them, and reservations of single nodes."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Brings the schema to this revision."""
    op.add_column("node", sa.Column("cells", sa.JSON(), nullable=False, server_default="[]"))
    op.add_column("node", sa.Column("reserved_vcpus", sa.Integer(), nullable=True))
    op.add_column("node", sa.Column("reserved_memory_mib", sa.Integer(), nullable=True))
    op.add_column("resource_pool", sa.Column("weights", sa.JSON(), nullable=False, server_default="{}"))
    op.add_column("reported_domain", sa.Column("vcpus", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("reported_domain", sa.Column("memory_bytes", sa.BigInteger(), nullable=False, server_default="0"))
    op.create_table(
        "device",
        sa.Column("node_id", sa.String(length=32), nullable=False),
        sa.Column("id", sa.String(length=127), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("attributes", sa.JSON(), nullable=False),
        sa.Column("cell", sa.Integer(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("shareable", sa.Boolean(), nullable=False),
        sa.Column("withheld_reason", sa.String(length=255), nullable=False),
        sa.ForeignKeyConstraint(["node_id"], ["node.id"], name=op.f("fk_device_node_id_node")),
        sa.PrimaryKeyConstraint("node_id", "id", name=op.f("pk_device")),
    )
    _create_allocations()


def _create_allocations() -> None:
    op.create_table(
        "device_allocation",
        sa.Column("consumer_uuid", sa.String(length=36), nullable=False),
        sa.Column("node_id", sa.String(length=32), nullable=False),
        sa.Column("device_id", sa.String(length=127), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("milli", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["node_id"], ["node.id"], name=op.f("fk_device_allocation_node_id_node")),
        sa.PrimaryKeyConstraint("consumer_uuid", "node_id", "device_id", name=op.f("pk_device_allocation")),
    )
    op.create_index(op.f("ix_device_allocation_node_id"), "device_allocation", ["node_id"])
    op.create_table(
        "cell_allocation",
        sa.Column("consumer_uuid", sa.String(length=36), nullable=False),
        sa.Column("node_id", sa.String(length=32), nullable=False),
        sa.Column("cell", sa.Integer(), nullable=False),
        sa.Column("vcpus", sa.Integer(), nullable=False),
        sa.Column("memory_mib", sa.Integer(), nullable=False),
        sa.Column("page_kib", sa.Integer(), nullable=False),
        sa.Column("cpus", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["node_id"], ["node.id"], name=op.f("fk_cell_allocation_node_id_node")),
        sa.PrimaryKeyConstraint("consumer_uuid", "node_id", "cell", name=op.f("pk_cell_allocation")),
    )
    op.create_index(op.f("ix_cell_allocation_node_id"), "cell_allocation", ["node_id"])


def downgrade() -> None:
    """Takes the revision back."""
    for table in ("cell_allocation", "device_allocation", "device"):
        op.drop_table(table)
    for column in ("memory_bytes", "vcpus"):
        op.drop_column("reported_domain", column)
    op.drop_column("resource_pool", "weights")
    for column in ("reserved_memory_mib", "reserved_vcpus", "cells"):
        op.drop_column("node", column)
