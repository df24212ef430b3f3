"""What images that were made of running guests are like, and which guests have a monitoring helper."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0024"
down_revision: str | None = "0023"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Brings the schema to this revision."""
    op.add_column("image", sa.Column("consistency", sa.Text(), nullable=False, server_default=""))
    op.add_column("image", sa.Column("warning", sa.Text(), nullable=False, server_default=""))
    op.add_column("instance", sa.Column("monitor_version", sa.Integer(), nullable=False, server_default="0"))


def downgrade() -> None:
    """Takes the revision back."""
    op.drop_column("instance", "monitor_version")
    op.drop_column("image", "warning")
    op.drop_column("image", "consistency")
