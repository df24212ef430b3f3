"""Keys of encrypted volumes, themselves encrypted."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0030"
down_revision: str | None = "0029"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Brings the schema to this revision."""
    op.add_column("volume", sa.Column("encryption_key", sa.String(length=255), nullable=False, server_default=""))


def downgrade() -> None:
    """Takes the revision back."""
    op.drop_column("volume", "encryption_key")
