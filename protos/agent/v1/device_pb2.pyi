import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class HostDevice(_message.Message):
    __slots__ = ("device_id", "uuid", "vgpu_type_id", "mac_address", "vlan_id", "trusted", "boot_index", "wipe_on_release", "native")
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    UUID_FIELD_NUMBER: _ClassVar[int]
    VGPU_TYPE_ID_FIELD_NUMBER: _ClassVar[int]
    MAC_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    VLAN_ID_FIELD_NUMBER: _ClassVar[int]
    TRUSTED_FIELD_NUMBER: _ClassVar[int]
    BOOT_INDEX_FIELD_NUMBER: _ClassVar[int]
    WIPE_ON_RELEASE_FIELD_NUMBER: _ClassVar[int]
    NATIVE_FIELD_NUMBER: _ClassVar[int]
    device_id: str
    uuid: str
    vgpu_type_id: str
    mac_address: str
    vlan_id: int
    trusted: bool
    boot_index: int
    wipe_on_release: bool
    native: bool
    def __init__(self, device_id: _Optional[str] = ..., uuid: _Optional[str] = ..., vgpu_type_id: _Optional[str] = ..., mac_address: _Optional[str] = ..., vlan_id: _Optional[int] = ..., trusted: _Optional[bool] = ..., boot_index: _Optional[int] = ..., wipe_on_release: _Optional[bool] = ..., native: _Optional[bool] = ...) -> None: ...

class EnsureAttachedRequest(_message.Message):
    __slots__ = ("domain_uuid", "device")
    DOMAIN_UUID_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    domain_uuid: str
    device: HostDevice
    def __init__(self, domain_uuid: _Optional[str] = ..., device: _Optional[_Union[HostDevice, _Mapping]] = ...) -> None: ...

class EnsureAttachedResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class EnsureDetachedRequest(_message.Message):
    __slots__ = ("domain_uuid", "device_uuid", "grace")
    DOMAIN_UUID_FIELD_NUMBER: _ClassVar[int]
    DEVICE_UUID_FIELD_NUMBER: _ClassVar[int]
    GRACE_FIELD_NUMBER: _ClassVar[int]
    domain_uuid: str
    device_uuid: str
    grace: _duration_pb2.Duration
    def __init__(self, domain_uuid: _Optional[str] = ..., device_uuid: _Optional[str] = ..., grace: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class EnsureDetachedResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class EnsureReleasedRequest(_message.Message):
    __slots__ = ("domain_uuid", "device_uuids")
    DOMAIN_UUID_FIELD_NUMBER: _ClassVar[int]
    DEVICE_UUIDS_FIELD_NUMBER: _ClassVar[int]
    domain_uuid: str
    device_uuids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, domain_uuid: _Optional[str] = ..., device_uuids: _Optional[_Iterable[str]] = ...) -> None: ...

class EnsureForcedReleaseRequest(_message.Message):
    __slots__ = ("device_id", "unclaimed")
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    UNCLAIMED_FIELD_NUMBER: _ClassVar[int]
    device_id: str
    unclaimed: bool
    def __init__(self, device_id: _Optional[str] = ..., unclaimed: _Optional[bool] = ...) -> None: ...

class ReleaseProgress(_message.Message):
    __slots__ = ("device_id", "done_bytes", "total_bytes")
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    DONE_BYTES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    device_id: str
    done_bytes: int
    total_bytes: int
    def __init__(self, device_id: _Optional[str] = ..., done_bytes: _Optional[int] = ..., total_bytes: _Optional[int] = ...) -> None: ...

class EnsureGpuModeRequest(_message.Message):
    __slots__ = ("mode",)
    MODE_FIELD_NUMBER: _ClassVar[int]
    mode: str
    def __init__(self, mode: _Optional[str] = ...) -> None: ...

class EnsureGpuModeResponse(_message.Message):
    __slots__ = ("device_ids",)
    DEVICE_IDS_FIELD_NUMBER: _ClassVar[int]
    device_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, device_ids: _Optional[_Iterable[str]] = ...) -> None: ...
