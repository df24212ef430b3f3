"""What fencing needs to know: when a node was heard of, how long it may go on, and how it is switched off."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0011"
down_revision: str | None = "0010"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Brings the schema to this revision."""
    op.create_table(
        "bmc",
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("node_id", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("address", sa.String(length=255), nullable=False),
        sa.Column("username", sa.String(length=63), nullable=False),
        sa.Column("password_encrypted", sa.String(length=1024), nullable=False),
        sa.Column("verify_tls", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["node_id"], ["node.id"], name=op.f("fk_bmc_node_id_node")),
        sa.PrimaryKeyConstraint("node_id", name=op.f("pk_bmc")),
    )
    op.add_column("node", sa.Column("heard_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("node", sa.Column("self_fence", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("node", sa.Column("ha_tolerance_seconds", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("instance", sa.Column("ha_enabled", sa.Boolean(), nullable=False, server_default=sa.false()))


def downgrade() -> None:
    """Takes the revision back."""
    op.drop_column("instance", "ha_enabled")
    for name in ("ha_tolerance_seconds", "self_fence", "heard_at"):
        op.drop_column("node", name)
    op.drop_table("bmc")
