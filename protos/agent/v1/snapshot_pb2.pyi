import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SnapshotConsistency(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SNAPSHOT_CONSISTENCY_UNSPECIFIED: _ClassVar[SnapshotConsistency]
    SNAPSHOT_CONSISTENCY_CRASH: _ClassVar[SnapshotConsistency]
    SNAPSHOT_CONSISTENCY_FILE_SYSTEM: _ClassVar[SnapshotConsistency]
SNAPSHOT_CONSISTENCY_UNSPECIFIED: SnapshotConsistency
SNAPSHOT_CONSISTENCY_CRASH: SnapshotConsistency
SNAPSHOT_CONSISTENCY_FILE_SYSTEM: SnapshotConsistency

class EnsureSnapshotTakenRequest(_message.Message):
    __slots__ = ("snapshot_id", "domain_uuid", "volume_uuids", "quiesce")
    SNAPSHOT_ID_FIELD_NUMBER: _ClassVar[int]
    DOMAIN_UUID_FIELD_NUMBER: _ClassVar[int]
    VOLUME_UUIDS_FIELD_NUMBER: _ClassVar[int]
    QUIESCE_FIELD_NUMBER: _ClassVar[int]
    snapshot_id: str
    domain_uuid: str
    volume_uuids: _containers.RepeatedScalarFieldContainer[str]
    quiesce: bool
    def __init__(self, snapshot_id: _Optional[str] = ..., domain_uuid: _Optional[str] = ..., volume_uuids: _Optional[_Iterable[str]] = ..., quiesce: _Optional[bool] = ...) -> None: ...

class TakenSnapshot(_message.Message):
    __slots__ = ("consistency", "reason", "paused", "volumes")
    CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    PAUSED_FIELD_NUMBER: _ClassVar[int]
    VOLUMES_FIELD_NUMBER: _ClassVar[int]
    consistency: SnapshotConsistency
    reason: str
    paused: _duration_pb2.Duration
    volumes: _containers.RepeatedCompositeFieldContainer[VolumeSnapshot]
    def __init__(self, consistency: _Optional[_Union[SnapshotConsistency, str]] = ..., reason: _Optional[str] = ..., paused: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., volumes: _Optional[_Iterable[_Union[VolumeSnapshot, _Mapping]]] = ...) -> None: ...

class VolumeSnapshot(_message.Message):
    __slots__ = ("snapshot_id", "volume_uuid", "size_bytes", "taken_at_seconds", "consistency", "allocated_bytes")
    SNAPSHOT_ID_FIELD_NUMBER: _ClassVar[int]
    VOLUME_UUID_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    TAKEN_AT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    ALLOCATED_BYTES_FIELD_NUMBER: _ClassVar[int]
    snapshot_id: str
    volume_uuid: str
    size_bytes: int
    taken_at_seconds: int
    consistency: SnapshotConsistency
    allocated_bytes: int
    def __init__(self, snapshot_id: _Optional[str] = ..., volume_uuid: _Optional[str] = ..., size_bytes: _Optional[int] = ..., taken_at_seconds: _Optional[int] = ..., consistency: _Optional[_Union[SnapshotConsistency, str]] = ..., allocated_bytes: _Optional[int] = ...) -> None: ...

class EnsureSnapshotRemovedRequest(_message.Message):
    __slots__ = ("snapshot_id", "volume_uuids")
    SNAPSHOT_ID_FIELD_NUMBER: _ClassVar[int]
    VOLUME_UUIDS_FIELD_NUMBER: _ClassVar[int]
    snapshot_id: str
    volume_uuids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, snapshot_id: _Optional[str] = ..., volume_uuids: _Optional[_Iterable[str]] = ...) -> None: ...

class EnsureSnapshotRemovedResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class EnsureRolledBackRequest(_message.Message):
    __slots__ = ("snapshot_id", "volume_uuids")
    SNAPSHOT_ID_FIELD_NUMBER: _ClassVar[int]
    VOLUME_UUIDS_FIELD_NUMBER: _ClassVar[int]
    snapshot_id: str
    volume_uuids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, snapshot_id: _Optional[str] = ..., volume_uuids: _Optional[_Iterable[str]] = ...) -> None: ...

class EnsureRolledBackResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListSnapshotsRequest(_message.Message):
    __slots__ = ("volume_uuid",)
    VOLUME_UUID_FIELD_NUMBER: _ClassVar[int]
    volume_uuid: str
    def __init__(self, volume_uuid: _Optional[str] = ...) -> None: ...

class ListSnapshotsResponse(_message.Message):
    __slots__ = ("snapshots",)
    SNAPSHOTS_FIELD_NUMBER: _ClassVar[int]
    snapshots: _containers.RepeatedCompositeFieldContainer[VolumeSnapshot]
    def __init__(self, snapshots: _Optional[_Iterable[_Union[VolumeSnapshot, _Mapping]]] = ...) -> None: ...
