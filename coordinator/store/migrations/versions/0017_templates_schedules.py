"""Launch templates and scheduled tasks."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0017"
down_revision: str | None = "0016"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Brings the schema to this revision."""
    _create_templates()
    _create_schedules()


def _create_templates() -> None:
    op.create_table(
        "launch_template",
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("updated_at", _MOMENT, nullable=False),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=127), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=False),
        sa.Column("tenant_id", sa.String(length=19), nullable=False),
        sa.Column("department_id", sa.String(length=19), nullable=False),
        sa.Column("resource_group_id", sa.String(length=19), nullable=False),
        sa.Column("standard_flavor", sa.Boolean(), nullable=False),
        sa.Column("default_version", sa.Integer(), nullable=False),
        sa.Column("current_version", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_launch_template_tenant_id_tenant")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_launch_template")),
        sa.UniqueConstraint("tenant_id", "name", name=op.f("uq_launch_template_tenant_id_name")),
    )
    op.create_table(
        "launch_template_version",
        sa.Column("template_id", sa.String(length=32), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("order", sa.JSON(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.ForeignKeyConstraint(
            ["template_id"],
            ["launch_template.id"],
            name=op.f("fk_launch_template_version_template_id_launch_template"),
        ),
        sa.PrimaryKeyConstraint("template_id", "version", name=op.f("pk_launch_template_version")),
    )


def _create_schedules() -> None:
    op.create_table(
        "schedule",
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("updated_at", _MOMENT, nullable=False),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=127), nullable=False),
        sa.Column("tenant_id", sa.String(length=19), nullable=False),
        sa.Column("department_id", sa.String(length=19), nullable=False),
        sa.Column("resource_group_id", sa.String(length=19), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("ecs_ids", sa.JSON(), nullable=False),
        sa.Column("cron_expression", sa.String(length=255), nullable=False),
        sa.Column("time_zone", sa.String(length=63), nullable=False),
        sa.Column("expires_at", _MOMENT, nullable=True),
        sa.Column("next_at", _MOMENT, nullable=True),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_schedule_tenant_id_tenant")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_schedule")),
    )
    op.create_index(op.f("ix_schedule_next_at"), "schedule", ["next_at"])
    op.create_index(op.f("ix_schedule_tenant_id"), "schedule", ["tenant_id"])
    op.create_table(
        "schedule_run",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("schedule_id", sa.String(length=32), nullable=False),
        sa.Column("due_at", _MOMENT, nullable=False),
        sa.Column("at", _MOMENT, nullable=False),
        sa.Column("trigger", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("results", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["schedule_id"], ["schedule.id"], name=op.f("fk_schedule_run_schedule_id_schedule")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_schedule_run")),
        sa.UniqueConstraint(
            "schedule_id", "due_at", "trigger", name=op.f("uq_schedule_run_schedule_id_due_at_trigger")
        ),
    )


def downgrade() -> None:
    """Takes the revision back."""
    for table in ("schedule_run", "schedule", "launch_template_version", "launch_template"):
        op.drop_table(table)
