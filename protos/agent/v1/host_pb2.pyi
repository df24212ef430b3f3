import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Architecture(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ARCHITECTURE_UNSPECIFIED: _ClassVar[Architecture]
    ARCHITECTURE_X86_64: _ClassVar[Architecture]
    ARCHITECTURE_AARCH64: _ClassVar[Architecture]

class Accelerator(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ACCELERATOR_UNSPECIFIED: _ClassVar[Accelerator]
    ACCELERATOR_KVM: _ClassVar[Accelerator]
    ACCELERATOR_TCG: _ClassVar[Accelerator]
ARCHITECTURE_UNSPECIFIED: Architecture
ARCHITECTURE_X86_64: Architecture
ARCHITECTURE_AARCH64: Architecture
ACCELERATOR_UNSPECIFIED: Accelerator
ACCELERATOR_KVM: Accelerator
ACCELERATOR_TCG: Accelerator

class GetFactsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetInventoryRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class HostFacts(_message.Message):
    __slots__ = ("hostname", "machine_uuid", "architecture", "accelerator", "accelerator_reason", "cpu", "memory_bytes", "numa_nodes", "disks", "nics", "operating_system", "kernel_release", "libvirt_version", "qemu_version", "agent_version", "traits", "booted_at", "role_addresses", "boot_id")
    class RoleAddressesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    MACHINE_UUID_FIELD_NUMBER: _ClassVar[int]
    ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    ACCELERATOR_FIELD_NUMBER: _ClassVar[int]
    ACCELERATOR_REASON_FIELD_NUMBER: _ClassVar[int]
    CPU_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    NUMA_NODES_FIELD_NUMBER: _ClassVar[int]
    DISKS_FIELD_NUMBER: _ClassVar[int]
    NICS_FIELD_NUMBER: _ClassVar[int]
    OPERATING_SYSTEM_FIELD_NUMBER: _ClassVar[int]
    KERNEL_RELEASE_FIELD_NUMBER: _ClassVar[int]
    LIBVIRT_VERSION_FIELD_NUMBER: _ClassVar[int]
    QEMU_VERSION_FIELD_NUMBER: _ClassVar[int]
    AGENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    TRAITS_FIELD_NUMBER: _ClassVar[int]
    BOOTED_AT_FIELD_NUMBER: _ClassVar[int]
    ROLE_ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    hostname: str
    machine_uuid: str
    architecture: Architecture
    accelerator: Accelerator
    accelerator_reason: str
    cpu: CpuFacts
    memory_bytes: int
    numa_nodes: _containers.RepeatedCompositeFieldContainer[NumaNode]
    disks: _containers.RepeatedCompositeFieldContainer[BlockDevice]
    nics: _containers.RepeatedCompositeFieldContainer[NetworkInterface]
    operating_system: str
    kernel_release: str
    libvirt_version: str
    qemu_version: str
    agent_version: str
    traits: _containers.RepeatedScalarFieldContainer[str]
    booted_at: _timestamp_pb2.Timestamp
    role_addresses: _containers.ScalarMap[str, str]
    boot_id: str
    def __init__(self, hostname: _Optional[str] = ..., machine_uuid: _Optional[str] = ..., architecture: _Optional[_Union[Architecture, str]] = ..., accelerator: _Optional[_Union[Accelerator, str]] = ..., accelerator_reason: _Optional[str] = ..., cpu: _Optional[_Union[CpuFacts, _Mapping]] = ..., memory_bytes: _Optional[int] = ..., numa_nodes: _Optional[_Iterable[_Union[NumaNode, _Mapping]]] = ..., disks: _Optional[_Iterable[_Union[BlockDevice, _Mapping]]] = ..., nics: _Optional[_Iterable[_Union[NetworkInterface, _Mapping]]] = ..., operating_system: _Optional[str] = ..., kernel_release: _Optional[str] = ..., libvirt_version: _Optional[str] = ..., qemu_version: _Optional[str] = ..., agent_version: _Optional[str] = ..., traits: _Optional[_Iterable[str]] = ..., booted_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., role_addresses: _Optional[_Mapping[str, str]] = ..., boot_id: _Optional[str] = ...) -> None: ...

class CpuFacts(_message.Message):
    __slots__ = ("model_name", "vendor", "libvirt_model", "sockets", "cores_per_socket", "threads_per_core", "logical_cpus", "frequency_mhz")
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    VENDOR_FIELD_NUMBER: _ClassVar[int]
    LIBVIRT_MODEL_FIELD_NUMBER: _ClassVar[int]
    SOCKETS_FIELD_NUMBER: _ClassVar[int]
    CORES_PER_SOCKET_FIELD_NUMBER: _ClassVar[int]
    THREADS_PER_CORE_FIELD_NUMBER: _ClassVar[int]
    LOGICAL_CPUS_FIELD_NUMBER: _ClassVar[int]
    FREQUENCY_MHZ_FIELD_NUMBER: _ClassVar[int]
    model_name: str
    vendor: str
    libvirt_model: str
    sockets: int
    cores_per_socket: int
    threads_per_core: int
    logical_cpus: int
    frequency_mhz: int
    def __init__(self, model_name: _Optional[str] = ..., vendor: _Optional[str] = ..., libvirt_model: _Optional[str] = ..., sockets: _Optional[int] = ..., cores_per_socket: _Optional[int] = ..., threads_per_core: _Optional[int] = ..., logical_cpus: _Optional[int] = ..., frequency_mhz: _Optional[int] = ...) -> None: ...

class NumaNode(_message.Message):
    __slots__ = ("id", "cpu_ids", "memory_bytes", "huge_pages", "cores")
    ID_FIELD_NUMBER: _ClassVar[int]
    CPU_IDS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    HUGE_PAGES_FIELD_NUMBER: _ClassVar[int]
    CORES_FIELD_NUMBER: _ClassVar[int]
    id: int
    cpu_ids: _containers.RepeatedScalarFieldContainer[int]
    memory_bytes: int
    huge_pages: _containers.RepeatedCompositeFieldContainer[HugePages]
    cores: _containers.RepeatedCompositeFieldContainer[CpuCore]
    def __init__(self, id: _Optional[int] = ..., cpu_ids: _Optional[_Iterable[int]] = ..., memory_bytes: _Optional[int] = ..., huge_pages: _Optional[_Iterable[_Union[HugePages, _Mapping]]] = ..., cores: _Optional[_Iterable[_Union[CpuCore, _Mapping]]] = ...) -> None: ...

class CpuCore(_message.Message):
    __slots__ = ("cpu_ids",)
    CPU_IDS_FIELD_NUMBER: _ClassVar[int]
    cpu_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, cpu_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class HugePages(_message.Message):
    __slots__ = ("page_size_bytes", "total_pages", "free_pages")
    PAGE_SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_PAGES_FIELD_NUMBER: _ClassVar[int]
    FREE_PAGES_FIELD_NUMBER: _ClassVar[int]
    page_size_bytes: int
    total_pages: int
    free_pages: int
    def __init__(self, page_size_bytes: _Optional[int] = ..., total_pages: _Optional[int] = ..., free_pages: _Optional[int] = ...) -> None: ...

class BlockDevice(_message.Message):
    __slots__ = ("name", "size_bytes", "rotational", "model", "serial", "wwn", "scsi_address")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    ROTATIONAL_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SERIAL_FIELD_NUMBER: _ClassVar[int]
    WWN_FIELD_NUMBER: _ClassVar[int]
    SCSI_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    name: str
    size_bytes: int
    rotational: bool
    model: str
    serial: str
    wwn: str
    scsi_address: str
    def __init__(self, name: _Optional[str] = ..., size_bytes: _Optional[int] = ..., rotational: _Optional[bool] = ..., model: _Optional[str] = ..., serial: _Optional[str] = ..., wwn: _Optional[str] = ..., scsi_address: _Optional[str] = ...) -> None: ...

class NetworkInterface(_message.Message):
    __slots__ = ("name", "mac_address", "speed_mbps", "link_up", "mtu_bytes", "addresses")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MAC_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    SPEED_MBPS_FIELD_NUMBER: _ClassVar[int]
    LINK_UP_FIELD_NUMBER: _ClassVar[int]
    MTU_BYTES_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    name: str
    mac_address: str
    speed_mbps: int
    link_up: bool
    mtu_bytes: int
    addresses: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., mac_address: _Optional[str] = ..., speed_mbps: _Optional[int] = ..., link_up: _Optional[bool] = ..., mtu_bytes: _Optional[int] = ..., addresses: _Optional[_Iterable[str]] = ...) -> None: ...

class HostInventory(_message.Message):
    __slots__ = ("vcpus", "memory_bytes", "storage_bytes", "storage_free_bytes", "devices", "storage_id", "local_storage_bytes", "storage_places")
    VCPUS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    STORAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    STORAGE_FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    STORAGE_ID_FIELD_NUMBER: _ClassVar[int]
    LOCAL_STORAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    STORAGE_PLACES_FIELD_NUMBER: _ClassVar[int]
    vcpus: int
    memory_bytes: int
    storage_bytes: int
    storage_free_bytes: int
    devices: _containers.RepeatedCompositeFieldContainer[Device]
    storage_id: str
    local_storage_bytes: int
    storage_places: _containers.RepeatedCompositeFieldContainer[StoragePlace]
    def __init__(self, vcpus: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., storage_bytes: _Optional[int] = ..., storage_free_bytes: _Optional[int] = ..., devices: _Optional[_Iterable[_Union[Device, _Mapping]]] = ..., storage_id: _Optional[str] = ..., local_storage_bytes: _Optional[int] = ..., storage_places: _Optional[_Iterable[_Union[StoragePlace, _Mapping]]] = ...) -> None: ...

class StoragePlace(_message.Message):
    __slots__ = ("pool_id", "storage_id", "volume_types", "total_bytes", "free_bytes", "allocated_bytes", "virtual_bytes", "silent_since")
    POOL_ID_FIELD_NUMBER: _ClassVar[int]
    STORAGE_ID_FIELD_NUMBER: _ClassVar[int]
    VOLUME_TYPES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    ALLOCATED_BYTES_FIELD_NUMBER: _ClassVar[int]
    VIRTUAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    SILENT_SINCE_FIELD_NUMBER: _ClassVar[int]
    pool_id: str
    storage_id: str
    volume_types: _containers.RepeatedScalarFieldContainer[str]
    total_bytes: int
    free_bytes: int
    allocated_bytes: int
    virtual_bytes: int
    silent_since: _timestamp_pb2.Timestamp
    def __init__(self, pool_id: _Optional[str] = ..., storage_id: _Optional[str] = ..., volume_types: _Optional[_Iterable[str]] = ..., total_bytes: _Optional[int] = ..., free_bytes: _Optional[int] = ..., allocated_bytes: _Optional[int] = ..., virtual_bytes: _Optional[int] = ..., silent_since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Device(_message.Message):
    __slots__ = ("id", "kind", "attributes", "numa_node", "size_bytes", "shareable", "withheld_reason", "details", "vgpu_types", "vgpus", "rdma_ports", "fault")
    class AttributesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class DetailsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    NUMA_NODE_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    SHAREABLE_FIELD_NUMBER: _ClassVar[int]
    WITHHELD_REASON_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    VGPU_TYPES_FIELD_NUMBER: _ClassVar[int]
    VGPUS_FIELD_NUMBER: _ClassVar[int]
    RDMA_PORTS_FIELD_NUMBER: _ClassVar[int]
    FAULT_FIELD_NUMBER: _ClassVar[int]
    id: str
    kind: str
    attributes: _containers.ScalarMap[str, str]
    numa_node: int
    size_bytes: int
    shareable: bool
    withheld_reason: str
    details: _containers.ScalarMap[str, str]
    vgpu_types: _containers.RepeatedCompositeFieldContainer[VgpuType]
    vgpus: _containers.RepeatedCompositeFieldContainer[Vgpu]
    rdma_ports: _containers.RepeatedCompositeFieldContainer[RdmaPort]
    fault: str
    def __init__(self, id: _Optional[str] = ..., kind: _Optional[str] = ..., attributes: _Optional[_Mapping[str, str]] = ..., numa_node: _Optional[int] = ..., size_bytes: _Optional[int] = ..., shareable: _Optional[bool] = ..., withheld_reason: _Optional[str] = ..., details: _Optional[_Mapping[str, str]] = ..., vgpu_types: _Optional[_Iterable[_Union[VgpuType, _Mapping]]] = ..., vgpus: _Optional[_Iterable[_Union[Vgpu, _Mapping]]] = ..., rdma_ports: _Optional[_Iterable[_Union[RdmaPort, _Mapping]]] = ..., fault: _Optional[str] = ...) -> None: ...

class VgpuType(_message.Message):
    __slots__ = ("id", "name", "framebuffer_bytes", "maximum_instances", "available_instances")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    FRAMEBUFFER_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAXIMUM_INSTANCES_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_INSTANCES_FIELD_NUMBER: _ClassVar[int]
    id: str
    name: str
    framebuffer_bytes: int
    maximum_instances: int
    available_instances: int
    def __init__(self, id: _Optional[str] = ..., name: _Optional[str] = ..., framebuffer_bytes: _Optional[int] = ..., maximum_instances: _Optional[int] = ..., available_instances: _Optional[int] = ...) -> None: ...

class Vgpu(_message.Message):
    __slots__ = ("id", "type_id")
    ID_FIELD_NUMBER: _ClassVar[int]
    TYPE_ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    type_id: str
    def __init__(self, id: _Optional[str] = ..., type_id: _Optional[str] = ...) -> None: ...

class RdmaPort(_message.Message):
    __slots__ = ("number", "state", "link_layer", "rate", "gid")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    LINK_LAYER_FIELD_NUMBER: _ClassVar[int]
    RATE_FIELD_NUMBER: _ClassVar[int]
    GID_FIELD_NUMBER: _ClassVar[int]
    number: int
    state: str
    link_layer: str
    rate: str
    gid: str
    def __init__(self, number: _Optional[int] = ..., state: _Optional[str] = ..., link_layer: _Optional[str] = ..., rate: _Optional[str] = ..., gid: _Optional[str] = ...) -> None: ...
