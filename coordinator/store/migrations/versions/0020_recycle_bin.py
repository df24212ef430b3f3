"""The recycle bin."""

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


def downgrade() -> None:
    """Takes the revision back."""
    op.drop_table("recycled_instance")
