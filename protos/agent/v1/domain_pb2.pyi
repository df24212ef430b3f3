import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from protos.agent.v1 import device_pb2 as _device_pb2
from protos.agent.v1 import host_pb2 as _host_pb2
from protos.agent.v1 import storage_pb2 as _storage_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CpuMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CPU_MODE_UNSPECIFIED: _ClassVar[CpuMode]
    CPU_MODE_HOST_PASSTHROUGH: _ClassVar[CpuMode]
    CPU_MODE_CUSTOM: _ClassVar[CpuMode]

class Firmware(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FIRMWARE_UNSPECIFIED: _ClassVar[Firmware]
    FIRMWARE_BIOS: _ClassVar[Firmware]
    FIRMWARE_UEFI: _ClassVar[Firmware]
    FIRMWARE_UEFI_SECURE_BOOT: _ClassVar[Firmware]

class TpmModel(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TPM_MODEL_UNSPECIFIED: _ClassVar[TpmModel]
    TPM_MODEL_NONE: _ClassVar[TpmModel]
    TPM_MODEL_1_2: _ClassVar[TpmModel]
    TPM_MODEL_2_0: _ClassVar[TpmModel]

class DiskBus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DISK_BUS_UNSPECIFIED: _ClassVar[DiskBus]
    DISK_BUS_VIRTIO: _ClassVar[DiskBus]
    DISK_BUS_SCSI: _ClassVar[DiskBus]
    DISK_BUS_SATA: _ClassVar[DiskBus]

class PowerState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    POWER_STATE_UNSPECIFIED: _ClassVar[PowerState]
    POWER_STATE_RUNNING: _ClassVar[PowerState]
    POWER_STATE_PAUSED: _ClassVar[PowerState]
    POWER_STATE_SHUTTING_DOWN: _ClassVar[PowerState]
    POWER_STATE_SHUTOFF: _ClassVar[PowerState]
    POWER_STATE_CRASHED: _ClassVar[PowerState]
    POWER_STATE_SUSPENDED: _ClassVar[PowerState]
    POWER_STATE_ABSENT: _ClassVar[PowerState]
    POWER_STATE_HIBERNATED: _ClassVar[PowerState]

class GuestAgentState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GUEST_AGENT_STATE_UNSPECIFIED: _ClassVar[GuestAgentState]
    GUEST_AGENT_STATE_RUNNING: _ClassVar[GuestAgentState]
    GUEST_AGENT_STATE_NOT_RUNNING: _ClassVar[GuestAgentState]
    GUEST_AGENT_STATE_NOT_RESPONDING: _ClassVar[GuestAgentState]
CPU_MODE_UNSPECIFIED: CpuMode
CPU_MODE_HOST_PASSTHROUGH: CpuMode
CPU_MODE_CUSTOM: CpuMode
FIRMWARE_UNSPECIFIED: Firmware
FIRMWARE_BIOS: Firmware
FIRMWARE_UEFI: Firmware
FIRMWARE_UEFI_SECURE_BOOT: Firmware
TPM_MODEL_UNSPECIFIED: TpmModel
TPM_MODEL_NONE: TpmModel
TPM_MODEL_1_2: TpmModel
TPM_MODEL_2_0: TpmModel
DISK_BUS_UNSPECIFIED: DiskBus
DISK_BUS_VIRTIO: DiskBus
DISK_BUS_SCSI: DiskBus
DISK_BUS_SATA: DiskBus
POWER_STATE_UNSPECIFIED: PowerState
POWER_STATE_RUNNING: PowerState
POWER_STATE_PAUSED: PowerState
POWER_STATE_SHUTTING_DOWN: PowerState
POWER_STATE_SHUTOFF: PowerState
POWER_STATE_CRASHED: PowerState
POWER_STATE_SUSPENDED: PowerState
POWER_STATE_ABSENT: PowerState
POWER_STATE_HIBERNATED: PowerState
GUEST_AGENT_STATE_UNSPECIFIED: GuestAgentState
GUEST_AGENT_STATE_RUNNING: GuestAgentState
GUEST_AGENT_STATE_NOT_RUNNING: GuestAgentState
GUEST_AGENT_STATE_NOT_RESPONDING: GuestAgentState

class DomainSpec(_message.Message):
    __slots__ = ("uuid", "name", "title", "architecture", "vcpus", "memory_bytes", "huge_page_bytes", "cpu_mode", "cpu_model", "firmware", "tpm", "disks", "nics", "cloud_init", "graphics", "labels", "generation", "cells", "memory_locked", "has_virtual_numa", "ha_enabled", "machine", "host_devices", "optical_drives", "max_vcpus", "max_memory_bytes")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    UUID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    VCPUS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    HUGE_PAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    CPU_MODE_FIELD_NUMBER: _ClassVar[int]
    CPU_MODEL_FIELD_NUMBER: _ClassVar[int]
    FIRMWARE_FIELD_NUMBER: _ClassVar[int]
    TPM_FIELD_NUMBER: _ClassVar[int]
    DISKS_FIELD_NUMBER: _ClassVar[int]
    NICS_FIELD_NUMBER: _ClassVar[int]
    CLOUD_INIT_FIELD_NUMBER: _ClassVar[int]
    GRAPHICS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    CELLS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_LOCKED_FIELD_NUMBER: _ClassVar[int]
    HAS_VIRTUAL_NUMA_FIELD_NUMBER: _ClassVar[int]
    HA_ENABLED_FIELD_NUMBER: _ClassVar[int]
    MACHINE_FIELD_NUMBER: _ClassVar[int]
    HOST_DEVICES_FIELD_NUMBER: _ClassVar[int]
    OPTICAL_DRIVES_FIELD_NUMBER: _ClassVar[int]
    MAX_VCPUS_FIELD_NUMBER: _ClassVar[int]
    MAX_MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    uuid: str
    name: str
    title: str
    architecture: _host_pb2.Architecture
    vcpus: int
    memory_bytes: int
    huge_page_bytes: int
    cpu_mode: CpuMode
    cpu_model: str
    firmware: Firmware
    tpm: TpmModel
    disks: _containers.RepeatedCompositeFieldContainer[Disk]
    nics: _containers.RepeatedCompositeFieldContainer[Nic]
    cloud_init: CloudInit
    graphics: Graphics
    labels: _containers.ScalarMap[str, str]
    generation: int
    cells: _containers.RepeatedCompositeFieldContainer[GuestCell]
    memory_locked: bool
    has_virtual_numa: bool
    ha_enabled: bool
    machine: str
    host_devices: _containers.RepeatedCompositeFieldContainer[_device_pb2.HostDevice]
    optical_drives: _containers.RepeatedCompositeFieldContainer[OpticalDrive]
    max_vcpus: int
    max_memory_bytes: int
    def __init__(self, uuid: _Optional[str] = ..., name: _Optional[str] = ..., title: _Optional[str] = ..., architecture: _Optional[_Union[_host_pb2.Architecture, str]] = ..., vcpus: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., huge_page_bytes: _Optional[int] = ..., cpu_mode: _Optional[_Union[CpuMode, str]] = ..., cpu_model: _Optional[str] = ..., firmware: _Optional[_Union[Firmware, str]] = ..., tpm: _Optional[_Union[TpmModel, str]] = ..., disks: _Optional[_Iterable[_Union[Disk, _Mapping]]] = ..., nics: _Optional[_Iterable[_Union[Nic, _Mapping]]] = ..., cloud_init: _Optional[_Union[CloudInit, _Mapping]] = ..., graphics: _Optional[_Union[Graphics, _Mapping]] = ..., labels: _Optional[_Mapping[str, str]] = ..., generation: _Optional[int] = ..., cells: _Optional[_Iterable[_Union[GuestCell, _Mapping]]] = ..., memory_locked: _Optional[bool] = ..., has_virtual_numa: _Optional[bool] = ..., ha_enabled: _Optional[bool] = ..., machine: _Optional[str] = ..., host_devices: _Optional[_Iterable[_Union[_device_pb2.HostDevice, _Mapping]]] = ..., optical_drives: _Optional[_Iterable[_Union[OpticalDrive, _Mapping]]] = ..., max_vcpus: _Optional[int] = ..., max_memory_bytes: _Optional[int] = ...) -> None: ...

class OpticalDrive(_message.Message):
    __slots__ = ("number", "bus", "image", "boot_index")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    BUS_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    BOOT_INDEX_FIELD_NUMBER: _ClassVar[int]
    number: int
    bus: DiskBus
    image: _storage_pb2.ImageRef
    boot_index: int
    def __init__(self, number: _Optional[int] = ..., bus: _Optional[_Union[DiskBus, str]] = ..., image: _Optional[_Union[_storage_pb2.ImageRef, _Mapping]] = ..., boot_index: _Optional[int] = ...) -> None: ...

class GuestCell(_message.Message):
    __slots__ = ("host_cell", "vcpus", "memory_bytes", "pinned_cpu_ids")
    HOST_CELL_FIELD_NUMBER: _ClassVar[int]
    VCPUS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    PINNED_CPU_IDS_FIELD_NUMBER: _ClassVar[int]
    host_cell: int
    vcpus: int
    memory_bytes: int
    pinned_cpu_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, host_cell: _Optional[int] = ..., vcpus: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., pinned_cpu_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class Disk(_message.Message):
    __slots__ = ("volume_uuid", "bus", "boot_index", "read_only")
    VOLUME_UUID_FIELD_NUMBER: _ClassVar[int]
    BUS_FIELD_NUMBER: _ClassVar[int]
    BOOT_INDEX_FIELD_NUMBER: _ClassVar[int]
    READ_ONLY_FIELD_NUMBER: _ClassVar[int]
    volume_uuid: str
    bus: DiskBus
    boot_index: int
    read_only: bool
    def __init__(self, volume_uuid: _Optional[str] = ..., bus: _Optional[_Union[DiskBus, str]] = ..., boot_index: _Optional[int] = ..., read_only: _Optional[bool] = ...) -> None: ...

class Nic(_message.Message):
    __slots__ = ("port_id", "mac_address", "subnet_id")
    PORT_ID_FIELD_NUMBER: _ClassVar[int]
    MAC_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    SUBNET_ID_FIELD_NUMBER: _ClassVar[int]
    port_id: str
    mac_address: str
    subnet_id: str
    def __init__(self, port_id: _Optional[str] = ..., mac_address: _Optional[str] = ..., subnet_id: _Optional[str] = ...) -> None: ...

class CloudInit(_message.Message):
    __slots__ = ("hostname", "password_hash", "ssh_public_keys", "user_data", "instance_id", "renews_identity")
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    PASSWORD_HASH_FIELD_NUMBER: _ClassVar[int]
    SSH_PUBLIC_KEYS_FIELD_NUMBER: _ClassVar[int]
    USER_DATA_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    RENEWS_IDENTITY_FIELD_NUMBER: _ClassVar[int]
    hostname: str
    password_hash: str
    ssh_public_keys: _containers.RepeatedScalarFieldContainer[str]
    user_data: bytes
    instance_id: str
    renews_identity: bool
    def __init__(self, hostname: _Optional[str] = ..., password_hash: _Optional[str] = ..., ssh_public_keys: _Optional[_Iterable[str]] = ..., user_data: _Optional[bytes] = ..., instance_id: _Optional[str] = ..., renews_identity: _Optional[bool] = ...) -> None: ...

class Graphics(_message.Message):
    __slots__ = ("vnc_password",)
    VNC_PASSWORD_FIELD_NUMBER: _ClassVar[int]
    vnc_password: str
    def __init__(self, vnc_password: _Optional[str] = ...) -> None: ...

class Domain(_message.Message):
    __slots__ = ("uuid", "name", "power_state", "power_state_reason", "foreign", "guest_agent_state", "guest_agent_probed_at", "vcpus", "memory_bytes", "vnc_address", "vnc_port", "generation", "guest_agent_version", "ha_enabled", "machine", "guest_monitor_version")
    UUID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    POWER_STATE_FIELD_NUMBER: _ClassVar[int]
    POWER_STATE_REASON_FIELD_NUMBER: _ClassVar[int]
    FOREIGN_FIELD_NUMBER: _ClassVar[int]
    GUEST_AGENT_STATE_FIELD_NUMBER: _ClassVar[int]
    GUEST_AGENT_PROBED_AT_FIELD_NUMBER: _ClassVar[int]
    VCPUS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    VNC_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    VNC_PORT_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    GUEST_AGENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    HA_ENABLED_FIELD_NUMBER: _ClassVar[int]
    MACHINE_FIELD_NUMBER: _ClassVar[int]
    GUEST_MONITOR_VERSION_FIELD_NUMBER: _ClassVar[int]
    uuid: str
    name: str
    power_state: PowerState
    power_state_reason: str
    foreign: bool
    guest_agent_state: GuestAgentState
    guest_agent_probed_at: _timestamp_pb2.Timestamp
    vcpus: int
    memory_bytes: int
    vnc_address: str
    vnc_port: int
    generation: int
    guest_agent_version: str
    ha_enabled: bool
    machine: str
    guest_monitor_version: int
    def __init__(self, uuid: _Optional[str] = ..., name: _Optional[str] = ..., power_state: _Optional[_Union[PowerState, str]] = ..., power_state_reason: _Optional[str] = ..., foreign: _Optional[bool] = ..., guest_agent_state: _Optional[_Union[GuestAgentState, str]] = ..., guest_agent_probed_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., vcpus: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., vnc_address: _Optional[str] = ..., vnc_port: _Optional[int] = ..., generation: _Optional[int] = ..., guest_agent_version: _Optional[str] = ..., ha_enabled: _Optional[bool] = ..., machine: _Optional[str] = ..., guest_monitor_version: _Optional[int] = ...) -> None: ...

class EnsureDefinedRequest(_message.Message):
    __slots__ = ("spec",)
    SPEC_FIELD_NUMBER: _ClassVar[int]
    spec: DomainSpec
    def __init__(self, spec: _Optional[_Union[DomainSpec, _Mapping]] = ...) -> None: ...

class EnsureRunningRequest(_message.Message):
    __slots__ = ("uuid",)
    UUID_FIELD_NUMBER: _ClassVar[int]
    uuid: str
    def __init__(self, uuid: _Optional[str] = ...) -> None: ...

class EnsureStoppedRequest(_message.Message):
    __slots__ = ("uuid", "force", "grace")
    UUID_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    GRACE_FIELD_NUMBER: _ClassVar[int]
    uuid: str
    force: bool
    grace: _duration_pb2.Duration
    def __init__(self, uuid: _Optional[str] = ..., force: _Optional[bool] = ..., grace: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class StopProgress(_message.Message):
    __slots__ = ("elapsed", "method", "domain")
    ELAPSED_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    elapsed: _duration_pb2.Duration
    method: str
    domain: Domain
    def __init__(self, elapsed: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., method: _Optional[str] = ..., domain: _Optional[_Union[Domain, _Mapping]] = ...) -> None: ...

class EnsurePausedRequest(_message.Message):
    __slots__ = ("uuid",)
    UUID_FIELD_NUMBER: _ClassVar[int]
    uuid: str
    def __init__(self, uuid: _Optional[str] = ...) -> None: ...

class EnsureResumedRequest(_message.Message):
    __slots__ = ("uuid",)
    UUID_FIELD_NUMBER: _ClassVar[int]
    uuid: str
    def __init__(self, uuid: _Optional[str] = ...) -> None: ...

class RebootRequest(_message.Message):
    __slots__ = ("uuid", "operation_id", "force", "grace")
    UUID_FIELD_NUMBER: _ClassVar[int]
    OPERATION_ID_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    GRACE_FIELD_NUMBER: _ClassVar[int]
    uuid: str
    operation_id: str
    force: bool
    grace: _duration_pb2.Duration
    def __init__(self, uuid: _Optional[str] = ..., operation_id: _Optional[str] = ..., force: _Optional[bool] = ..., grace: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class RebootProgress(_message.Message):
    __slots__ = ("elapsed", "method", "domain")
    ELAPSED_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    elapsed: _duration_pb2.Duration
    method: str
    domain: Domain
    def __init__(self, elapsed: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., method: _Optional[str] = ..., domain: _Optional[_Union[Domain, _Mapping]] = ...) -> None: ...

class EnsureGrownRequest(_message.Message):
    __slots__ = ("uuid", "vcpus", "memory_bytes")
    UUID_FIELD_NUMBER: _ClassVar[int]
    VCPUS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    uuid: str
    vcpus: int
    memory_bytes: int
    def __init__(self, uuid: _Optional[str] = ..., vcpus: _Optional[int] = ..., memory_bytes: _Optional[int] = ...) -> None: ...

class EnsureHibernatedRequest(_message.Message):
    __slots__ = ("uuid",)
    UUID_FIELD_NUMBER: _ClassVar[int]
    uuid: str
    def __init__(self, uuid: _Optional[str] = ...) -> None: ...

class HibernateProgress(_message.Message):
    __slots__ = ("done_bytes", "total_bytes", "domain")
    DONE_BYTES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    done_bytes: int
    total_bytes: int
    domain: Domain
    def __init__(self, done_bytes: _Optional[int] = ..., total_bytes: _Optional[int] = ..., domain: _Optional[_Union[Domain, _Mapping]] = ...) -> None: ...

class CancelHibernationRequest(_message.Message):
    __slots__ = ("uuid",)
    UUID_FIELD_NUMBER: _ClassVar[int]
    uuid: str
    def __init__(self, uuid: _Optional[str] = ...) -> None: ...

class EnsureRemovedRequest(_message.Message):
    __slots__ = ("uuid",)
    UUID_FIELD_NUMBER: _ClassVar[int]
    uuid: str
    def __init__(self, uuid: _Optional[str] = ...) -> None: ...

class EnsureRemovedResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class EnsureDiskAttachedRequest(_message.Message):
    __slots__ = ("domain_uuid", "disk")
    DOMAIN_UUID_FIELD_NUMBER: _ClassVar[int]
    DISK_FIELD_NUMBER: _ClassVar[int]
    domain_uuid: str
    disk: Disk
    def __init__(self, domain_uuid: _Optional[str] = ..., disk: _Optional[_Union[Disk, _Mapping]] = ...) -> None: ...

class EnsureDiskAttachedResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class EnsureDiskDetachedRequest(_message.Message):
    __slots__ = ("domain_uuid", "volume_uuid", "grace")
    DOMAIN_UUID_FIELD_NUMBER: _ClassVar[int]
    VOLUME_UUID_FIELD_NUMBER: _ClassVar[int]
    GRACE_FIELD_NUMBER: _ClassVar[int]
    domain_uuid: str
    volume_uuid: str
    grace: _duration_pb2.Duration
    def __init__(self, domain_uuid: _Optional[str] = ..., volume_uuid: _Optional[str] = ..., grace: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class EnsureDiskDetachedResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class EnsureMediumRequest(_message.Message):
    __slots__ = ("domain_uuid", "drive", "force")
    DOMAIN_UUID_FIELD_NUMBER: _ClassVar[int]
    DRIVE_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    domain_uuid: str
    drive: OpticalDrive
    force: bool
    def __init__(self, domain_uuid: _Optional[str] = ..., drive: _Optional[_Union[OpticalDrive, _Mapping]] = ..., force: _Optional[bool] = ...) -> None: ...

class EnsureMediumResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetDomainRequest(_message.Message):
    __slots__ = ("uuid",)
    UUID_FIELD_NUMBER: _ClassVar[int]
    uuid: str
    def __init__(self, uuid: _Optional[str] = ...) -> None: ...

class ListDomainsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListDomainsResponse(_message.Message):
    __slots__ = ("domains",)
    DOMAINS_FIELD_NUMBER: _ClassVar[int]
    domains: _containers.RepeatedCompositeFieldContainer[Domain]
    def __init__(self, domains: _Optional[_Iterable[_Union[Domain, _Mapping]]] = ...) -> None: ...

class WatchEventsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DomainEvent(_message.Message):
    __slots__ = ("at", "domain", "kind")
    AT_FIELD_NUMBER: _ClassVar[int]
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    at: _timestamp_pb2.Timestamp
    domain: Domain
    kind: str
    def __init__(self, at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., domain: _Optional[_Union[Domain, _Mapping]] = ..., kind: _Optional[str] = ...) -> None: ...
