"""What agents tell of devices besides what requests name."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0015"
down_revision: str | None = "0014"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Brings the schema to this revision."""
    op.add_column("device", sa.Column("report", sa.JSON(), nullable=False, server_default="{}"))


def downgrade() -> None:
    """Takes the revision back."""
    op.drop_column("device", "report")
