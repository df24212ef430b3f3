"""Instances on the wire.

The parts of an instance are in `instance_part`, its devices in `instance_device`. What this cluster does not have yet
(ISO images, elastic IPs, …) is answered as none of it, so that callers find every field that they know.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from pydantic import Field

from coordinator.api.schemas.base import AnswerModel, Moment
from coordinator.api.schemas.instance_device import InstanceDeviceBodies
from coordinator.api.schemas.instance_flavor import FlavorBodies, InstanceFlavorBody, InstanceFlavorInfoBody
from coordinator.api.schemas.instance_part import (
    BlockDeviceBody,
    BoundPolicyBody,
    InstanceImageBody,
    InstanceKeyBody,
    LabelBody,
    NetworkBody,
    VmtoolsBody,
)
from coordinator.domain.device import DeviceKind
from coordinator.services.instance_view import InstanceView
from coordinator.store.queries.instance_view import InstanceRow
from coordinator.vmtools_iso import MONITOR_VERSION


class InstanceBody(InstanceDeviceBodies):
    """A virtual machine."""

    created_at: Moment
    updated_at: Moment
    deleted_at: None = None
    expired_at: Moment = Field(description="When it is deleted for good, in the recycle bin; else never.")
    expire_countdown: int = Field(description="Seconds until then; 0: never, or any moment.")
    id: int
    image_id: str
    image_url: str = Field(description="Where the image's file can be fetched.")
    image_source: str
    ram: int = Field(description="Memory, bytes.", examples=[4294967296])
    huge_page_size: str | None = Field(description="Size of the huge pages behind the memory; null: ordinary pages.")
    v_cpus: int
    display_name: str
    description: str
    ecs_id: str = Field(examples=["ecs-k8d2n5s7a1f4g6"])
    host_name: str = Field(description="Host name in the guest.")
    password: str = Field(default="", description="Always empty: passwords are not kept.")
    tenant_id: str
    tenant_name: str
    node_name: str = Field(description="Node that it is on; empty without one.")
    region: str
    az: str
    cell: str
    cpu_arch: str
    os_type: str
    status: str = Field(examples=["Running"])
    task_status: str = Field(description="What the running operation makes of it; else the status.")
    task_at: Moment
    flavor_id: str
    flavor_info: InstanceFlavorInfoBody
    billing_mode: str
    order_no: str
    hard_deleted_at: None = None
    soft_deleted_at: Moment | None = Field(description="Since when it is in the recycle bin; null: it is not.")
    block_device_mappings: list[BlockDeviceBody]
    network_mappings: list[NetworkBody]
    eip_mappings: list[dict[str, str]] = Field(default_factory=list)
    err_message: str = Field(description="What is wrong with it, or why its operation does not get on.")
    error_message: str = Field(description="The same as errMessage.")
    department_id: str
    resource_group_id: str
    department_name: str
    resource_group_name: str
    flavor: InstanceFlavorBody
    ssh_key_pairs: list[InstanceKeyBody] = Field(alias="SSHKeyPairs", description="SSH keys that open it.")
    image: InstanceImageBody | None
    hg_id: str
    hg_name: str
    vnc_pwd_enable: bool = Field(description="Whether the caller chose the VNC password.")
    deployment_set: str
    snapshot_policy_bind: BoundPolicyBody | None = Field(description="The snapshot policy that it is bound to.")
    b_operate: bool
    b_create_order: bool
    b_update_quotas: bool
    is_mounted_iso: bool = Field(alias="isMountedISO", description="Whether an ISO image is in one of its drives.")
    ha_enabled: bool = Field(description="Whether it is started elsewhere when its node dies.")
    b_recycle: bool = Field(description="Whether a deleted one goes to the recycle bin first.")
    vmtools_status: VmtoolsBody
    rp_id: str
    rp_name: str
    label_id: str = ""
    vm_labels: list[LabelBody] | None
    is_lock: bool
    cwp_enable: bool = False
    is_dedicated_cpu: bool = Field(alias="isDedicatedCPU")
    is_dedicated_mem: bool
    vcpu_type: str
    cpu_exceed_ratio: float
    eviction_strategy: str = Field(description="LiveMigrate: it moves when its node is to be empty; None: it does not.")
    namespace: str
    process_instance_id: str = ""
    is_installed_agent: bool = Field(description="Whether the monitoring helper of the tools' disc runs in the guest.")
    monitor_agent_version: str = Field(alias="monitor_agent_version", description="Of that helper; empty: none runs.")
    need_upgrade_agent: bool = Field(description="Whether the tools' disc has a newer one.")
    is_visible: bool = True

    @classmethod
    def of(cls, view: InstanceView) -> "InstanceBody":
        """The instance as callers see it."""
        return cls._of(view, FlavorBodies())

    @classmethod
    def list_of(cls, views: Iterable[InstanceView]) -> "list[InstanceBody]":
        """Many of them."""
        flavors = FlavorBodies()
        return [cls._of(view, flavors) for view in views]

    @classmethod
    def _of(cls, view: InstanceView, flavors: FlavorBodies) -> "InstanceBody":
        return cls(**cls.values_of(view, flavors))

    @classmethod
    def values_of(cls, view: InstanceView, flavors: FlavorBodies) -> dict[str, Any]:
        """The values of its fields, by their names."""
        row, flavor_type = view.instance, view.flavor_type
        pool = view.pools.get(row.rp_id)
        flavor_info, flavor = flavors.of(view.flavor, flavor_type, view.pools)
        return dict(
            **{name: getattr(row, name) for name in _COPIED},
            **InstanceDeviceBodies.fields_of(view),
            **_fields_of_life(view),
            **_fields_of_monitor(row),
            ram=row.memory_bytes,
            huge_page_size=str(row.huge_page_bytes) if row.huge_page_bytes else None,
            v_cpus=row.vcpus,
            az=row.zone,
            cpu_arch=row.architecture,
            is_lock=row.is_locked,
            is_mounted_iso=row.has_iso,
            rp_name=pool.name if pool else "",
            hg_name=row.host_group_name or "",
            image_id=row.image_id or "",
            image_url=view.image_url,
            tenant_name=row.tenant_name,
            node_name=row.node_name or "",
            region=view.region,
            cell=view.cell,
            task_status=view.task_status,
            flavor_info=flavor_info,
            flavor=flavor,
            block_device_mappings=[
                *(BlockDeviceBody.of(volume, row.ecs_id) for volume in view.volumes),
                *(BlockDeviceBody.of_local(disk, row) for disk in view.devices if disk.device.kind == DeviceKind.DISK),
            ],
            network_mappings=[NetworkBody.of(place, row.ecs_id) for place in view.ports],
            err_message=view.error_message,
            error_message=view.error_message,
            department_name=row.department_name or "",
            resource_group_name=row.resource_group_name or "",
            image=InstanceImageBody.of(view.image) if view.image else None,
            vnc_pwd_enable=row.vnc_password_enabled,
            snapshot_policy_bind=BoundPolicyBody.of(row),
            b_recycle=view.recycles,
            vmtools_status=VmtoolsBody.of(row),
            vm_labels=[LabelBody(key=label.key, value=label.value) for label in view.labels] or None,
            is_dedicated_cpu=flavor_type.is_dedicated_cpu,
            is_dedicated_mem=flavor_type.is_dedicated_mem,
            cpu_exceed_ratio=view.cpu_exceed_ratio,
            ssh_key_pairs=[InstanceKeyBody.of(key) for key in view.keys],
            namespace=f"tenant-{row.tenant_id}",
        )


def _fields_of_life(view: InstanceView) -> dict[str, Any]:
    """What its owner allows, and when it goes."""
    row = view.instance
    return {
        "b_operate": row.options.get("bOperate", True),
        "b_create_order": row.options.get("bCreateOrder", False),
        "b_update_quotas": row.options.get("bUpdateQuotas", True),
        "eviction_strategy": row.options.get("evictionStrategy", "LiveMigrate"),
        "soft_deleted_at": row.recycled_at,
        "expired_at": row.purge_at,
        "expire_countdown": _seconds_between(view.at, row.purge_at),
    }


def _fields_of_monitor(row: InstanceRow) -> dict[str, Any]:
    """What is known of the monitoring helper in the guest."""
    return {
        "is_installed_agent": row.monitor_version > 0,
        "monitor_agent_version": str(row.monitor_version or ""),
        "need_upgrade_agent": 0 < row.monitor_version < MONITOR_VERSION,
    }


def _seconds_between(now: datetime, then: datetime | None) -> int:
    return max(round((then - now).total_seconds()), 0) if then else 0


# Columns that are answered under their own names.
_COPIED = {
    "id",
    "ecs_id",
    "created_at",
    "updated_at",
    "image_source",
    "display_name",
    "description",
    "ha_enabled",
    "host_name",
    "tenant_id",
    "os_type",
    "status",
    "task_at",
    "flavor_id",
    "billing_mode",
    "order_no",
    "department_id",
    "resource_group_id",
    "hg_id",
    "deployment_set",
    "rp_id",
    "vcpu_type",
}


class InstanceListBody(AnswerModel):
    """One page of instances."""

    total_count: int = Field(description="On all pages together.")
    virtual_machines: list[InstanceBody]
