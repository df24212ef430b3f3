"""What images that were made of running guests are like."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0027"
down_revision: str | None = "0024"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Brings the schema to this revision."""
    op.add_column("image", sa.Column("consistency", sa.Text(), nullable=False, server_default=""))
    op.add_column("image", sa.Column("warning", sa.Text(), nullable=False, server_default=""))


def downgrade() -> None:
    """Takes the revision back."""
    op.drop_column("image", "warning")
    op.drop_column("image", "consistency")
