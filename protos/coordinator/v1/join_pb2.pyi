import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class JoinRequest(_message.Message):
    __slots__ = ("token", "certificate_request_pem", "hostname", "machine_uuid")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_REQUEST_PEM_FIELD_NUMBER: _ClassVar[int]
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    MACHINE_UUID_FIELD_NUMBER: _ClassVar[int]
    token: str
    certificate_request_pem: str
    hostname: str
    machine_uuid: str
    def __init__(self, token: _Optional[str] = ..., certificate_request_pem: _Optional[str] = ..., hostname: _Optional[str] = ..., machine_uuid: _Optional[str] = ...) -> None: ...

class JoinResponse(_message.Message):
    __slots__ = ("node_id", "certificate_pem", "authority_pem", "grpc_address", "certificate_expires_at", "region")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_PEM_FIELD_NUMBER: _ClassVar[int]
    AUTHORITY_PEM_FIELD_NUMBER: _ClassVar[int]
    GRPC_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    certificate_pem: str
    authority_pem: str
    grpc_address: str
    certificate_expires_at: _timestamp_pb2.Timestamp
    region: str
    def __init__(self, node_id: _Optional[str] = ..., certificate_pem: _Optional[str] = ..., authority_pem: _Optional[str] = ..., grpc_address: _Optional[str] = ..., certificate_expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., region: _Optional[str] = ...) -> None: ...
