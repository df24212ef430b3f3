"""Disks, network interfaces, image, labels and guest agent of an instance on the wire."""

from pydantic import Field
from pydantic.alias_generators import to_camel

from coordinator.api.schemas.base import AnswerModel, Moment
from coordinator.domain.device import DeviceState
from coordinator.domain.unit import GIB
from coordinator.services.device import DeviceView
from coordinator.store.queries.instance_view import InstanceRow, KeyRow, PortPlace, VolumeRow
from coordinator.store.tables import Image


class BlockDeviceBody(AnswerModel):
    """A disk of an instance."""

    created_at: Moment
    updated_at: Moment
    deleted_at: None = None
    name: str
    volume_id: str = Field(description="Number of the volume.", examples=["7"])
    volume_uuid: str = Field(examples=["volume-3f1d2c54-8a39-4f0e-9f7c-5b8f4f3b2a10"])
    volume_size: int = Field(description="GiB.")
    volume_type: str
    disk_bus: str
    volume_mode: str
    status: str
    tenant_id: str
    ecs_id: str
    is_os_disk: bool = Field(alias="isOSDisk")
    delete_on_termination: bool
    boot_index: int
    source_volume_id: int = 0
    multi_attach: bool
    volume_image_id: str
    local_disk_size: int = Field(default=0, description="Of a local disk, bytes; 0: it is a volume.")

    @classmethod
    def of(cls, volume: VolumeRow, ecs_id: str) -> "BlockDeviceBody":
        return cls(
            **{name: getattr(volume, name) for name in _VOLUME_COLUMNS},
            volume_id=str(volume.id),
            volume_uuid=f"volume-{volume.uuid}",
            volume_size=volume.size_gib,
            volume_image_id=volume.image_id or "",
            ecs_id=ecs_id,
        )

    @classmethod
    def of_local(cls, view: DeviceView, instance: InstanceRow) -> "BlockDeviceBody":
        """A local disk, which is no volume: it has no number and no UUID."""
        return cls(
            created_at=instance.created_at,
            updated_at=instance.updated_at,
            name=view.device.id,
            volume_id="",
            volume_uuid="",
            volume_size=view.device.size_bytes // GIB,
            volume_type="localDisk",
            disk_bus="scsi",
            volume_mode="Block",
            status="inUse" if view.state is DeviceState.USED else view.state.value,
            tenant_id=instance.tenant_id,
            ecs_id=instance.ecs_id,
            is_os_disk=False,
            delete_on_termination=False,
            boot_index=0,
            multi_attach=False,
            volume_image_id="",
            local_disk_size=view.device.size_bytes,
        )


_VOLUME_COLUMNS = {
    "created_at",
    "updated_at",
    "name",
    "volume_type",
    "disk_bus",
    "volume_mode",
    "status",
    "tenant_id",
    "is_os_disk",
    "delete_on_termination",
    "boot_index",
    "multi_attach",
}


