"""What callers send about instances."""

from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BeforeValidator, Field

from coordinator.api.schemas.base import LenientModel
from coordinator.domain.device_order import DeviceOrder, InfinibandOrder
from coordinator.domain.instance_order import InstanceOrder, Label, NetworkOrder, VolumeOrder

Text = Annotated[str, Field(max_length=1024)]


Texts = list[Text]


class MemoryRequest(LenientModel):
    """Memory of an instance."""

    amount: Text = Field(default="", description="Amount with its unit; the flavor's unless given.", examples=["4Gi"])
    huge_page: Text = Field(default="", description="Size of huge pages; empty: ordinary pages.")


class BatchMemoryRequest(MemoryRequest):
    """Memory of each instance of a batch, which does not come from the flavor."""

    amount: Text = Field(min_length=1, description="Amount with its unit.", examples=["4Gi"])


def _spell(value: Any) -> Any:
    """Numbers of snapshots are written as numbers."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class ImageRequest(LenientModel):
    """The image of the system disk: by id, or by the URL that it is known under."""

    image_uid: Text = Field(default="", description="Id of the image.", examples=["img-q4m8z2x7c1v9b3"])
    url: Text = Field(default="", description="URL of the image's file; used when no id is given.")


class VolumeRequest(LenientModel):
    """A disk of an instance."""

    boot_index: int | None = Field(default=None, description="1 boots first; absent: not bootable.", examples=[1])
    volume_size: int = Field(description="Size, GiB.", examples=[20])
    volume_type: Text = Field(description="Storage class.", examples=["ssd"])
    disk_bus: Text = Field(default="virtio", description="virtio, scsi or sata.")
    volume_mode: Text = Field(default="Block", description="Block or Filesystem.")
    delete_on_termination: bool = Field(default=False, description="Deleted together with the instance.")
    is_os_disk: bool = Field(default=False, description="The system disk, made from the image; exactly one is.")
    os_snapshot_id: Annotated[str, BeforeValidator(_spell, json_schema_input_type=str | int)] = Field(
        default="", max_length=64, description="Snapshot whose system disk it becomes a copy of, by id or number."
    )

    def to_order(self) -> VolumeOrder:
        """The same in our words."""
        return VolumeOrder(
            size_gib=self.volume_size,
            volume_type=self.volume_type,
            disk_bus=self.disk_bus or "virtio",
            volume_mode=self.volume_mode or "Block",
            boot_index=self.boot_index or 0,
            delete_on_termination=self.delete_on_termination,
            is_os_disk=self.is_os_disk,
            snapshot_id="" if self.os_snapshot_id == "0" else self.os_snapshot_id,
        )


class NetworkRequest(LenientModel):
    """A network interface of an instance."""

    index: int | None = Field(default=None, description="Place among the interfaces.")
    vpc_id: Text = Field(description="Network.", examples=["vpc-00000000000000000000"])
    subnet_id: Text = Field(description="Subnet of that network.", examples=["snet-00000000000000000000"])
    port_id: Text = Field(default="", description="Port made before; not available yet.")
    fixed_ip: Text = Field(default="", description="Address within the subnet; any free one unless given.")
    mac_address: Text = Field(
        default="",
        validation_alias=AliasChoices("macAddress", "macAddr"),
        description="MAC address; a new one unless given.",
    )
    ipv6_enabled: bool = Field(default=False, description="Not available yet.")
    ipv6_addr: Text = Field(default="", description="Not available yet.")
    qos_policy_id: Text = Field(default="", description="Not available yet.")
    security_group_list: Texts = Field(
        default_factory=list,
        validation_alias=AliasChoices("securityGroupList", "secGroupList"),
        description="Its security group, if another than the instance's.",
    )
    port_type: Text = Field(default="Primary", description="Primary or Extend.")
    ip_type: Text = Field(default="dhcp", description="dhcp or fixedIp.")
    network_type: Text = Field(
        default="Geneve",
        description="Geneve, VLAN or Flat; IBNic: an InfiniBand adapter of the node, whatever the subnet.",
    )
    vendor_id: Text = Field(default="", description="With IBNic: PCI id of the vendor.", examples=["15b3"])
    product_id: Text = Field(default="", description="With IBNic: PCI id of the adapter.", examples=["1021"])

    @property
    def is_infiniband(self) -> bool:
        """Whether a device is asked for, and no port."""
        return self.network_type == "IBNic"

    def to_order(self) -> NetworkOrder:
        """The same in our words."""
        return NetworkOrder(
            vpc_id=self.vpc_id,
            subnet_id=self.subnet_id,
            index=self.index,
            fixed_ip=self.fixed_ip,
            mac_address=self.mac_address,
            port_type=self.port_type or "Primary",
            ip_type=self.ip_type or "dhcp",
            network_type=self.network_type or "Geneve",
            security_group_ids=tuple(filter(None, self.security_group_list)),
        )

    @property
    def unavailable(self) -> dict[str, object]:
        """Fields that ask for something, where that is more than this cluster can do."""
        return {
            "portId": self.port_id,
            "ipv6Enabled": self.ipv6_enabled,
            "ipv6Addr": self.ipv6_addr,
            "qosPolicyId": self.qos_policy_id,
        }


class LabelRequest(LenientModel):
    """A label."""

    key: Text = Field(description="1 to 127 characters.", examples=["team"])
    value: Text = Field(default="", description="At most 127 characters.", examples=["storage"])

    def to_label(self) -> Label:
        """The same in our words."""
        return Label(self.key, self.value)


class ReplacedLabelRequest(LabelRequest):
    """A label that takes the place of those from before."""

    value: Text = Field(description="At most 127 characters.", examples=["storage"])


class HostGpusRequest(LenientModel):
    """Whole GPUs."""

    gpu_type: Text = Field(default="", description="PCI id of vendor and device.", examples=["10de1eb8"])
    number: int = Field(default=0, ge=0, le=64, description="How many.")


class CreateInstanceRequest(LenientModel):
    """What an instance shall be."""

    tenant_id: Text = Field(description="Tenant that it belongs to.", examples=["4611686018427387904"])
    department_id: Text = Field(description="Department that it is charged to.", examples=["4611686018427387905"])
    resource_group_id: Text = Field(default="", description="Resource group of the tenant.")
    region: Text = Field(description="Region; this one.", examples=["region0"])
    az: Text = Field(description="Zone.", examples=["AZ0"])
    host_id: Text = Field(default="", description="Node that it must run on.")
    host_name: Text = Field(default="", description="Host name in the guest; the display name unless given.")
    display_name: str = Field(description="1 to 127 characters.", examples=["web"])
    description: str = Field(default="", description="At most 255 characters.")
    arch_type: Text = Field(description="x86 or arm.", examples=["x86"])
    flavor_id: Text = Field(default="", description="Flavor; without one, a flavor of just this size is taken.")
    cpus: int = Field(description="vCPUs; those of the flavor, unless it is a custom one.", examples=[2])
    memory: MemoryRequest = Field(description="Memory; as for the vCPUs.")
    image: ImageRequest = Field(
        default_factory=ImageRequest, description="Image of the system disk; a snapshot brings its own."
    )
    image_source: str = Field(default="", max_length=16, description="Answered as given.")
    os_type: Text = Field(default="", description="linux or windows; the image's unless given.")
    volumes: list[VolumeRequest] = Field(description="Disks.")
    networks: list[NetworkRequest] = Field(description="Network interfaces.")
    security_group_list: Texts = Field(
        default_factory=list, validation_alias="secGroupList", description="Security group of the interfaces."
    )
    password: str = Field(default="", max_length=1024, description="Of the guest's default user; none unless given.")
    ssh_public_keys: Texts = Field(default_factory=list, description="Keys that may log in, in OpenSSH's form.")
    user_data: str = Field(default="", description="cloud-config or script, base64; at most 32 KiB decoded.")
    vnc_password: str = Field(default="", max_length=1024, description="At most 8 characters; random unless given.")
    vm_labels: list[LabelRequest] = Field(default_factory=list, description="At most five labels.")
    billing_mode: Text = Field(default="OnDemand", description="OnDemand or ByCycle.")
    cycle_count: int = Field(default=0, description="Cycles paid for; needed with ByCycle.")
    b_operate: bool | None = Field(default=None, description="Answered as given.")
    b_create_order: bool | None = Field(default=None, description="Answered as given.")
    b_update_quotas: bool | None = Field(
        default=None, description="False, from an operator: the tenant's quotas do not count."
    )
    gpus: int = Field(default=0, ge=0, le=64, description="Whole GPUs; as the flavor has, unless it is a custom one.")
    host_gpus: HostGpusRequest | None = Field(default=None, description="The same, with their model.")
    vgpu: int = Field(default=0, ge=0, le=64, description="vGPUs; as the flavor has, of as many GPUs as have room.")
    local_disk: int = Field(default=0, ge=0, le=64, description="Local disks, if more than the flavor has.")
    sriov: int = Field(default=0, ge=0, le=64, description="Virtual functions of network cards, if more likewise.")
    key_pair_id: Text = Field(default="", description="Stored SSH key that may log in.")
    key_pair_name: Text = Field(default="", description="The same by its name; used when no id is given.")
    deployment_set: Text = Field(default="", description="Id of the deployment set to join.")
    hg_id: Text = Field(default="", description="Host group to run in; without one, hosts of groups are left out.")
    rp_id: Text = Field(default="", description="Resource pool to place it in; one of the flavor's, if that is bound.")
    is_install_agent: bool = Field(default=False, description="Not available yet.")
    cwp_enable: bool = Field(default=False, description="Not available yet.")
    eviction_strategy: Literal["LiveMigrate", "None", ""] = Field(
        default="", description="None: it stays when its node is to be empty; else it moves."
    )
    ha_priority: int = Field(default=0, ge=0, le=100, description="Of what a lost node had the highest comes first.")
    ha_enabled: bool = Field(default=False, description="Started elsewhere when its node is lost; off unless given.")

    def to_order(self, count: int = 1) -> InstanceOrder:
        """The same in our words."""
        return InstanceOrder(
            tenant_id=self.tenant_id,
            department_id=self.department_id,
            resource_group_id=self.resource_group_id,
            region=self.region,
            zone=self.az,
            node_id=self.host_id,
            host_name=self.host_name,
            display_name=self.display_name,
            description=self.description,
            architecture=self.arch_type,
            flavor_id=self.flavor_id,
            pool_id=self.rp_id,
            host_group_id=self.hg_id,
            deployment_set=self.deployment_set,
            cpu_count=self.cpus,
            memory_amount=self.memory.amount,
            image_id=self.image.image_uid,
            image_url=self.image.url,
            image_source=self.image_source,
            os_type=self.os_type,
            volumes=tuple(volume.to_order() for volume in self.volumes),
            networks=tuple(network.to_order() for network in self.networks if not network.is_infiniband),
            devices=self._devices,
            security_group_ids=tuple(filter(None, self.security_group_list)),
            password=self.password,
            ssh_public_keys=tuple(filter(None, (key.strip() for key in self.ssh_public_keys))),
            key_pair_id=self.key_pair_id,
            key_pair_name=self.key_pair_name,
            user_data=self.user_data,
            vnc_password=self.vnc_password,
            labels=tuple(label.to_label() for label in self.vm_labels),
            billing_mode=self.billing_mode or "OnDemand",
            cycle_count=self.cycle_count,
            count=count,
            checks_quota=self.b_update_quotas is not False,
            options=self._options,
            ha_enabled=self.ha_enabled,
            huge_page=self.memory.huge_page,
            unavailable_fields=self._unavailable_fields,
        )

    @property
    def _devices(self) -> DeviceOrder:
        named = self.host_gpus or HostGpusRequest()
        adapters = [network for network in self.networks if network.is_infiniband]
        return DeviceOrder(
            gpus=self.gpus or named.number,
            gpu_type=named.gpu_type.strip().lower(),
            vgpus=self.vgpu,
            local_disks=self.local_disk,
            functions=self.sriov,
            infiniband=tuple(InfinibandOrder(it.vendor_id.lower(), it.product_id.lower()) for it in adapters),
        )

    @property
    def _options(self) -> dict[str, object]:
        given = {
            "bOperate": self.b_operate,
            "bCreateOrder": self.b_create_order,
            "bUpdateQuotas": self.b_update_quotas,
            "cycleCount": self.cycle_count or None,
            "evictionStrategy": self.eviction_strategy or None,
            "haPriority": self.ha_priority or None,
        }
        return {name: value for name, value in given.items() if value is not None}

    @property
    def _unavailable_fields(self) -> tuple[str, ...]:
        """Names of the fields that ask for what this cluster cannot do yet: better refused than ignored."""
        asked: dict[str, object] = {
            "isInstallAgent": self.is_install_agent,
            "cwpEnable": self.cwp_enable,
        }
        for position, network in enumerate(self.networks):
            asked |= {f"networks[{position}].{name}": value for name, value in network.unavailable.items()}
        return tuple(name for name, value in asked.items() if value)


class BatchCreateInstancesRequest(CreateInstanceRequest):
    """What several alike instances shall be."""

    memory: BatchMemoryRequest = Field(description="Memory; that of the flavor, unless it is a custom one.")
    ecs_count: int | None = Field(default=None, description="How many, 1 to 50; one unless given.", examples=[1])


class InstanceIdsRequest(LenientModel):
    """Several instances."""

    ecs_ids: Texts = Field(description="Ids of instances.", examples=[["ecs-k8d2n5s7a1f4g6"]])


class StopRequest(LenientModel):
    """How to stop or restart."""

    grace_period_seconds: int | None = Field(
        default=None,
        description="0: at once, by force. Anything else: the guest is asked, and never forced.",
        examples=[1],
    )

    @property
    def force(self) -> bool:
        """Whether the guest is not asked."""
        return self.grace_period_seconds == 0


class BatchStopRequest(InstanceIdsRequest, StopRequest):
    """Several instances, and how to stop or restart them."""


class LockRequest(LenientModel):
    """Lock or unlock."""

    is_lock: bool = Field(description="True locks.")


class RenameRequest(LenientModel):
    """A new name."""

    display_name: str = Field(
        validation_alias=AliasChoices("displayname", "displayName"), description="1 to 127 characters."
    )


class DescriptionRequest(LenientModel):
    """A new description."""

    description: str = Field(description="At most 255 characters.")


class GuestCommandRequest(LenientModel):
    """A command for the guest agent."""

    qga_command: str | dict[str, Any] = Field(
        description="A command of the QEMU guest agent, with its arguments.",
        examples=[{"execute": "guest-info"}],
    )


class ResetPasswordRequest(LenientModel):
    """A new password."""

    user: str = Field(
        default="", max_length=32, description="Account in the guest; empty: the VNC password.", examples=["root"]
    )
    password: str = Field(min_length=1, max_length=1024, description="The new password.", examples=["Example,2026"])


class HostNameRequest(LenientModel):
    """A new host name."""

    hostname: str = Field(min_length=1, max_length=63, description="Letters, digits and hyphens.", examples=["web-1"])
