import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from protos.agent.v1 import snapshot_pb2 as _snapshot_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ImageFormat(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    IMAGE_FORMAT_UNSPECIFIED: _ClassVar[ImageFormat]
    IMAGE_FORMAT_RAW: _ClassVar[ImageFormat]
    IMAGE_FORMAT_QCOW2: _ClassVar[ImageFormat]
    IMAGE_FORMAT_ISO: _ClassVar[ImageFormat]

class VolumeBackend(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VOLUME_BACKEND_UNSPECIFIED: _ClassVar[VolumeBackend]
    VOLUME_BACKEND_FILE: _ClassVar[VolumeBackend]
    VOLUME_BACKEND_LVM: _ClassVar[VolumeBackend]
    VOLUME_BACKEND_LVM_THIN: _ClassVar[VolumeBackend]
    VOLUME_BACKEND_CEPH: _ClassVar[VolumeBackend]

class TransferContent(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TRANSFER_CONTENT_UNSPECIFIED: _ClassVar[TransferContent]
    TRANSFER_CONTENT_SAVED_MEMORY: _ClassVar[TransferContent]

class VolumeTransferState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VOLUME_TRANSFER_STATE_UNSPECIFIED: _ClassVar[VolumeTransferState]
    VOLUME_TRANSFER_STATE_RUNNING: _ClassVar[VolumeTransferState]
    VOLUME_TRANSFER_STATE_SENT: _ClassVar[VolumeTransferState]
    VOLUME_TRANSFER_STATE_FAILED: _ClassVar[VolumeTransferState]
    VOLUME_TRANSFER_STATE_CANCELED: _ClassVar[VolumeTransferState]
IMAGE_FORMAT_UNSPECIFIED: ImageFormat
IMAGE_FORMAT_RAW: ImageFormat
IMAGE_FORMAT_QCOW2: ImageFormat
IMAGE_FORMAT_ISO: ImageFormat
VOLUME_BACKEND_UNSPECIFIED: VolumeBackend
VOLUME_BACKEND_FILE: VolumeBackend
VOLUME_BACKEND_LVM: VolumeBackend
VOLUME_BACKEND_LVM_THIN: VolumeBackend
VOLUME_BACKEND_CEPH: VolumeBackend
TRANSFER_CONTENT_UNSPECIFIED: TransferContent
TRANSFER_CONTENT_SAVED_MEMORY: TransferContent
VOLUME_TRANSFER_STATE_UNSPECIFIED: VolumeTransferState
VOLUME_TRANSFER_STATE_RUNNING: VolumeTransferState
VOLUME_TRANSFER_STATE_SENT: VolumeTransferState
VOLUME_TRANSFER_STATE_FAILED: VolumeTransferState
VOLUME_TRANSFER_STATE_CANCELED: VolumeTransferState

class ImageRef(_message.Message):
    __slots__ = ("image_id", "sha256", "format", "size_bytes")
    IMAGE_ID_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    image_id: str
    sha256: str
    format: ImageFormat
    size_bytes: int
    def __init__(self, image_id: _Optional[str] = ..., sha256: _Optional[str] = ..., format: _Optional[_Union[ImageFormat, str]] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class EnsureImageCachedRequest(_message.Message):
    __slots__ = ("image",)
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    image: ImageRef
    def __init__(self, image: _Optional[_Union[ImageRef, _Mapping]] = ...) -> None: ...

class ImageProgress(_message.Message):
    __slots__ = ("done_bytes", "total_bytes", "cached")
    DONE_BYTES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    CACHED_FIELD_NUMBER: _ClassVar[int]
    done_bytes: int
    total_bytes: int
    cached: bool
    def __init__(self, done_bytes: _Optional[int] = ..., total_bytes: _Optional[int] = ..., cached: _Optional[bool] = ...) -> None: ...

class EnsureImageEvictedRequest(_message.Message):
    __slots__ = ("image_id",)
    IMAGE_ID_FIELD_NUMBER: _ClassVar[int]
    image_id: str
    def __init__(self, image_id: _Optional[str] = ...) -> None: ...

class EnsureImageEvictedResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListImagesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListImagesResponse(_message.Message):
    __slots__ = ("images",)
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    images: _containers.RepeatedCompositeFieldContainer[ImageRef]
    def __init__(self, images: _Optional[_Iterable[_Union[ImageRef, _Mapping]]] = ...) -> None: ...

class EnsureVolumeRequest(_message.Message):
    __slots__ = ("uuid", "size_bytes", "volume_type", "image", "shared", "encrypted")
    UUID_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    VOLUME_TYPE_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    SHARED_FIELD_NUMBER: _ClassVar[int]
    ENCRYPTED_FIELD_NUMBER: _ClassVar[int]
    uuid: str
    size_bytes: int
    volume_type: str
    image: ImageRef
    shared: bool
    encrypted: bool
    def __init__(self, uuid: _Optional[str] = ..., size_bytes: _Optional[int] = ..., volume_type: _Optional[str] = ..., image: _Optional[_Union[ImageRef, _Mapping]] = ..., shared: _Optional[bool] = ..., encrypted: _Optional[bool] = ...) -> None: ...

class VolumeOrigin(_message.Message):
    __slots__ = ("volume_uuid", "snapshot_id")
    VOLUME_UUID_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_ID_FIELD_NUMBER: _ClassVar[int]
    volume_uuid: str
    snapshot_id: str
    def __init__(self, volume_uuid: _Optional[str] = ..., snapshot_id: _Optional[str] = ...) -> None: ...

class EnsureVolumeCopiedRequest(_message.Message):
    __slots__ = ("uuid", "size_bytes", "volume_type", "origin")
    UUID_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    VOLUME_TYPE_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    uuid: str
    size_bytes: int
    volume_type: str
    origin: VolumeOrigin
    def __init__(self, uuid: _Optional[str] = ..., size_bytes: _Optional[int] = ..., volume_type: _Optional[str] = ..., origin: _Optional[_Union[VolumeOrigin, _Mapping]] = ...) -> None: ...

class VolumeCopyProgress(_message.Message):
    __slots__ = ("percent", "volume")
    PERCENT_FIELD_NUMBER: _ClassVar[int]
    VOLUME_FIELD_NUMBER: _ClassVar[int]
    percent: int
    volume: Volume
    def __init__(self, percent: _Optional[int] = ..., volume: _Optional[_Union[Volume, _Mapping]] = ...) -> None: ...

class Volume(_message.Message):
    __slots__ = ("uuid", "size_bytes", "allocated_bytes", "image_id", "volume_type", "shared", "backend", "encrypted")
    UUID_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    ALLOCATED_BYTES_FIELD_NUMBER: _ClassVar[int]
    IMAGE_ID_FIELD_NUMBER: _ClassVar[int]
    VOLUME_TYPE_FIELD_NUMBER: _ClassVar[int]
    SHARED_FIELD_NUMBER: _ClassVar[int]
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    ENCRYPTED_FIELD_NUMBER: _ClassVar[int]
    uuid: str
    size_bytes: int
    allocated_bytes: int
    image_id: str
    volume_type: str
    shared: bool
    backend: VolumeBackend
    encrypted: bool
    def __init__(self, uuid: _Optional[str] = ..., size_bytes: _Optional[int] = ..., allocated_bytes: _Optional[int] = ..., image_id: _Optional[str] = ..., volume_type: _Optional[str] = ..., shared: _Optional[bool] = ..., backend: _Optional[_Union[VolumeBackend, str]] = ..., encrypted: _Optional[bool] = ...) -> None: ...

class EnsureVolumeRemovedRequest(_message.Message):
    __slots__ = ("uuid",)
    UUID_FIELD_NUMBER: _ClassVar[int]
    uuid: str
    def __init__(self, uuid: _Optional[str] = ...) -> None: ...

class EnsureVolumeRemovedResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class EnsureVolumeGrownRequest(_message.Message):
    __slots__ = ("uuid", "size_bytes", "domain_uuid")
    UUID_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    DOMAIN_UUID_FIELD_NUMBER: _ClassVar[int]
    uuid: str
    size_bytes: int
    domain_uuid: str
    def __init__(self, uuid: _Optional[str] = ..., size_bytes: _Optional[int] = ..., domain_uuid: _Optional[str] = ...) -> None: ...

class LocateVolumesRequest(_message.Message):
    __slots__ = ("uuids",)
    UUIDS_FIELD_NUMBER: _ClassVar[int]
    uuids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, uuids: _Optional[_Iterable[str]] = ...) -> None: ...

class LocateVolumesResponse(_message.Message):
    __slots__ = ("storage_ids",)
    class StorageIdsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    STORAGE_IDS_FIELD_NUMBER: _ClassVar[int]
    storage_ids: _containers.ScalarMap[str, str]
    def __init__(self, storage_ids: _Optional[_Mapping[str, str]] = ...) -> None: ...

class ListVolumesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListVolumesResponse(_message.Message):
    __slots__ = ("volumes",)
    VOLUMES_FIELD_NUMBER: _ClassVar[int]
    volumes: _containers.RepeatedCompositeFieldContainer[Volume]
    def __init__(self, volumes: _Optional[_Iterable[_Union[Volume, _Mapping]]] = ...) -> None: ...

class InspectOutgoingVolumeRequest(_message.Message):
    __slots__ = ("uuid", "content")
    UUID_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    uuid: str
    content: TransferContent
    def __init__(self, uuid: _Optional[str] = ..., content: _Optional[_Union[TransferContent, str]] = ...) -> None: ...

class OutgoingVolume(_message.Message):
    __slots__ = ("size_bytes", "file_bytes", "allocated_bytes", "volume_type", "image", "content", "is_raw", "cpu_xml", "encrypted")
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    FILE_BYTES_FIELD_NUMBER: _ClassVar[int]
    ALLOCATED_BYTES_FIELD_NUMBER: _ClassVar[int]
    VOLUME_TYPE_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    IS_RAW_FIELD_NUMBER: _ClassVar[int]
    CPU_XML_FIELD_NUMBER: _ClassVar[int]
    ENCRYPTED_FIELD_NUMBER: _ClassVar[int]
    size_bytes: int
    file_bytes: int
    allocated_bytes: int
    volume_type: str
    image: ImageRef
    content: TransferContent
    is_raw: bool
    cpu_xml: str
    encrypted: bool
    def __init__(self, size_bytes: _Optional[int] = ..., file_bytes: _Optional[int] = ..., allocated_bytes: _Optional[int] = ..., volume_type: _Optional[str] = ..., image: _Optional[_Union[ImageRef, _Mapping]] = ..., content: _Optional[_Union[TransferContent, str]] = ..., is_raw: _Optional[bool] = ..., cpu_xml: _Optional[str] = ..., encrypted: _Optional[bool] = ...) -> None: ...

class PrepareVolumeReceiveRequest(_message.Message):
    __slots__ = ("uuid", "transfer_id", "volume", "network_role", "tls", "source_node_id")
    UUID_FIELD_NUMBER: _ClassVar[int]
    TRANSFER_ID_FIELD_NUMBER: _ClassVar[int]
    VOLUME_FIELD_NUMBER: _ClassVar[int]
    NETWORK_ROLE_FIELD_NUMBER: _ClassVar[int]
    TLS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_NODE_ID_FIELD_NUMBER: _ClassVar[int]
    uuid: str
    transfer_id: str
    volume: OutgoingVolume
    network_role: str
    tls: bool
    source_node_id: str
    def __init__(self, uuid: _Optional[str] = ..., transfer_id: _Optional[str] = ..., volume: _Optional[_Union[OutgoingVolume, _Mapping]] = ..., network_role: _Optional[str] = ..., tls: _Optional[bool] = ..., source_node_id: _Optional[str] = ...) -> None: ...

class IncomingVolume(_message.Message):
    __slots__ = ("node_id", "address", "port")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    address: str
    port: int
    def __init__(self, node_id: _Optional[str] = ..., address: _Optional[str] = ..., port: _Optional[int] = ...) -> None: ...

class SendVolumeRequest(_message.Message):
    __slots__ = ("uuid", "transfer_id", "target", "tls", "bandwidth_mib_per_second", "content")
    UUID_FIELD_NUMBER: _ClassVar[int]
    TRANSFER_ID_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    TLS_FIELD_NUMBER: _ClassVar[int]
    BANDWIDTH_MIB_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    uuid: str
    transfer_id: str
    target: IncomingVolume
    tls: bool
    bandwidth_mib_per_second: int
    content: TransferContent
    def __init__(self, uuid: _Optional[str] = ..., transfer_id: _Optional[str] = ..., target: _Optional[_Union[IncomingVolume, _Mapping]] = ..., tls: _Optional[bool] = ..., bandwidth_mib_per_second: _Optional[int] = ..., content: _Optional[_Union[TransferContent, str]] = ...) -> None: ...

class VolumeTransferProgress(_message.Message):
    __slots__ = ("done_bytes", "total_bytes", "outcome")
    DONE_BYTES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    done_bytes: int
    total_bytes: int
    outcome: VolumeTransferOutcome
    def __init__(self, done_bytes: _Optional[int] = ..., total_bytes: _Optional[int] = ..., outcome: _Optional[_Union[VolumeTransferOutcome, _Mapping]] = ...) -> None: ...

class VolumeTransferOutcome(_message.Message):
    __slots__ = ("transfer_id", "uuid", "state", "reason", "sha256", "elapsed")
    TRANSFER_ID_FIELD_NUMBER: _ClassVar[int]
    UUID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    ELAPSED_FIELD_NUMBER: _ClassVar[int]
    transfer_id: str
    uuid: str
    state: VolumeTransferState
    reason: str
    sha256: str
    elapsed: _duration_pb2.Duration
    def __init__(self, transfer_id: _Optional[str] = ..., uuid: _Optional[str] = ..., state: _Optional[_Union[VolumeTransferState, str]] = ..., reason: _Optional[str] = ..., sha256: _Optional[str] = ..., elapsed: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class CancelVolumeSendRequest(_message.Message):
    __slots__ = ("uuid", "transfer_id")
    UUID_FIELD_NUMBER: _ClassVar[int]
    TRANSFER_ID_FIELD_NUMBER: _ClassVar[int]
    uuid: str
    transfer_id: str
    def __init__(self, uuid: _Optional[str] = ..., transfer_id: _Optional[str] = ...) -> None: ...

class CompleteVolumeReceiveRequest(_message.Message):
    __slots__ = ("uuid", "transfer_id", "sha256", "content")
    UUID_FIELD_NUMBER: _ClassVar[int]
    TRANSFER_ID_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    uuid: str
    transfer_id: str
    sha256: str
    content: TransferContent
    def __init__(self, uuid: _Optional[str] = ..., transfer_id: _Optional[str] = ..., sha256: _Optional[str] = ..., content: _Optional[_Union[TransferContent, str]] = ...) -> None: ...

class EnsureVolumeReceiveEndedRequest(_message.Message):
    __slots__ = ("uuid", "transfer_id")
    UUID_FIELD_NUMBER: _ClassVar[int]
    TRANSFER_ID_FIELD_NUMBER: _ClassVar[int]
    uuid: str
    transfer_id: str
    def __init__(self, uuid: _Optional[str] = ..., transfer_id: _Optional[str] = ...) -> None: ...

class EnsureVolumeReceiveEndedResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class EnsureVolumeExportedRequest(_message.Message):
    __slots__ = ("uuid", "export_id", "domain_uuid", "snapshot_id", "quiesce", "parent_snapshot_id", "parent_name")
    UUID_FIELD_NUMBER: _ClassVar[int]
    EXPORT_ID_FIELD_NUMBER: _ClassVar[int]
    DOMAIN_UUID_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_ID_FIELD_NUMBER: _ClassVar[int]
    QUIESCE_FIELD_NUMBER: _ClassVar[int]
    PARENT_SNAPSHOT_ID_FIELD_NUMBER: _ClassVar[int]
    PARENT_NAME_FIELD_NUMBER: _ClassVar[int]
    uuid: str
    export_id: str
    domain_uuid: str
    snapshot_id: str
    quiesce: bool
    parent_snapshot_id: str
    parent_name: str
    def __init__(self, uuid: _Optional[str] = ..., export_id: _Optional[str] = ..., domain_uuid: _Optional[str] = ..., snapshot_id: _Optional[str] = ..., quiesce: _Optional[bool] = ..., parent_snapshot_id: _Optional[str] = ..., parent_name: _Optional[str] = ...) -> None: ...

class VolumeExportProgress(_message.Message):
    __slots__ = ("percent", "size_bytes", "sha256", "consistency", "reason", "is_increment", "whole_because")
    PERCENT_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    IS_INCREMENT_FIELD_NUMBER: _ClassVar[int]
    WHOLE_BECAUSE_FIELD_NUMBER: _ClassVar[int]
    percent: int
    size_bytes: int
    sha256: str
    consistency: _snapshot_pb2.SnapshotConsistency
    reason: str
    is_increment: bool
    whole_because: str
    def __init__(self, percent: _Optional[int] = ..., size_bytes: _Optional[int] = ..., sha256: _Optional[str] = ..., consistency: _Optional[_Union[_snapshot_pb2.SnapshotConsistency, str]] = ..., reason: _Optional[str] = ..., is_increment: _Optional[bool] = ..., whole_because: _Optional[str] = ...) -> None: ...

class ReadVolumeExportRequest(_message.Message):
    __slots__ = ("export_id", "offset_bytes")
    EXPORT_ID_FIELD_NUMBER: _ClassVar[int]
    OFFSET_BYTES_FIELD_NUMBER: _ClassVar[int]
    export_id: str
    offset_bytes: int
    def __init__(self, export_id: _Optional[str] = ..., offset_bytes: _Optional[int] = ...) -> None: ...

class VolumeExportChunk(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class EnsureVolumeExportRemovedRequest(_message.Message):
    __slots__ = ("export_id",)
    EXPORT_ID_FIELD_NUMBER: _ClassVar[int]
    export_id: str
    def __init__(self, export_id: _Optional[str] = ...) -> None: ...

class EnsureVolumeExportRemovedResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
