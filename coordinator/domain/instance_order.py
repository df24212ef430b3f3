"""What a caller asks for when it orders instances: parsed, in our units, not yet checked against the cloud."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from coordinator.domain.device_order import DeviceOrder

# Among an instance's options: the id of the instance that it is a clone of.
CLONED_FROM: Final = "clonedFrom"


@dataclass(frozen=True, slots=True)
class VolumeOrder:
    """One disk. A boot index of 0 means that none was asked for."""

    size_gib: int
    volume_type: str
    disk_bus: str = "virtio"
    volume_mode: str = "Block"
    boot_index: int = 0
    delete_on_termination: bool = False
    is_os_disk: bool = False
    # Snapshot whose system disk it is a copy of, by id or number; empty: none.
    snapshot_id: str = ""


@dataclass(frozen=True, slots=True)
class NetworkOrder:
    """One network interface; empty addresses are chosen by the coordinator."""

    vpc_id: str
    subnet_id: str
    index: int | None = None
    fixed_ip: str = ""
    mac_address: str = ""
    port_type: str = "Primary"
    ip_type: str = "dhcp"
    network_type: str = "Geneve"
    security_group_ids: tuple[str, ...] = ()

    @property
    def sort_key(self) -> tuple[bool, int]:
        """The primary interface first, then as indexed, then as listed."""
        return self.port_type != "Primary", self.index if self.index is not None else 1 << 31


@dataclass(frozen=True, slots=True)
class Label:
    """A key and value attached to an instance."""

    key: str
    value: str


@dataclass(frozen=True, slots=True)
class InstanceOrder:
    """`count` alike instances. Empty strings and zeros mean "not given"."""

    tenant_id: str
    department_id: str
    region: str
    zone: str
    display_name: str
    cpu_count: int
    memory_amount: str
    architecture: str
    volumes: tuple[VolumeOrder, ...]
    networks: tuple[NetworkOrder, ...]
    security_group_ids: tuple[str, ...]
    count: int = 1
    resource_group_id: str = ""
    node_id: str = ""
    host_name: str = ""
    description: str = ""
    flavor_id: str = ""
    # Resource pool in which it shall be placed; empty: where its flavor says.
    pool_id: str = ""
    # Host group whose hosts it shall run on; empty: hosts of no group.
    host_group_id: str = ""
    # Deployment set that it joins; empty: none.
    deployment_set: str = ""
    # Size of the huge pages behind the memory, such as 2Mi; empty: ordinary pages.
    huge_page: str = ""
    image_id: str = ""
    image_url: str = ""
    image_source: str = ""
    os_type: str = ""
    password: str = field(default="", repr=False)
    vnc_password: str = field(default="", repr=False)
    user_data: str = field(default="", repr=False)
    ssh_public_keys: tuple[str, ...] = ()
    # A stored key of the tenant, by id or by name; empty: none.
    key_pair_id: str = ""
    key_pair_name: str = ""
    labels: tuple[Label, ...] = ()
    billing_mode: str = "OnDemand"
    cycle_count: int = 0
    checks_quota: bool = True
    # Started elsewhere when its node is lost.
    ha_enabled: bool = False
    devices: DeviceOrder = field(default_factory=DeviceOrder)
    # Answered as given: bOperate, bCreateOrder, bUpdateQuotas.
    options: Mapping[str, Any] = field(default_factory=dict)
    # API names of fields that ask for something that this cluster cannot do yet.
    unavailable_fields: tuple[str, ...] = ()
