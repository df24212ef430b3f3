"""Where volumes are, which decides what can be done with them."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0029"
down_revision: str | None = "0026"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Brings the schema to this revision."""
    op.add_column("volume", sa.Column("backend", sa.String(length=16), nullable=False, server_default=""))


def downgrade() -> None:
    """Takes the revision back."""
    op.drop_column("volume", "backend")
