"""All tables; importing this package fills `SQLModel.metadata`."""

from coordinator.store.tables.backup import VolumeBackup
from coordinator.store.tables.bmc import Bmc
from coordinator.store.tables.credential import ApiToken, EnrolmentToken
from coordinator.store.tables.deployment_set import DeploymentSet
from coordinator.store.tables.device import CellAllocation, Device, DeviceAllocation
from coordinator.store.tables.event import AuditRecord, Event, Webhook
from coordinator.store.tables.flavor import Flavor, FlavorType
from coordinator.store.tables.host_group import GroupHost, HostGroup
from coordinator.store.tables.image import Image
from coordinator.store.tables.instance import Instance, InstanceLabel
from coordinator.store.tables.interruption import Interruption
from coordinator.store.tables.iso import IsoAttachment
from coordinator.store.tables.launch_template import LaunchTemplate, LaunchTemplateVersion
from coordinator.store.tables.migration import Migration
from coordinator.store.tables.network import Port, SecurityGroup, Subnet, Vpc
from coordinator.store.tables.node import Allocation, Inventory, Node, ReportedDomain
from coordinator.store.tables.overcommit import CpuOvercommit
from coordinator.store.tables.placement import PlacementRecord
from coordinator.store.tables.recycle import RecycledInstance
from coordinator.store.tables.region_setting import RegionSetting
from coordinator.store.tables.resource_pool import PoolHost, ResourcePool
from coordinator.store.tables.schedule import Schedule, ScheduleRun
from coordinator.store.tables.snapshot import Snapshot, VolumeSnapshot
from coordinator.store.tables.snapshot_policy import SnapshotPolicy, SnapshotPolicyBinding
from coordinator.store.tables.ssh_key import SshKey, SshKeyBinding
from coordinator.store.tables.storage import SpaceReservation, StoragePool
from coordinator.store.tables.task import IdempotencyKey, Task, TaskStep
from coordinator.store.tables.tenancy import Department, ResourceGroup, Tenant
from coordinator.store.tables.volume import Volume, VolumeAttachment

__all__ = [
    "Allocation",
    "ApiToken",
    "AuditRecord",
    "Bmc",
    "CellAllocation",
    "CpuOvercommit",
    "Department",
    "DeploymentSet",
    "Device",
    "DeviceAllocation",
    "EnrolmentToken",
    "Event",
    "Flavor",
    "FlavorType",
    "GroupHost",
    "HostGroup",
    "IdempotencyKey",
    "Image",
    "Instance",
    "InstanceLabel",
    "Interruption",
    "Inventory",
    "IsoAttachment",
    "LaunchTemplate",
    "LaunchTemplateVersion",
    "Migration",
    "Node",
    "PlacementRecord",
    "PoolHost",
    "Port",
    "RecycledInstance",
    "RegionSetting",
    "ReportedDomain",
    "ResourceGroup",
    "ResourcePool",
    "Schedule",
    "ScheduleRun",
    "SecurityGroup",
    "Snapshot",
    "SnapshotPolicy",
    "SnapshotPolicyBinding",
    "SpaceReservation",
    "SshKey",
    "SshKeyBinding",
    "StoragePool",
    "Subnet",
    "Task",
    "TaskStep",
    "Tenant",
    "Volume",
    "VolumeAttachment",
    "VolumeBackup",
    "VolumeSnapshot",
    "Vpc",
    "Webhook",
]
