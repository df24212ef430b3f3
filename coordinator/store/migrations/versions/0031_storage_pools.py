"""Space for volumes by their type."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0031"
down_revision: str | None = "0030"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Brings the schema to this revision."""
    op.create_table(
        "storage_pool",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("total_gib", sa.Integer(), nullable=False),
        sa.Column("free_gib", sa.Integer(), nullable=False),
        sa.Column("usable_gib", sa.Integer(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_storage_pool")),
    )
    op.create_index(op.f("ix_storage_pool_generation"), "storage_pool", ["generation"])
    op.create_table(
        "space_reservation",
        sa.Column("consumer_uuid", sa.String(length=36), nullable=False),
        sa.Column("pool_id", sa.String(length=36), nullable=False),
        sa.Column("size_gib", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["pool_id"], ["storage_pool.id"], name=op.f("fk_space_reservation_pool_id_storage_pool")
        ),
        sa.PrimaryKeyConstraint("consumer_uuid", "pool_id", name=op.f("pk_space_reservation")),
    )
    op.create_index(op.f("ix_space_reservation_pool_id"), "space_reservation", ["pool_id"])
    op.add_column("node", sa.Column("storages", sa.JSON(), nullable=False, server_default="{}"))
    op.add_column("migration", sa.Column("copied", sa.JSON(), nullable=True))
    op.add_column("volume", sa.Column("storage_pool_id", sa.String(length=36), nullable=True))
    op.create_index("ix_volume_space", "volume", ["storage_pool_id", "size_gib"])


def downgrade() -> None:
    """Takes the revision back."""
    op.drop_index("ix_volume_space", "volume")
    op.drop_column("volume", "storage_pool_id")
    op.drop_column("migration", "copied")
    op.drop_column("node", "storages")
    op.drop_table("space_reservation")
    op.drop_table("storage_pool")
