"""Which run of a node the coordinator knows, and which instances are to be started again after another one."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0013"
down_revision: str | None = "0012"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Brings the schema to this revision."""
    op.add_column("node", sa.Column("boot_id", sa.String(length=36), nullable=False, server_default=""))
    op.create_table(
        "interruption",
        sa.Column("instance_id", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("operation_id", sa.String(length=32), nullable=True),
        sa.Column("booting_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["instance_id"], ["instance.id"], name=op.f("fk_interruption_instance_id_instance")),
        sa.PrimaryKeyConstraint("instance_id", name=op.f("pk_interruption")),
    )


def downgrade() -> None:
    """Takes the revision back."""
    op.drop_table("interruption")
    op.drop_column("node", "boot_id")
