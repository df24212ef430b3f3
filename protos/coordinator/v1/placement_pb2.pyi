from protos.agent.v1 import host_pb2 as _host_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Consumer(_message.Message):
    __slots__ = ("uuid", "vcpus", "memory_bytes", "storage_bytes", "devices", "numa", "dedicated_cpus", "huge_page_bytes", "local_storage_bytes")
    UUID_FIELD_NUMBER: _ClassVar[int]
    VCPUS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    STORAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    NUMA_FIELD_NUMBER: _ClassVar[int]
    DEDICATED_CPUS_FIELD_NUMBER: _ClassVar[int]
    HUGE_PAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    LOCAL_STORAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    uuid: str
    vcpus: int
    memory_bytes: int
    storage_bytes: int
    devices: _containers.RepeatedCompositeFieldContainer[DeviceWish]
    numa: bool
    dedicated_cpus: bool
    huge_page_bytes: int
    local_storage_bytes: int
    def __init__(self, uuid: _Optional[str] = ..., vcpus: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., storage_bytes: _Optional[int] = ..., devices: _Optional[_Iterable[_Union[DeviceWish, _Mapping]]] = ..., numa: _Optional[bool] = ..., dedicated_cpus: _Optional[bool] = ..., huge_page_bytes: _Optional[int] = ..., local_storage_bytes: _Optional[int] = ...) -> None: ...

class DeviceWish(_message.Message):
    __slots__ = ("kind", "count", "milli", "attributes", "least_bytes")
    class AttributesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Values
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Values, _Mapping]] = ...) -> None: ...
    KIND_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    MILLI_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    LEAST_BYTES_FIELD_NUMBER: _ClassVar[int]
    kind: str
    count: int
    milli: int
    attributes: _containers.MessageMap[str, Values]
    least_bytes: int
    def __init__(self, kind: _Optional[str] = ..., count: _Optional[int] = ..., milli: _Optional[int] = ..., attributes: _Optional[_Mapping[str, Values]] = ..., least_bytes: _Optional[int] = ...) -> None: ...

class Values(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, values: _Optional[_Iterable[str]] = ...) -> None: ...

class Requirements(_message.Message):
    __slots__ = ("architecture", "zone", "node_id", "traits", "pool_ids", "host_group_id")
    ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    ZONE_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    TRAITS_FIELD_NUMBER: _ClassVar[int]
    POOL_IDS_FIELD_NUMBER: _ClassVar[int]
    HOST_GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    architecture: _host_pb2.Architecture
    zone: str
    node_id: str
    traits: _containers.RepeatedScalarFieldContainer[str]
    pool_ids: _containers.RepeatedScalarFieldContainer[str]
    host_group_id: str
    def __init__(self, architecture: _Optional[_Union[_host_pb2.Architecture, str]] = ..., zone: _Optional[str] = ..., node_id: _Optional[str] = ..., traits: _Optional[_Iterable[str]] = ..., pool_ids: _Optional[_Iterable[str]] = ..., host_group_id: _Optional[str] = ...) -> None: ...

class ClaimRequest(_message.Message):
    __slots__ = ("consumers", "requirements")
    CONSUMERS_FIELD_NUMBER: _ClassVar[int]
    REQUIREMENTS_FIELD_NUMBER: _ClassVar[int]
    consumers: _containers.RepeatedCompositeFieldContainer[Consumer]
    requirements: Requirements
    def __init__(self, consumers: _Optional[_Iterable[_Union[Consumer, _Mapping]]] = ..., requirements: _Optional[_Union[Requirements, _Mapping]] = ...) -> None: ...

class Placement(_message.Message):
    __slots__ = ("consumer_uuid", "node_id", "node_name", "cells", "devices")
    CONSUMER_UUID_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_NAME_FIELD_NUMBER: _ClassVar[int]
    CELLS_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    consumer_uuid: str
    node_id: str
    node_name: str
    cells: _containers.RepeatedCompositeFieldContainer[CellShare]
    devices: _containers.RepeatedCompositeFieldContainer[DeviceShare]
    def __init__(self, consumer_uuid: _Optional[str] = ..., node_id: _Optional[str] = ..., node_name: _Optional[str] = ..., cells: _Optional[_Iterable[_Union[CellShare, _Mapping]]] = ..., devices: _Optional[_Iterable[_Union[DeviceShare, _Mapping]]] = ...) -> None: ...

class CellShare(_message.Message):
    __slots__ = ("cell", "vcpus", "memory_bytes", "pinned_cpu_ids")
    CELL_FIELD_NUMBER: _ClassVar[int]
    VCPUS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    PINNED_CPU_IDS_FIELD_NUMBER: _ClassVar[int]
    cell: int
    vcpus: int
    memory_bytes: int
    pinned_cpu_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, cell: _Optional[int] = ..., vcpus: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., pinned_cpu_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class DeviceShare(_message.Message):
    __slots__ = ("device_id", "milli")
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    MILLI_FIELD_NUMBER: _ClassVar[int]
    device_id: str
    milli: int
    def __init__(self, device_id: _Optional[str] = ..., milli: _Optional[int] = ...) -> None: ...

class ClaimResponse(_message.Message):
    __slots__ = ("placements",)
    PLACEMENTS_FIELD_NUMBER: _ClassVar[int]
    placements: _containers.RepeatedCompositeFieldContainer[Placement]
    def __init__(self, placements: _Optional[_Iterable[_Union[Placement, _Mapping]]] = ...) -> None: ...

class ReleaseRequest(_message.Message):
    __slots__ = ("consumer_uuids",)
    CONSUMER_UUIDS_FIELD_NUMBER: _ClassVar[int]
    consumer_uuids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, consumer_uuids: _Optional[_Iterable[str]] = ...) -> None: ...

class ReleaseResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ExplainRequest(_message.Message):
    __slots__ = ("consumers", "requirements")
    CONSUMERS_FIELD_NUMBER: _ClassVar[int]
    REQUIREMENTS_FIELD_NUMBER: _ClassVar[int]
    consumers: _containers.RepeatedCompositeFieldContainer[Consumer]
    requirements: Requirements
    def __init__(self, consumers: _Optional[_Iterable[_Union[Consumer, _Mapping]]] = ..., requirements: _Optional[_Union[Requirements, _Mapping]] = ...) -> None: ...

class ExplainResponse(_message.Message):
    __slots__ = ("placements", "hosts", "summary")
    PLACEMENTS_FIELD_NUMBER: _ClassVar[int]
    HOSTS_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    placements: _containers.RepeatedCompositeFieldContainer[Placement]
    hosts: _containers.RepeatedCompositeFieldContainer[HostVerdict]
    summary: str
    def __init__(self, placements: _Optional[_Iterable[_Union[Placement, _Mapping]]] = ..., hosts: _Optional[_Iterable[_Union[HostVerdict, _Mapping]]] = ..., summary: _Optional[str] = ...) -> None: ...

class HostVerdict(_message.Message):
    __slots__ = ("node_id", "node_name", "accepted", "filter", "reason")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_NAME_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    node_name: str
    accepted: bool
    filter: str
    reason: str
    def __init__(self, node_id: _Optional[str] = ..., node_name: _Optional[str] = ..., accepted: _Optional[bool] = ..., filter: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...
