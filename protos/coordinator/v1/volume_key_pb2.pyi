from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class GetVolumeKeyRequest(_message.Message):
    __slots__ = ("volume_uuid",)
    VOLUME_UUID_FIELD_NUMBER: _ClassVar[int]
    volume_uuid: str
    def __init__(self, volume_uuid: _Optional[str] = ...) -> None: ...

class VolumeKey(_message.Message):
    __slots__ = ("passphrase",)
    PASSPHRASE_FIELD_NUMBER: _ClassVar[int]
    passphrase: str
    def __init__(self, passphrase: _Optional[str] = ...) -> None: ...
