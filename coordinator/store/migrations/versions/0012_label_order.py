"""Labels, volumes and ports are listed in their order by indexes, and instances are counted in a narrow one."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0012"
down_revision: str | None = "0011"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_LISTED = ["created_at", "id", "status", "name", "instance_id", "node_id", "size_gib"]
_AFTER = {
    "ix_volume_listed": ("volume", _LISTED),
    "ix_volume_listed_by_tenant_id": ("volume", ["tenant_id", *_LISTED]),
    "ix_port_listed": ("port", ["created_at", "id", "name"]),
    "ix_port_listed_by_instance_id": ("port", ["instance_id", "created_at", "id", "name"]),
    "ix_instance_label_listed": ("instance_label", ["key", "value", "created_at", "instance_id"]),
}
_BEFORE = {
    "ix_volume_tenant_id": ("volume", ["tenant_id"]),
    "ix_port_instance_id": ("port", ["instance_id"]),
    "ix_instance_label_value": ("instance_label", ["value"]),
}
_LABEL = sa.table("instance_label", sa.column("instance_id"), sa.column("created_at"))
_INSTANCE = sa.table("instance", sa.column("id"), sa.column("created_at"))


def upgrade() -> None:
    """Brings the schema to this revision."""
    is_living = sa.text("deleted_at IS NULL")
    op.create_index(
        "ix_instance_counted", "instance", ["status", "deleted_at"], sqlite_where=is_living, postgresql_where=is_living
    )
    op.add_column("instance_label", sa.Column("created_at", sa.DateTime(timezone=True), nullable=True))
    of_instance = sa.select(_INSTANCE.c.created_at).where(_INSTANCE.c.id == _LABEL.c.instance_id).scalar_subquery()
    op.execute(sa.update(_LABEL).values(created_at=of_instance))
    with op.batch_alter_table("instance_label") as batch_op:
        batch_op.alter_column("created_at", existing_type=sa.DateTime(timezone=True), nullable=False)
    _replace(_BEFORE, _AFTER)


def downgrade() -> None:
    """Takes the revision back."""
    _replace(_AFTER, _BEFORE)
    with op.batch_alter_table("instance_label") as batch_op:
        batch_op.drop_column("created_at")
    op.drop_index("ix_instance_counted", "instance")


def _replace(old: dict[str, tuple[str, list[str]]], new: dict[str, tuple[str, list[str]]]) -> None:
    for name, (table, _) in old.items():
        op.drop_index(op.f(name), table)
    for name, (table, columns) in new.items():
        op.create_index(op.f(name), table, columns)
