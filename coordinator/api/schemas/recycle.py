"""The recycle bin on the wire."""

from pydantic import Field

from coordinator.api.schemas.base import AnswerModel, LenientModel, Moment
from coordinator.api.schemas.instance import InstanceBody
from coordinator.api.schemas.instance_flavor import FlavorBodies
from coordinator.api.schemas.instance_part import InstanceImageBody
from coordinator.domain.device import DeviceKind
from coordinator.domain.recycle import LONGEST_FREEZE_DAYS, RecycleConfig
from coordinator.domain.unit import MIB
from coordinator.services.instance_view import InstanceView
from coordinator.store.queries.instance_view import PortPlace, VolumeRow
from coordinator.store.queries.snapshot_recycle import RecycledSnapshot


class SetRecycleConfigRequest(LenientModel):
    """Whether what is deleted goes to the recycle bin, and for how long."""

    enable: bool = Field(description="Whether deleted instances and snapshots go to the bin.")
    freeze_time: int = Field(ge=1, le=LONGEST_FREEZE_DAYS, description="Days that they stay there.", examples=[7])

    def to_config(self) -> RecycleConfig:
        """What is asked for."""
        return RecycleConfig(self.enable, self.freeze_time)


class RecycleConfigBody(AnswerModel):
    """Whether what is deleted goes to the recycle bin, and for how long."""

    enable: bool
    freeze_time: int = Field(description="Days.", examples=[7])

    @classmethod
    def of(cls, config: RecycleConfig) -> "RecycleConfigBody":
        """The configuration as callers see it."""
        return cls(enable=config.enabled, freeze_time=config.freeze_days)


class AutoCleanRequest(LenientModel):
    """What is to be deleted because its time in the recycle bin is over."""

    instance_id: str = Field(min_length=1, max_length=63, examples=["ecs-k8d2n5s7a1f4g6"])
    service_code: str = Field(min_length=1, max_length=31, description="ECS.", examples=["ECS"])


class RecycledMemoryBody(AnswerModel):
    """Memory as it was ordered."""

    amount: str = Field(examples=["4096Mi"])


class RecycledVolumeBody(AnswerModel):
    """A disk as it was ordered, which the bin keeps."""

    name: str
    boot_index: int
    volume_size: int = Field(description="GiB.")
    volume_type: str
    volume_name: str
    disk_bus: str
    volume_mode: str
    delete_on_termination: bool
    is_os_disk: bool
    source_volume_id: int = 0
    volume_id: int
    volume_uuid: str

    @classmethod
    def of(cls, volume: VolumeRow) -> "RecycledVolumeBody":
        """The disk as callers see it."""
        names = ("name", "boot_index", "volume_type", "disk_bus", "volume_mode", "delete_on_termination", "is_os_disk")
        return cls(
            **{name: getattr(volume, name) for name in names},
            volume_name=volume.name,
            volume_size=volume.size_gib,
            volume_id=volume.id,
            volume_uuid=f"volume-{volume.uuid}",
        )


class RecycledNetworkBody(AnswerModel):
    """A network interface as it was ordered, which the bin keeps with its address."""

    index: int
    vpc_id: str
    subnet_id: str
    port_id: str
    fixed_ip: str
    mac_addr: str
    sec_group_list: list[str]
    port_type: str
    ip_type: str = "fixedIp"
    vpc_name: str
    subnet_name: str
    subnet_cidr: str

    @classmethod
    def of(cls, index: int, place: PortPlace) -> "RecycledNetworkBody":
        """The interface as callers see it."""
        names = ("vpc_id", "subnet_id", "port_id", "port_type", "vpc_name", "subnet_name", "subnet_cidr")
        return cls(
            **{name: getattr(place, name) for name in names},
            index=index,
            fixed_ip=place.ipv4_address,
            mac_addr=place.mac_address,
            sec_group_list=[place.security_group_id],
        )


class RecycledImageBody(InstanceImageBody):
    """The image that an instance was made from."""

    image_uid: str


