"""Instances keep the machine that they were first defined with, on whichever node they are."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0014"
down_revision: str | None = "0013"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Brings the schema to this revision."""
    op.add_column("instance", sa.Column("machine", sa.String(length=64), nullable=False, server_default=""))


def downgrade() -> None:
    """Takes the revision back."""
    op.drop_column("instance", "machine")
