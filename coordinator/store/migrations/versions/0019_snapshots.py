"""Snapshots of instances."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0019"
down_revision: str | None = "0018"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Brings the schema to this revision."""
    op.create_table(
        "snapshot",
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("updated_at", _MOMENT, nullable=False),
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("snapshot_id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=127), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=False),
        sa.Column("tenant_id", sa.String(length=19), nullable=False),
        sa.Column("department_id", sa.String(length=32), nullable=False),
        sa.Column("resource_group_id", sa.String(length=32), nullable=False),
        sa.Column("instance_id", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("consistency", sa.Text(), nullable=False),
        sa.Column("error_message", sa.Text(), nullable=False),
        sa.Column("expires_at", _MOMENT, nullable=True),
        sa.Column("deleted_at", _MOMENT, nullable=True),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_snapshot_tenant_id_tenant")),
        sa.ForeignKeyConstraint(["instance_id"], ["instance.id"], name=op.f("fk_snapshot_instance_id_instance")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_snapshot")),
        sa.UniqueConstraint("snapshot_id", name=op.f("uq_snapshot_snapshot_id")),
    )
    op.create_index("ix_snapshot_listed", "snapshot", ["tenant_id", "created_at", "id"])
    op.create_index(op.f("ix_snapshot_instance_id"), "snapshot", ["instance_id"])
    _create_volume_snapshots()


def _create_volume_snapshots() -> None:
    op.create_table(
        "volume_snapshot",
        sa.Column("snapshot_id", sa.Integer(), nullable=False),
        sa.Column("volume_id", sa.Integer(), nullable=False),
        sa.Column("size_gib", sa.Integer(), nullable=False),
        sa.Column("is_os_disk", sa.Boolean(), nullable=False),
        sa.Column("image_id", sa.String(length=32), nullable=True),
        sa.Column("allocated_bytes", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["snapshot_id"], ["snapshot.id"], name=op.f("fk_volume_snapshot_snapshot_id_snapshot")),
        sa.ForeignKeyConstraint(["volume_id"], ["volume.id"], name=op.f("fk_volume_snapshot_volume_id_volume")),
        sa.ForeignKeyConstraint(["image_id"], ["image.id"], name=op.f("fk_volume_snapshot_image_id_image")),
        sa.PrimaryKeyConstraint("snapshot_id", "volume_id", name=op.f("pk_volume_snapshot")),
    )
    op.create_index(op.f("ix_volume_snapshot_volume_id"), "volume_snapshot", ["volume_id"])


def downgrade() -> None:
    """Takes the revision back."""
    for table in ("volume_snapshot", "snapshot"):
        op.drop_table(table)
