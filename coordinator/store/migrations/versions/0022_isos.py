"""ISO images in the optical drives of instances."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0022"
down_revision: str | None = "0020"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Brings the schema to this revision."""
    op.create_table(
        "iso_attachment",
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("instance_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("image_id", sa.String(length=32), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("is_boot", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["image_id"], ["image.id"], name=op.f("fk_iso_attachment_image_id_image")),
        sa.ForeignKeyConstraint(["instance_id"], ["instance.id"], name=op.f("fk_iso_attachment_instance_id_instance")),
        sa.PrimaryKeyConstraint("instance_id", "number", name=op.f("pk_iso_attachment")),
        sa.UniqueConstraint("instance_id", "image_id", name=op.f("uq_iso_attachment_instance_id_image_id")),
    )
    op.create_index(op.f("ix_iso_attachment_image_id"), "iso_attachment", ["image_id"])


def downgrade() -> None:
    """Takes the revision back."""
    op.drop_table("iso_attachment")
