"""Nodes are found by their generation."""

from collections.abc import Sequence

from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Brings the schema to this revision."""
    op.create_index(op.f("ix_node_generation"), "node", ["generation"])


def downgrade() -> None:
    """Takes the revision back."""
    op.drop_index(op.f("ix_node_generation"), "node")
