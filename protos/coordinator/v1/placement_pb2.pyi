from protos.agent.v1 import host_pb2 as _host_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Consumer(_message.Message):
    __slots__ = ("uuid", "vcpus", "memory_bytes", "storage_bytes")
    UUID_FIELD_NUMBER: _ClassVar[int]
    VCPUS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    STORAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    uuid: str
    vcpus: int
    memory_bytes: int
    storage_bytes: int
    def __init__(self, uuid: _Optional[str] = ..., vcpus: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., storage_bytes: _Optional[int] = ...) -> None: ...

class Requirements(_message.Message):
    __slots__ = ("architecture", "zone", "node_id", "traits")
    ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    ZONE_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    TRAITS_FIELD_NUMBER: _ClassVar[int]
    architecture: _host_pb2.Architecture
    zone: str
    node_id: str
    traits: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, architecture: _Optional[_Union[_host_pb2.Architecture, str]] = ..., zone: _Optional[str] = ..., node_id: _Optional[str] = ..., traits: _Optional[_Iterable[str]] = ...) -> None: ...

class ClaimRequest(_message.Message):
    __slots__ = ("consumers", "requirements")
    CONSUMERS_FIELD_NUMBER: _ClassVar[int]
    REQUIREMENTS_FIELD_NUMBER: _ClassVar[int]
    consumers: _containers.RepeatedCompositeFieldContainer[Consumer]
    requirements: Requirements
    def __init__(self, consumers: _Optional[_Iterable[_Union[Consumer, _Mapping]]] = ..., requirements: _Optional[_Union[Requirements, _Mapping]] = ...) -> None: ...

class Placement(_message.Message):
    __slots__ = ("consumer_uuid", "node_id", "node_name")
    CONSUMER_UUID_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_NAME_FIELD_NUMBER: _ClassVar[int]
    consumer_uuid: str
    node_id: str
    node_name: str
    def __init__(self, consumer_uuid: _Optional[str] = ..., node_id: _Optional[str] = ..., node_name: _Optional[str] = ...) -> None: ...

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
