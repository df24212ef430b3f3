"""Initial schema."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0001"
down_revision: str | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Brings the schema to this revision."""

    op.create_table(
        "enrolment_token",
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("public_key_hash", sa.String(length=64), nullable=True),
        sa.Column("node_id", sa.String(length=32), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_enrolment_token")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_enrolment_token_token_hash")),
    )
    op.create_table(
        "flavor_type",
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("flavor_type_id", sa.String(length=32), nullable=False),
        sa.Column("spec_code", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=127), nullable=False),
        sa.Column("arch_type", sa.String(length=8), nullable=False),
        sa.Column("cpu_model", sa.String(length=127), nullable=False),
        sa.Column("vcpu_type", sa.String(length=32), nullable=False),
        sa.Column("az", sa.String(length=63), nullable=False),
        sa.Column("device_type", sa.String(length=16), nullable=False),
        sa.Column("security_type", sa.String(length=8), nullable=False),
        sa.Column("gpu_type", sa.String(length=16), nullable=False),
        sa.Column("gpu_product", sa.String(length=127), nullable=False),
        sa.Column("local_disk_type", sa.String(length=16), nullable=False),
        sa.Column("local_disk_interface", sa.String(length=16), nullable=False),
        sa.Column("local_disk_size", sa.Integer(), nullable=False),
        sa.Column("cpu_overscaling_ratio", sa.Integer(), nullable=False),
        sa.Column("is_dedicated_cpu", sa.Boolean(), nullable=False),
        sa.Column("is_dedicated_mem", sa.Boolean(), nullable=False),
        sa.Column("is_system_local_disk", sa.Boolean(), nullable=False),
        sa.Column("v_numa", sa.Boolean(), nullable=False),
        sa.Column("sriov", sa.Boolean(), nullable=False),
        sa.Column("dept_available", sa.Boolean(), nullable=False),
        sa.Column("rp_ids", sa.JSON(), nullable=False),
        sa.Column("prices", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_flavor_type")),
        sa.UniqueConstraint("flavor_type_id", name=op.f("uq_flavor_type_flavor_type_id")),
    )
    with op.batch_alter_table("flavor_type", schema=None) as batch_op:
        batch_op.create_index(
            "uq_flavor_type_name",
            ["name"],
            unique=True,
            sqlite_where=sa.text("deleted_at IS NULL"),
            postgresql_where=sa.text("deleted_at IS NULL"),
        )

    op.create_table(
        "idempotency_key",
        sa.Column("caller", sa.String(length=64), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("request_hash", sa.String(length=64), nullable=False),
        sa.Column("response_status", sa.Integer(), nullable=False),
        sa.Column("response_body", sa.Text(), nullable=False),
        sa.Column("response_headers", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("caller", "key", name=op.f("pk_idempotency_key")),
    )
    with op.batch_alter_table("idempotency_key", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_idempotency_key_created_at"), ["created_at"], unique=False)

    op.create_table(
        "node",
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("machine_uuid", sa.String(length=64), nullable=False),
        sa.Column("zone", sa.String(length=63), nullable=False),
        sa.Column("address", sa.String(length=255), nullable=False),
        sa.Column("architecture", sa.String(length=8), nullable=False),
        sa.Column("cpu_model", sa.String(length=127), nullable=False),
        sa.Column("ready", sa.Boolean(), nullable=False),
        sa.Column("schedulable", sa.Boolean(), nullable=False),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("session_id", sa.String(length=64), nullable=False),
        sa.Column("last_event_sequence", sa.Integer(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("agent_version", sa.String(length=32), nullable=False),
        sa.Column("traits", sa.JSON(), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("rack", sa.String(length=63), nullable=False),
        sa.Column("switch", sa.String(length=63), nullable=False),
        sa.Column("net_switch", sa.String(length=63), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_node")),
        sa.UniqueConstraint("machine_uuid", name=op.f("uq_node_machine_uuid")),
    )
    with op.batch_alter_table("node", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_node_name"), ["name"], unique=False)
        batch_op.create_index(batch_op.f("ix_node_zone"), ["zone"], unique=False)

    op.create_table(
        "task",
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=63), nullable=False),
        sa.Column("schema_version", sa.Integer(), nullable=False),
        sa.Column("args", sa.JSON(), nullable=False),
        sa.Column("tenant_id", sa.String(length=19), nullable=True),
        sa.Column("resource_id", sa.String(length=63), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("progress_percent", sa.Integer(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("error_code", sa.String(length=127), nullable=False),
        sa.Column("error_message", sa.Text(), nullable=False),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("after_task_id", sa.String(length=32), nullable=True),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("retrying_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_owner", sa.String(length=64), nullable=False),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("fencing", sa.Integer(), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("request_id", sa.String(length=36), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_task")),
    )
    with op.batch_alter_table("task", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_task_kind"), ["kind"], unique=False)
        batch_op.create_index(batch_op.f("ix_task_resource_id"), ["resource_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_task_state"), ["state"], unique=False)
        batch_op.create_index(batch_op.f("ix_task_tenant_id"), ["tenant_id"], unique=False)

    op.create_table(
        "tenant",
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("id", sa.String(length=19), nullable=False),
        sa.Column("name", sa.String(length=127), nullable=False),
        sa.Column("quota_instances", sa.Integer(), nullable=True),
        sa.Column("quota_vcpus", sa.Integer(), nullable=True),
        sa.Column("quota_memory_gib", sa.Integer(), nullable=True),
        sa.Column("quota_gpus", sa.Integer(), nullable=True),
        sa.Column("quota_volumes", sa.Integer(), nullable=True),
        sa.Column("quota_storage_gib", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tenant")),
        sa.UniqueConstraint("name", name=op.f("uq_tenant_name")),
    )
    op.create_table(
        "allocation",
        sa.Column("consumer_uuid", sa.String(length=36), nullable=False),
        sa.Column("node_id", sa.String(length=32), nullable=False),
        sa.Column("resource_class", sa.String(length=32), nullable=False),
        sa.Column("amount", sa.Integer(), nullable=False),
        sa.Column("external", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["node_id"], ["node.id"], name=op.f("fk_allocation_node_id_node")),
        sa.PrimaryKeyConstraint("consumer_uuid", "node_id", "resource_class", name=op.f("pk_allocation")),
    )
    with op.batch_alter_table("allocation", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_allocation_node_id"), ["node_id"], unique=False)

    op.create_table(
        "api_token",
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=127), nullable=False),
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_api_token_tenant_id_tenant")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_token")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_api_token_token_hash")),
    )
    with op.batch_alter_table("api_token", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_api_token_tenant_id"), ["tenant_id"], unique=False)

    op.create_table(
        "department",
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("id", sa.String(length=19), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(length=127), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_department_tenant_id_tenant")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_department")),
    )
    with op.batch_alter_table("department", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_department_tenant_id"), ["tenant_id"], unique=False)

    op.create_table(
        "flavor",
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("flavor_id", sa.String(length=32), nullable=False),
        sa.Column("flavor_type_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(length=127), nullable=False),
        sa.Column("cpu", sa.Integer(), nullable=False),
        sa.Column("ram_gib", sa.Integer(), nullable=False),
        sa.Column("gpu", sa.Integer(), nullable=False),
        sa.Column("local_disk", sa.Integer(), nullable=False),
        sa.Column("intranet_bw_max_gbps", sa.Integer(), nullable=False),
        sa.Column("vgpu_type_id", sa.String(length=64), nullable=False),
        sa.Column("vgpu_type_name", sa.String(length=127), nullable=False),
        sa.Column("vgpu_display_name", sa.String(length=127), nullable=False),
        sa.Column("vgpu_memory_gib", sa.Integer(), nullable=False),
        sa.Column("use_elasticity_local_sys_disk", sa.Boolean(), nullable=False),
        sa.Column("elasticity_local_sys_disk_size_gib", sa.Integer(), nullable=False),
        sa.Column("elasticity_local_data_disk_num", sa.Integer(), nullable=False),
        sa.Column("elasticity_local_data_disk_size_gib", sa.Integer(), nullable=False),
        sa.Column("sriov", sa.Integer(), nullable=False),
        sa.Column("is_custom", sa.Boolean(), nullable=False),
        sa.Column("dept_available", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["flavor_type_id"], ["flavor_type.flavor_type_id"], name=op.f("fk_flavor_flavor_type_id_flavor_type")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_flavor")),
        sa.UniqueConstraint("flavor_id", name=op.f("uq_flavor_flavor_id")),
    )
    with op.batch_alter_table("flavor", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_flavor_flavor_type_id"), ["flavor_type_id"], unique=False)
        batch_op.create_index(
            "uq_flavor_flavor_type_id_name",
            ["flavor_type_id", "name"],
            unique=True,
            sqlite_where=sa.text("deleted_at IS NULL"),
            postgresql_where=sa.text("deleted_at IS NULL"),
        )

    op.create_table(
        "image",
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("name", sa.String(length=127), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=True),
        sa.Column("visibility", sa.String(length=16), nullable=False),
        sa.Column("format", sa.String(length=8), nullable=False),
        sa.Column("cpu_arch", sa.String(length=8), nullable=False),
        sa.Column("os_type", sa.String(length=16), nullable=False),
        sa.Column("platform", sa.String(length=63), nullable=False),
        sa.Column("os_version", sa.String(length=63), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("error_message", sa.String(length=1023), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("virtual_size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("source_url", sa.String(length=1023), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_image_tenant_id_tenant")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_image")),
    )
    with op.batch_alter_table("image", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_image_name"), ["name"], unique=False)
        batch_op.create_index(batch_op.f("ix_image_tenant_id"), ["tenant_id"], unique=False)

    op.create_table(
        "inventory",
        sa.Column("node_id", sa.String(length=32), nullable=False),
        sa.Column("resource_class", sa.String(length=32), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("reserved", sa.Integer(), nullable=False),
        sa.Column("allocation_ratio", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["node_id"], ["node.id"], name=op.f("fk_inventory_node_id_node")),
        sa.PrimaryKeyConstraint("node_id", "resource_class", name=op.f("pk_inventory")),
    )
    op.create_table(
        "reported_domain",
        sa.Column("node_id", sa.String(length=32), nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("foreign", sa.Boolean(), nullable=False),
        sa.Column("power_state", sa.String(length=16), nullable=False),
        sa.Column("reported_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["node_id"], ["node.id"], name=op.f("fk_reported_domain_node_id_node")),
        sa.PrimaryKeyConstraint("node_id", "uuid", name=op.f("pk_reported_domain")),
    )
    op.create_table(
        "security_group",
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=127), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=True),
        sa.Column("is_default", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_security_group_tenant_id_tenant")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_security_group")),
    )
    with op.batch_alter_table("security_group", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_security_group_tenant_id"), ["tenant_id"], unique=False)

    op.create_table(
        "task_step",
        sa.Column("task_id", sa.String(length=32), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("result", sa.JSON(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["task_id"], ["task.id"], name=op.f("fk_task_step_task_id_task")),
        sa.PrimaryKeyConstraint("task_id", "seq", name=op.f("pk_task_step")),
    )
    op.create_table(
        "vpc",
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=127), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=True),
        sa.Column("cidr", sa.String(length=43), nullable=False),
        sa.Column("is_default", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_vpc_tenant_id_tenant")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_vpc")),
    )
    with op.batch_alter_table("vpc", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_vpc_tenant_id"), ["tenant_id"], unique=False)

    op.create_table(
        "instance",
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("ecs_id", sa.String(length=32), nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("department_id", sa.String(length=32), nullable=False),
        sa.Column("resource_group_id", sa.String(length=32), nullable=False),
        sa.Column("display_name", sa.String(length=127), nullable=False),
        sa.Column("host_name", sa.String(length=127), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=False),
        sa.Column("zone", sa.String(length=63), nullable=False),
        sa.Column("architecture", sa.String(length=8), nullable=False),
        sa.Column("os_type", sa.String(length=16), nullable=False),
        sa.Column("flavor_id", sa.String(), nullable=False),
        sa.Column("flavor_type_id", sa.String(), nullable=False),
        sa.Column("vcpus", sa.Integer(), nullable=False),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=False),
        sa.Column("huge_page_bytes", sa.BigInteger(), nullable=False),
        sa.Column("vcpu_type", sa.String(length=32), nullable=False),
        sa.Column("security_type", sa.String(length=8), nullable=False),
        sa.Column("image_id", sa.String(), nullable=True),
        sa.Column("image_source", sa.String(length=16), nullable=False),
        sa.Column("node_id", sa.String(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("power_state", sa.Text(), nullable=False),
        sa.Column("task_id", sa.String(length=32), nullable=True),
        sa.Column("task_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=False),
        sa.Column("is_locked", sa.Boolean(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("vmtools_status", sa.String(length=32), nullable=False),
        sa.Column("vmtools_version", sa.String(length=32), nullable=False),
        sa.Column("vmtools_probed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("password_hash", sa.String(length=255), nullable=False),
        sa.Column("ssh_public_keys", sa.JSON(), nullable=False),
        sa.Column("user_data", sa.Text(), nullable=False),
        sa.Column("vnc_password_encrypted", sa.String(length=255), nullable=False),
        sa.Column("vnc_password_enabled", sa.Boolean(), nullable=False),
        sa.Column("billing_mode", sa.String(length=16), nullable=False),
        sa.Column("order_no", sa.String(length=32), nullable=False),
        sa.Column("rp_id", sa.String(length=32), nullable=False),
        sa.Column("hg_id", sa.String(length=32), nullable=False),
        sa.Column("deployment_set", sa.String(length=32), nullable=False),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["flavor_id"], ["flavor.flavor_id"], name=op.f("fk_instance_flavor_id_flavor")),
        sa.ForeignKeyConstraint(
            ["flavor_type_id"], ["flavor_type.flavor_type_id"], name=op.f("fk_instance_flavor_type_id_flavor_type")
        ),
        sa.ForeignKeyConstraint(["image_id"], ["image.id"], name=op.f("fk_instance_image_id_image")),
        sa.ForeignKeyConstraint(["node_id"], ["node.id"], name=op.f("fk_instance_node_id_node")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_instance_tenant_id_tenant")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instance")),
        sa.UniqueConstraint("ecs_id", name=op.f("uq_instance_ecs_id")),
        sa.UniqueConstraint("uuid", name=op.f("uq_instance_uuid")),
    )
    with op.batch_alter_table("instance", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_instance_deleted_at"), ["deleted_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_instance_display_name"), ["display_name"], unique=False)
        batch_op.create_index(batch_op.f("ix_instance_flavor_id"), ["flavor_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_instance_flavor_type_id"), ["flavor_type_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_instance_node_id"), ["node_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_instance_status"), ["status"], unique=False)
        batch_op.create_index(batch_op.f("ix_instance_tenant_id"), ["tenant_id"], unique=False)

    op.create_table(
        "resource_group",
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("id", sa.String(length=19), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("department_id", sa.String(), nullable=True),
        sa.Column("name", sa.String(length=127), nullable=False),
        sa.ForeignKeyConstraint(
            ["department_id"], ["department.id"], name=op.f("fk_resource_group_department_id_department")
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_resource_group_tenant_id_tenant")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_resource_group")),
    )
    with op.batch_alter_table("resource_group", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_resource_group_tenant_id"), ["tenant_id"], unique=False)

    op.create_table(
        "subnet",
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=127), nullable=False),
        sa.Column("vpc_id", sa.String(), nullable=False),
        sa.Column("cidr", sa.String(length=43), nullable=False),
        sa.Column("gateway_ip", sa.String(length=45), nullable=False),
        sa.Column("dns_ips", sa.String(length=255), nullable=False),
        sa.Column("is_default", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["vpc_id"], ["vpc.id"], name=op.f("fk_subnet_vpc_id_vpc")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_subnet")),
    )
    with op.batch_alter_table("subnet", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_subnet_vpc_id"), ["vpc_id"], unique=False)

    op.create_table(
        "instance_label",
        sa.Column("instance_id", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(length=127), nullable=False),
        sa.Column("value", sa.String(length=127), nullable=False),
        sa.ForeignKeyConstraint(["instance_id"], ["instance.id"], name=op.f("fk_instance_label_instance_id_instance")),
        sa.PrimaryKeyConstraint("instance_id", "key", name=op.f("pk_instance_label")),
    )
    with op.batch_alter_table("instance_label", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_instance_label_value"), ["value"], unique=False)

    op.create_table(
        "port",
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=127), nullable=False),
        sa.Column("vpc_id", sa.String(), nullable=False),
        sa.Column("subnet_id", sa.String(), nullable=False),
        sa.Column("security_group_id", sa.String(), nullable=False),
        sa.Column("instance_id", sa.Integer(), nullable=True),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("mac_address", sa.String(length=17), nullable=False),
        sa.Column("ipv4_address", sa.String(length=15), nullable=False),
        sa.Column("port_type", sa.String(length=16), nullable=False),
        sa.Column("network_type", sa.String(length=16), nullable=False),
        sa.ForeignKeyConstraint(["instance_id"], ["instance.id"], name=op.f("fk_port_instance_id_instance")),
        sa.ForeignKeyConstraint(
            ["security_group_id"], ["security_group.id"], name=op.f("fk_port_security_group_id_security_group")
        ),
        sa.ForeignKeyConstraint(["subnet_id"], ["subnet.id"], name=op.f("fk_port_subnet_id_subnet")),
        sa.ForeignKeyConstraint(["vpc_id"], ["vpc.id"], name=op.f("fk_port_vpc_id_vpc")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_port")),
        sa.UniqueConstraint("mac_address", name=op.f("uq_port_mac_address")),
        sa.UniqueConstraint("subnet_id", "ipv4_address", name=op.f("uq_port_subnet_id_ipv4_address")),
        sa.UniqueConstraint("uuid", name=op.f("uq_port_uuid")),
    )
    with op.batch_alter_table("port", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_port_instance_id"), ["instance_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_port_subnet_id"), ["subnet_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_port_vpc_id"), ["vpc_id"], unique=False)

    op.create_table(
        "volume",
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=127), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("size_gib", sa.Integer(), nullable=False),
        sa.Column("volume_type", sa.String(length=32), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("instance_id", sa.Integer(), nullable=True),
        sa.Column("node_id", sa.String(), nullable=True),
        sa.Column("image_id", sa.String(), nullable=True),
        sa.Column("is_os_disk", sa.Boolean(), nullable=False),
        sa.Column("disk_bus", sa.String(length=16), nullable=False),
        sa.Column("volume_mode", sa.String(length=16), nullable=False),
        sa.Column("boot_index", sa.Integer(), nullable=False),
        sa.Column("delete_on_termination", sa.Boolean(), nullable=False),
        sa.Column("multi_attach", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["image_id"], ["image.id"], name=op.f("fk_volume_image_id_image")),
        sa.ForeignKeyConstraint(["instance_id"], ["instance.id"], name=op.f("fk_volume_instance_id_instance")),
        sa.ForeignKeyConstraint(["node_id"], ["node.id"], name=op.f("fk_volume_node_id_node")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_volume_tenant_id_tenant")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_volume")),
        sa.UniqueConstraint("uuid", name=op.f("uq_volume_uuid")),
    )
    with op.batch_alter_table("volume", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_volume_instance_id"), ["instance_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_volume_tenant_id"), ["tenant_id"], unique=False)


def downgrade() -> None:
    """Takes the schema back to the revision before."""

    with op.batch_alter_table("volume", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_volume_tenant_id"))
        batch_op.drop_index(batch_op.f("ix_volume_instance_id"))

    op.drop_table("volume")
    with op.batch_alter_table("port", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_port_vpc_id"))
        batch_op.drop_index(batch_op.f("ix_port_subnet_id"))
        batch_op.drop_index(batch_op.f("ix_port_instance_id"))

    op.drop_table("port")
    with op.batch_alter_table("instance_label", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_instance_label_value"))

    op.drop_table("instance_label")
    with op.batch_alter_table("subnet", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_subnet_vpc_id"))

    op.drop_table("subnet")
    with op.batch_alter_table("resource_group", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_resource_group_tenant_id"))

    op.drop_table("resource_group")
    with op.batch_alter_table("instance", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_instance_tenant_id"))
        batch_op.drop_index(batch_op.f("ix_instance_status"))
        batch_op.drop_index(batch_op.f("ix_instance_node_id"))
        batch_op.drop_index(batch_op.f("ix_instance_flavor_type_id"))
        batch_op.drop_index(batch_op.f("ix_instance_flavor_id"))
        batch_op.drop_index(batch_op.f("ix_instance_display_name"))
        batch_op.drop_index(batch_op.f("ix_instance_deleted_at"))

    op.drop_table("instance")
    with op.batch_alter_table("vpc", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_vpc_tenant_id"))

    op.drop_table("vpc")
    op.drop_table("task_step")
    with op.batch_alter_table("security_group", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_security_group_tenant_id"))

    op.drop_table("security_group")
    op.drop_table("reported_domain")
    op.drop_table("inventory")
    with op.batch_alter_table("image", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_image_tenant_id"))
        batch_op.drop_index(batch_op.f("ix_image_name"))

    op.drop_table("image")
    with op.batch_alter_table("flavor", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_flavor_flavor_type_id_name",
            sqlite_where=sa.text("deleted_at IS NULL"),
            postgresql_where=sa.text("deleted_at IS NULL"),
        )
        batch_op.drop_index(batch_op.f("ix_flavor_flavor_type_id"))

    op.drop_table("flavor")
    with op.batch_alter_table("department", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_department_tenant_id"))

    op.drop_table("department")
    with op.batch_alter_table("api_token", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_api_token_tenant_id"))

    op.drop_table("api_token")
    with op.batch_alter_table("allocation", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_allocation_node_id"))

    op.drop_table("allocation")
    op.drop_table("tenant")
    with op.batch_alter_table("task", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_task_tenant_id"))
        batch_op.drop_index(batch_op.f("ix_task_state"))
        batch_op.drop_index(batch_op.f("ix_task_resource_id"))
        batch_op.drop_index(batch_op.f("ix_task_kind"))

    op.drop_table("task")
    with op.batch_alter_table("node", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_node_zone"))
        batch_op.drop_index(batch_op.f("ix_node_name"))

    op.drop_table("node")
    with op.batch_alter_table("idempotency_key", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_idempotency_key_created_at"))

    op.drop_table("idempotency_key")
    with op.batch_alter_table("flavor_type", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_flavor_type_name",
            sqlite_where=sa.text("deleted_at IS NULL"),
            postgresql_where=sa.text("deleted_at IS NULL"),
        )

    op.drop_table("flavor_type")
    op.drop_table("enrolment_token")
