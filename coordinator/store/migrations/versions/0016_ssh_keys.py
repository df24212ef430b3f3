"""SSH keys, and the instances that they are bound to."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0016"
down_revision: str | None = "0015"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Brings the schema to this revision."""
    op.create_table(
        "ssh_key",
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=127), nullable=False),
        sa.Column("fingerprint", sa.String(length=32), nullable=False),
        sa.Column("public_key", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.String(length=19), nullable=False),
        sa.Column("department_id", sa.String(length=19), nullable=False),
        sa.Column("resource_group_id", sa.String(length=19), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_ssh_key_tenant_id_tenant")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ssh_key")),
        sa.UniqueConstraint("tenant_id", "name", name=op.f("uq_ssh_key_tenant_id_name")),
        sa.UniqueConstraint("tenant_id", "fingerprint", name=op.f("uq_ssh_key_tenant_id_fingerprint")),
    )
    op.create_table(
        "ssh_key_binding",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("ssh_key_id", sa.String(length=32), nullable=False),
        sa.Column("instance_id", sa.Integer(), nullable=False),
        sa.Column("public_key", sa.Text(), nullable=False),
        sa.Column("password_auth", sa.String(length=3), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("bound_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["instance_id"], ["instance.id"], name=op.f("fk_ssh_key_binding_instance_id_instance")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ssh_key_binding")),
        sa.UniqueConstraint("instance_id", "ssh_key_id", name=op.f("uq_ssh_key_binding_instance_id_ssh_key_id")),
    )
    op.create_index(op.f("ix_ssh_key_binding_ssh_key_id"), "ssh_key_binding", ["ssh_key_id"])
    op.create_index(op.f("ix_ssh_key_binding_state"), "ssh_key_binding", ["state"])


def downgrade() -> None:
    """Takes the revision back."""
    op.drop_table("ssh_key_binding")
    op.drop_table("ssh_key")
