"""Several slices of one device for one consumer."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0018"
down_revision: str | None = "0017"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Brings the schema to this revision. Until now nobody had more than one."""
    op.add_column("device_allocation", sa.Column("slices", sa.Integer(), nullable=False, server_default="1"))


def downgrade() -> None:
    """Takes the revision back."""
    op.drop_column("device_allocation", "slices")
