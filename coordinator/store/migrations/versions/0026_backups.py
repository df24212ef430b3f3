"""Backups of volumes."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0026"
down_revision: str | None = "0025"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Brings the schema to this revision."""
    op.create_table(
        "volume_backup",
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("updated_at", _MOMENT, nullable=False),
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("backup_id", sa.String(length=32), nullable=False),
        sa.Column("point_id", sa.String(length=32), nullable=False),
        sa.Column("tenant_id", sa.String(length=19), nullable=False),
        sa.Column("ecs_id", sa.String(length=32), nullable=False),
        sa.Column("volume_uuid", sa.String(length=36), nullable=False),
        sa.Column("volume_name", sa.String(length=127), nullable=False),
        sa.Column("is_os_disk", sa.Boolean(), nullable=False),
        sa.Column("node_id", sa.String(length=32), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("parent_id", sa.String(length=32), nullable=False),
        sa.Column("whole_because", sa.Text(), nullable=False),
        sa.Column("consistency", sa.Text(), nullable=False),
        sa.Column("size_gib", sa.Integer(), nullable=False),
        sa.Column("file_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("taken_at", _MOMENT, nullable=True),
        sa.Column("file_expires_at", _MOMENT, nullable=True),
        sa.Column("holds_state", sa.Boolean(), nullable=False),
        sa.Column("error_message", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_volume_backup_tenant_id_tenant")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_volume_backup")),
        sa.UniqueConstraint("backup_id", name=op.f("uq_volume_backup_backup_id")),
    )
    op.create_index("ix_volume_backup_listed", "volume_backup", ["tenant_id", "created_at", "id"])
    op.create_index(op.f("ix_volume_backup_volume_uuid"), "volume_backup", ["volume_uuid"])


def downgrade() -> None:
    """Takes the revision back."""
    op.drop_table("volume_backup")
