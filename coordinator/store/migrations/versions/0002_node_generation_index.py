"""Nodes are found by their generation, which counts all changes of all nodes."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Brings the schema to this revision."""
    with op.batch_alter_table("node") as batch:
        batch.alter_column("generation", type_=sa.BigInteger(), existing_type=sa.Integer(), existing_nullable=False)
    op.create_index(op.f("ix_node_generation"), "node", ["generation"])


def downgrade() -> None:
    """Takes the revision back."""
    op.drop_index(op.f("ix_node_generation"), "node")
    with op.batch_alter_table("node") as batch:
        batch.alter_column("generation", type_=sa.Integer(), existing_type=sa.BigInteger(), existing_nullable=False)
