import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from protos.agent.v1 import domain_pb2 as _domain_pb2
from protos.agent.v1 import host_pb2 as _host_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RegisterRequest(_message.Message):
    __slots__ = ("facts", "inventory", "domains", "advertise_address", "zone", "session_id", "self_fence", "fenced_domains", "ended_domain_uuids")
    FACTS_FIELD_NUMBER: _ClassVar[int]
    INVENTORY_FIELD_NUMBER: _ClassVar[int]
    DOMAINS_FIELD_NUMBER: _ClassVar[int]
    ADVERTISE_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    ZONE_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    SELF_FENCE_FIELD_NUMBER: _ClassVar[int]
    FENCED_DOMAINS_FIELD_NUMBER: _ClassVar[int]
    ENDED_DOMAIN_UUIDS_FIELD_NUMBER: _ClassVar[int]
    facts: _host_pb2.HostFacts
    inventory: _host_pb2.HostInventory
    domains: _containers.RepeatedCompositeFieldContainer[_domain_pb2.Domain]
    advertise_address: str
    zone: str
    session_id: str
    self_fence: SelfFence
    fenced_domains: _containers.RepeatedCompositeFieldContainer[FencedDomain]
    ended_domain_uuids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, facts: _Optional[_Union[_host_pb2.HostFacts, _Mapping]] = ..., inventory: _Optional[_Union[_host_pb2.HostInventory, _Mapping]] = ..., domains: _Optional[_Iterable[_Union[_domain_pb2.Domain, _Mapping]]] = ..., advertise_address: _Optional[str] = ..., zone: _Optional[str] = ..., session_id: _Optional[str] = ..., self_fence: _Optional[_Union[SelfFence, _Mapping]] = ..., fenced_domains: _Optional[_Iterable[_Union[FencedDomain, _Mapping]]] = ..., ended_domain_uuids: _Optional[_Iterable[str]] = ...) -> None: ...

class SelfFence(_message.Message):
    __slots__ = ("armed", "tolerance_seconds")
    ARMED_FIELD_NUMBER: _ClassVar[int]
    TOLERANCE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    armed: bool
    tolerance_seconds: int
    def __init__(self, armed: _Optional[bool] = ..., tolerance_seconds: _Optional[int] = ...) -> None: ...

class FencedDomain(_message.Message):
    __slots__ = ("uuid", "fenced_at", "silence")
    UUID_FIELD_NUMBER: _ClassVar[int]
    FENCED_AT_FIELD_NUMBER: _ClassVar[int]
    SILENCE_FIELD_NUMBER: _ClassVar[int]
    uuid: str
    fenced_at: _timestamp_pb2.Timestamp
    silence: _duration_pb2.Duration
    def __init__(self, uuid: _Optional[str] = ..., fenced_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., silence: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class HaTerms(_message.Message):
    __slots__ = ("stored_heartbeat", "ha_tolerance_seconds")
    STORED_HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    HA_TOLERANCE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    stored_heartbeat: int
    ha_tolerance_seconds: int
    def __init__(self, stored_heartbeat: _Optional[int] = ..., ha_tolerance_seconds: _Optional[int] = ...) -> None: ...

class RegisterResponse(_message.Message):
    __slots__ = ("lease", "heartbeat_interval", "unexpected_domain_uuids", "ha_tolerance_seconds", "released_domain_uuids", "disk_limits")
    class DiskLimitsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: DiskLimit
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[DiskLimit, _Mapping]] = ...) -> None: ...
    LEASE_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_INTERVAL_FIELD_NUMBER: _ClassVar[int]
    UNEXPECTED_DOMAIN_UUIDS_FIELD_NUMBER: _ClassVar[int]
    HA_TOLERANCE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    RELEASED_DOMAIN_UUIDS_FIELD_NUMBER: _ClassVar[int]
    DISK_LIMITS_FIELD_NUMBER: _ClassVar[int]
    lease: _duration_pb2.Duration
    heartbeat_interval: _duration_pb2.Duration
    unexpected_domain_uuids: _containers.RepeatedScalarFieldContainer[str]
    ha_tolerance_seconds: int
    released_domain_uuids: _containers.RepeatedScalarFieldContainer[str]
    disk_limits: _containers.MessageMap[str, DiskLimit]
    def __init__(self, lease: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., heartbeat_interval: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., unexpected_domain_uuids: _Optional[_Iterable[str]] = ..., ha_tolerance_seconds: _Optional[int] = ..., released_domain_uuids: _Optional[_Iterable[str]] = ..., disk_limits: _Optional[_Mapping[str, DiskLimit]] = ...) -> None: ...

