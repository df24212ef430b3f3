"""Instances are listed and counted, and allocations summed, in indexes; deleted instances are not in them."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0007"
down_revision: str | None = "0006"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_BEFORE = ("deleted_at", "display_name", "flavor_id", "flavor_type_id", "node_id", "status", "tenant_id")
_LISTED = ("created_at", "id", "tenant_id", "status", "zone", "display_name", "deleted_at")
_AFTER = {
    "ix_instance_listed": _LISTED,
    "ix_instance_listed_by_tenant_id": ("tenant_id", *(name for name in _LISTED if name != "tenant_id")),
    "ix_instance_listed_by_status": ("status", *(name for name in _LISTED if name != "status")),
    "ix_instance_listed_by_zone": ("zone", *(name for name in _LISTED if name != "zone")),
    "ix_instance_by_display_name": ("display_name", "created_at", "id", "deleted_at"),
    "ix_instance_by_node_id": ("node_id", "created_at", "id", "deleted_at"),
    "ix_instance_by_flavor_id": ("flavor_id", "created_at", "id", "deleted_at"),
    "ix_instance_by_flavor_type_id": ("flavor_type_id", "created_at", "id", "deleted_at"),
}


def upgrade() -> None:
    """Brings the schema to this revision."""
    for column in _BEFORE:
        op.drop_index(op.f(f"ix_instance_{column}"), "instance")
    is_living = sa.text("deleted_at IS NULL")
    for name, columns in _AFTER.items():
        op.create_index(name, "instance", list(columns), sqlite_where=is_living, postgresql_where=is_living)
    op.drop_index(op.f("ix_allocation_node_id"), "allocation")
    op.create_index("ix_allocation_use", "allocation", ["node_id", "resource_class", "amount"])


def downgrade() -> None:
    """Takes the revision back."""
    op.drop_index("ix_allocation_use", "allocation")
    op.create_index(op.f("ix_allocation_node_id"), "allocation", ["node_id"])
    for name in _AFTER:
        op.drop_index(name, "instance")
    for column in _BEFORE:
        op.create_index(op.f(f"ix_instance_{column}"), "instance", [column])