class RecycledInstanceBody(InstanceBody):
    """An instance in the recycle bin, and the order that would make one like it."""

    image: RecycledImageBody | None
    host_id: str = Field(default="", description="Always empty: the scheduler chose the node.")
    cpus: int
    gpus: int
    memory: RecycledMemoryBody
    volumes: list[RecycledVolumeBody]
    arch_type: str
    networks: list[RecycledNetworkBody]
    user_data: str = Field(default="", description="Always empty: it may hold secrets.")
    sec_group_list: list[str]
    need_eip: bool = Field(default=False, alias="needEIP")
    eip: dict[str, str] = Field(default_factory=dict)
    user_id: str = ""
    key_pair_id: str
    key_pair_ids: list[str] | None
    source_ecs_id: str = ""
    is_clone: bool = False
    vnc_password: str = ""
    ecs_count: int = 1
    b_update_quotas_capital: bool = Field(default=True, alias="BUpdateQuotas")
    flavor_name: str

    @classmethod
    def of(cls, view: InstanceView) -> "RecycledInstanceBody":
        """The instance as callers see it."""
        row, image = view.instance, view.image
        keys = [key.id for key in view.keys]
        values = cls.values_of(view, FlavorBodies())
        image_body = InstanceImageBody.of(image).model_dump(by_alias=False) if image else {}
        return cls(
            **{**values, "image": RecycledImageBody(**image_body, image_uid=image.id) if image else None},
            cpus=row.vcpus,
            gpus=sum(device.device.kind in (DeviceKind.GPU, DeviceKind.GPU_VF) for device in view.devices),
            memory=RecycledMemoryBody(amount=f"{row.memory_bytes // MIB}Mi"),
            volumes=[RecycledVolumeBody.of(volume) for volume in view.volumes],
            arch_type=row.architecture,
            networks=[RecycledNetworkBody.of(index, place) for index, place in enumerate(view.ports)],
            sec_group_list=list(dict.fromkeys(place.security_group_id for place in view.ports)),
            key_pair_id=keys[0] if keys else "",
            key_pair_ids=keys or None,
            flavor_name=view.flavor.name,
        )


class RecycledSnapshotBody(AnswerModel):
    """A snapshot in the recycle bin; "instance" is the bin's word for what is in it."""

    instance_id: str = Field(description="Id of the snapshot.", examples=["ecs.snapshot-f7qfzfjqc4vryy0c"])
    created_at: Moment = Field(description="When it was deleted.")
    updated_at: Moment
    deleted_at: None = None
    id: int
    instance_name: str = Field(description="Name of the snapshot.")
    instance_type: str = "ecsSnapshot"
    zone: str
    clean_at: int = Field(description="When it is deleted for good, in seconds since 1970.", examples=[1694090105])
    count: int = Field(description="How many volumes it has data of.")
    associated_ecs_id: str
    associated_ecs_name: str
    tenant_id: str
    tenant_name: str
    department_id: str
    department_name: str
    resource_group_id: str
    resource_group_name: str

    @classmethod
    def of(cls, found: RecycledSnapshot) -> "RecycledSnapshotBody":
        """The snapshot as callers see it."""
        row = found.row
        return cls(
            **{name: getattr(row, name) for name in ("updated_at", "tenant_id", "department_id", "resource_group_id")},
            id=row.id or 0,
            instance_id=row.snapshot_id,
            instance_name=row.name,
            created_at=row.deleted_at,
            zone=found.zone,
            clean_at=int(row.purge_at.timestamp()) if row.purge_at else 0,
            count=found.volume_count,
            associated_ecs_id=found.ecs_id,
            associated_ecs_name=found.ecs_name,
            tenant_name=found.tenant_name,
            department_name=found.department_name or "",
            resource_group_name=found.resource_group_name or "",
        )


class RecycledSnapshotListBody(AnswerModel):
    """One page of snapshots in the recycle bin."""

    size: int
    current: int
    total: int = Field(description="On all pages together.")
    list: list[RecycledSnapshotBody]
