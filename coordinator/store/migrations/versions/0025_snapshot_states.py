"""Snapshots that could not be taken are found without looking at all of them."""

from collections.abc import Sequence

from alembic import op

revision: str = "0025"
down_revision: str | None = "0024"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Brings the schema to this revision."""
    op.create_index("ix_snapshot_status", "snapshot", ["status", "created_at"])


def downgrade() -> None:
    """Takes the revision back."""
    op.drop_index("ix_snapshot_status", table_name="snapshot")
