import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from protos.agent.v1 import domain_pb2 as _domain_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RunGuestCommandRequest(_message.Message):
    __slots__ = ("uuid", "command_json", "timeout")
    UUID_FIELD_NUMBER: _ClassVar[int]
    COMMAND_JSON_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    uuid: str
    command_json: str
    timeout: _duration_pb2.Duration
    def __init__(self, uuid: _Optional[str] = ..., command_json: _Optional[str] = ..., timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class RunGuestCommandResponse(_message.Message):
    __slots__ = ("return_json",)
    RETURN_JSON_FIELD_NUMBER: _ClassVar[int]
    return_json: str
    def __init__(self, return_json: _Optional[str] = ...) -> None: ...

class ProbeGuestRequest(_message.Message):
    __slots__ = ("uuid",)
    UUID_FIELD_NUMBER: _ClassVar[int]
    uuid: str
    def __init__(self, uuid: _Optional[str] = ...) -> None: ...

class GuestProbe(_message.Message):
    __slots__ = ("state", "version", "probed_at")
    STATE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PROBED_AT_FIELD_NUMBER: _ClassVar[int]
    state: _domain_pb2.GuestAgentState
    version: str
    probed_at: _timestamp_pb2.Timestamp
    def __init__(self, state: _Optional[_Union[_domain_pb2.GuestAgentState, str]] = ..., version: _Optional[str] = ..., probed_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