class DiskLimit(_message.Message):
    __slots__ = ("total_iops", "read_iops", "write_iops", "total_bytes_per_second", "read_bytes_per_second", "write_bytes_per_second", "burst_factor", "burst_seconds")
    TOTAL_IOPS_FIELD_NUMBER: _ClassVar[int]
    READ_IOPS_FIELD_NUMBER: _ClassVar[int]
    WRITE_IOPS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    READ_BYTES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    WRITE_BYTES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    BURST_FACTOR_FIELD_NUMBER: _ClassVar[int]
    BURST_SECONDS_FIELD_NUMBER: _ClassVar[int]
    total_iops: int
    read_iops: int
    write_iops: int
    total_bytes_per_second: int
    read_bytes_per_second: int
    write_bytes_per_second: int
    burst_factor: int
    burst_seconds: int
    def __init__(self, total_iops: _Optional[int] = ..., read_iops: _Optional[int] = ..., write_iops: _Optional[int] = ..., total_bytes_per_second: _Optional[int] = ..., read_bytes_per_second: _Optional[int] = ..., write_bytes_per_second: _Optional[int] = ..., burst_factor: _Optional[int] = ..., burst_seconds: _Optional[int] = ...) -> None: ...

class HeartbeatRequest(_message.Message):
    __slots__ = ("session_id", "last_event_sequence", "sequence", "self_fence")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    LAST_EVENT_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    SELF_FENCE_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    last_event_sequence: int
    sequence: int
    self_fence: SelfFence
    def __init__(self, session_id: _Optional[str] = ..., last_event_sequence: _Optional[int] = ..., sequence: _Optional[int] = ..., self_fence: _Optional[_Union[SelfFence, _Mapping]] = ...) -> None: ...

class HeartbeatResponse(_message.Message):
    __slots__ = ("ha_terms",)
    HA_TERMS_FIELD_NUMBER: _ClassVar[int]
    ha_terms: HaTerms
    def __init__(self, ha_terms: _Optional[_Union[HaTerms, _Mapping]] = ...) -> None: ...

class ReportInventoryRequest(_message.Message):
    __slots__ = ("session_id", "facts", "inventory")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    INVENTORY_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    facts: _host_pb2.HostFacts
    inventory: _host_pb2.HostInventory
    def __init__(self, session_id: _Optional[str] = ..., facts: _Optional[_Union[_host_pb2.HostFacts, _Mapping]] = ..., inventory: _Optional[_Union[_host_pb2.HostInventory, _Mapping]] = ...) -> None: ...

class ReportInventoryResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReportedEvent(_message.Message):
    __slots__ = ("sequence", "event")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    event: _domain_pb2.DomainEvent
    def __init__(self, sequence: _Optional[int] = ..., event: _Optional[_Union[_domain_pb2.DomainEvent, _Mapping]] = ...) -> None: ...

class ReportEventsRequest(_message.Message):
    __slots__ = ("session_id", "events")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    events: _containers.RepeatedCompositeFieldContainer[ReportedEvent]
    def __init__(self, session_id: _Optional[str] = ..., events: _Optional[_Iterable[_Union[ReportedEvent, _Mapping]]] = ...) -> None: ...

class ReportEventsResponse(_message.Message):
    __slots__ = ("acknowledged_sequence",)
    ACKNOWLEDGED_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    acknowledged_sequence: int
    def __init__(self, acknowledged_sequence: _Optional[int] = ...) -> None: ...

class RenewCertificateRequest(_message.Message):
    __slots__ = ("certificate_request_pem",)
    CERTIFICATE_REQUEST_PEM_FIELD_NUMBER: _ClassVar[int]
    certificate_request_pem: str
    def __init__(self, certificate_request_pem: _Optional[str] = ...) -> None: ...

class RenewCertificateResponse(_message.Message):
    __slots__ = ("certificate_pem", "authority_pem", "certificate_expires_at")
    CERTIFICATE_PEM_FIELD_NUMBER: _ClassVar[int]
    AUTHORITY_PEM_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    certificate_pem: str
    authority_pem: str
    certificate_expires_at: _timestamp_pb2.Timestamp
    def __init__(self, certificate_pem: _Optional[str] = ..., authority_pem: _Optional[str] = ..., certificate_expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
