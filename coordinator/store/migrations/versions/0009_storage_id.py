"""A node tells where it keeps its volumes: nodes that tell the same share them."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0009"
down_revision: str | None = "0008"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Brings the schema to this revision."""
    op.add_column("node", sa.Column("storage_id", sa.String(length=36), nullable=False, server_default=""))


def downgrade() -> None:
    """Takes the revision back."""
    op.drop_column("node", "storage_id")