class NetworkBody(AnswerModel):
    """A network interface of an instance; what callers know under two spellings is answered under both."""

    vpc_id: str
    subnet_id: str
    port_id: str
    port_name: str
    ipv4_address: str
    mac_address: str
    uuid: str
    ecs_id: str
    ipv6_enabled: bool = False
    ipv6_address: str = ""
    ipv4_subsidiary_counts: int = 0
    ipv6_subsidiary_counts: int = 0
    ipv4_subsidiary_addresses: str = ""
    ipv6_subsidiary_addresses: str = ""
    dns_list: str
    port_type: str
    delete_on_termination: bool = True
    sec_groups: str = Field(description="Name and id of the security group.")
    sec_group_spec: str = Field(description="Id of the security group.")
    port_product_type: str = ""
    port_security_enable: bool = False
    subnet_cidr: str
    vpc_name: str
    subnet_name: str
    network_type: str
    nic_name: str = ""
    intranet_bw_max: int = Field(default=0, alias="intranetBWMax")
    delete_on_termination_snake: bool = Field(default=True, alias="delete_on_termination")
    dns_list_snake: str = Field(alias="dns_list")
    ipv4_address_snake: str = Field(alias="ipv4_address")
    ipv4_subsidary_addresses_snake: str = Field(default="", alias="ipv4_subsidary_addresses")
    ipv4_subsidary_counts_snake: int = Field(default=0, alias="ipv4_subsidary_counts")
    ipv6_address_snake: str = Field(default="", alias="ipv6_address")
    ipv6_enabled_snake: bool = Field(default=False, alias="ipv6_enabled")
    ipv6_subsidary_addresses_snake: str = Field(default="", alias="ipv6_subsidary_addresses")
    ipv6_subsidary_counts_snake: int = Field(default=0, alias="ipv6_subsidary_counts")
    mac_address_snake: str = Field(alias="mac_address")
    port_id_snake: str = Field(alias="port_id")
    port_name_snake: str = Field(alias="port_name")
    port_security_enable_snake: bool = Field(default=False, alias="port_security_enable")
    port_type_snake: str = Field(alias="port_type")
    subnet_id_snake: str = Field(alias="subnet_id")
    vpc_id_snake: str = Field(alias="vpc_id")

    @classmethod
    def of(cls, place: PortPlace, ecs_id: str) -> "NetworkBody":
        return cls.model_validate(
            {
                **{_TWICE[name]: getattr(place, name) for name in _TWICE},
                **{name: getattr(place, name) for name in _TWICE},
                "dnsList": place.dns_ips,
                "dns_list": place.dns_ips,
                "uuid": place.uuid,
                "ecsId": ecs_id,
                "secGroups": f"{place.security_group_name}({place.security_group_id})",
                "secGroupSpec": place.security_group_id,
                "subnetCidr": place.subnet_cidr,
                "vpcName": place.vpc_name,
                "subnetName": place.subnet_name,
                "networkType": place.network_type,
            },
            by_alias=True,
            by_name=False,
        )


# What is told under two spellings, by the one with underscores.
_TWICE = {
    name: to_camel(name)
    for name in ("vpc_id", "subnet_id", "port_id", "port_name", "port_type", "ipv4_address", "mac_address")
}


class InstanceImageBody(AnswerModel):
    """The image that an instance was made from."""

    image_id: str
    name: str
    visibility: str
    cpu_arch: str
    os_type: str
    platform: str
    source_type: str = ""
    instructions: str = Field(description="Width of the guest's machine words.", examples=["64-bits"])
    os_version: str

    @classmethod
    def of(cls, image: Image) -> "InstanceImageBody":
        columns = ("name", "visibility", "cpu_arch", "os_type", "platform", "os_version")
        # Both architectures that this service knows are 64 bits wide.
        return cls(**{name: getattr(image, name) for name in columns}, image_id=image.id, instructions="64-bits")


class LabelBody(AnswerModel):
    """A label."""

    key: str
    value: str


class VmtoolsBody(AnswerModel):
    """The guest agent, as it was last probed."""

    created_at: Moment
    updated_at: Moment
    deleted_at: None = None
    ecs_id: str
    status: str = Field(description="VmtoolsRunning, VmtoolsNotRunning or VmtoolsNotInstalled.")
    version: str
    last_probe_time: Moment

    @classmethod
    def of(cls, instance: InstanceRow) -> "VmtoolsBody":
        return cls(
            created_at=instance.created_at,
            updated_at=instance.vmtools_probed_at or instance.created_at,
            ecs_id=instance.ecs_id,
            status=instance.vmtools_status,
            version=instance.vmtools_version,
            last_probe_time=instance.vmtools_probed_at,
        )


class InstanceKeyBody(AnswerModel):
    """An SSH key that opens an instance."""

    key_pair_id: str = Field(examples=["sshKey-qn2sd6rnwv9mxa"])
    key_pair_name: str
    fingerprint: str

    @classmethod
    def of(cls, key: KeyRow) -> "InstanceKeyBody":
        """The key as callers see it."""
        return cls(key_pair_id=key.id, key_pair_name=key.name, fingerprint=key.fingerprint)


class BoundPolicyBody(AnswerModel):
    """The snapshot policy of an instance."""

    policy_id: str = Field(examples=["ecs.policy-cmms1zb5bgffs8zc"])
    policy_name: str
    ecs_id: str

    @classmethod
    def of(cls, row: InstanceRow) -> "BoundPolicyBody | None":
        """The policy as callers see it; None: it has none."""
        if row.policy_id is None:
            return None
        return cls(policy_id=row.policy_id, policy_name=row.policy_name or "", ecs_id=row.ecs_id)
