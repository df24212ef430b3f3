import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from protos.agent.v1 import domain_pb2 as _domain_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class MigrationPhase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MIGRATION_PHASE_UNSPECIFIED: _ClassVar[MigrationPhase]
    MIGRATION_PHASE_PREPARING: _ClassVar[MigrationPhase]
    MIGRATION_PHASE_DISKS: _ClassVar[MigrationPhase]
    MIGRATION_PHASE_MEMORY: _ClassVar[MigrationPhase]
    MIGRATION_PHASE_POST_COPY: _ClassVar[MigrationPhase]

class MigrationState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MIGRATION_STATE_UNSPECIFIED: _ClassVar[MigrationState]
    MIGRATION_STATE_RUNNING: _ClassVar[MigrationState]
    MIGRATION_STATE_COMPLETED: _ClassVar[MigrationState]
    MIGRATION_STATE_FAILED: _ClassVar[MigrationState]
    MIGRATION_STATE_CANCELED: _ClassVar[MigrationState]
    MIGRATION_STATE_UNDECIDED: _ClassVar[MigrationState]
MIGRATION_PHASE_UNSPECIFIED: MigrationPhase
MIGRATION_PHASE_PREPARING: MigrationPhase
MIGRATION_PHASE_DISKS: MigrationPhase
MIGRATION_PHASE_MEMORY: MigrationPhase
MIGRATION_PHASE_POST_COPY: MigrationPhase
MIGRATION_STATE_UNSPECIFIED: MigrationState
MIGRATION_STATE_RUNNING: MigrationState
MIGRATION_STATE_COMPLETED: MigrationState
MIGRATION_STATE_FAILED: MigrationState
MIGRATION_STATE_CANCELED: MigrationState
MIGRATION_STATE_UNDECIDED: MigrationState

class InspectOutgoingRequest(_message.Message):
    __slots__ = ("uuid",)
    UUID_FIELD_NUMBER: _ClassVar[int]
    uuid: str
    def __init__(self, uuid: _Optional[str] = ...) -> None: ...

class OutgoingGuest(_message.Message):
    __slots__ = ("machine", "cpu_xml", "blockers")
    MACHINE_FIELD_NUMBER: _ClassVar[int]
    CPU_XML_FIELD_NUMBER: _ClassVar[int]
    BLOCKERS_FIELD_NUMBER: _ClassVar[int]
    machine: str
    cpu_xml: str
    blockers: _containers.RepeatedCompositeFieldContainer[MigrationBlocker]
    def __init__(self, machine: _Optional[str] = ..., cpu_xml: _Optional[str] = ..., blockers: _Optional[_Iterable[_Union[MigrationBlocker, _Mapping]]] = ...) -> None: ...

class MigrationBlocker(_message.Message):
    __slots__ = ("code", "detail")
    CODE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    code: str
    detail: str
    def __init__(self, code: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...

class PrepareIncomingRequest(_message.Message):
    __slots__ = ("spec", "migration_id", "machine", "cpu_xml", "network_role")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    MIGRATION_ID_FIELD_NUMBER: _ClassVar[int]
    MACHINE_FIELD_NUMBER: _ClassVar[int]
    CPU_XML_FIELD_NUMBER: _ClassVar[int]
    NETWORK_ROLE_FIELD_NUMBER: _ClassVar[int]
    spec: _domain_pb2.DomainSpec
    migration_id: str
    machine: str
    cpu_xml: str
    network_role: str
    def __init__(self, spec: _Optional[_Union[_domain_pb2.DomainSpec, _Mapping]] = ..., migration_id: _Optional[str] = ..., machine: _Optional[str] = ..., cpu_xml: _Optional[str] = ..., network_role: _Optional[str] = ...) -> None: ...

class IncomingGuest(_message.Message):
    __slots__ = ("definition_xml", "node_id", "control_address", "data_address")
    DEFINITION_XML_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    CONTROL_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    DATA_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    definition_xml: str
    node_id: str
    control_address: str
    data_address: str
    def __init__(self, definition_xml: _Optional[str] = ..., node_id: _Optional[str] = ..., control_address: _Optional[str] = ..., data_address: _Optional[str] = ...) -> None: ...

class MigrateRequest(_message.Message):
    __slots__ = ("uuid", "migration_id", "target", "copied_volume_uuids", "tls", "bandwidth_mib_per_second", "max_downtime_ms", "most_downtime_ms", "auto_converge", "allow_post_copy", "multifd_channels", "stalled_iterations", "most_iterations")
    UUID_FIELD_NUMBER: _ClassVar[int]
    MIGRATION_ID_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    COPIED_VOLUME_UUIDS_FIELD_NUMBER: _ClassVar[int]
    TLS_FIELD_NUMBER: _ClassVar[int]
    BANDWIDTH_MIB_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    MAX_DOWNTIME_MS_FIELD_NUMBER: _ClassVar[int]
    MOST_DOWNTIME_MS_FIELD_NUMBER: _ClassVar[int]
    AUTO_CONVERGE_FIELD_NUMBER: _ClassVar[int]
    ALLOW_POST_COPY_FIELD_NUMBER: _ClassVar[int]
    MULTIFD_CHANNELS_FIELD_NUMBER: _ClassVar[int]
    STALLED_ITERATIONS_FIELD_NUMBER: _ClassVar[int]
    MOST_ITERATIONS_FIELD_NUMBER: _ClassVar[int]
    uuid: str
    migration_id: str
    target: IncomingGuest
    copied_volume_uuids: _containers.RepeatedScalarFieldContainer[str]
    tls: bool
    bandwidth_mib_per_second: int
    max_downtime_ms: int
    most_downtime_ms: int
    auto_converge: bool
    allow_post_copy: bool
    multifd_channels: int
    stalled_iterations: int
    most_iterations: int
    def __init__(self, uuid: _Optional[str] = ..., migration_id: _Optional[str] = ..., target: _Optional[_Union[IncomingGuest, _Mapping]] = ..., copied_volume_uuids: _Optional[_Iterable[str]] = ..., tls: _Optional[bool] = ..., bandwidth_mib_per_second: _Optional[int] = ..., max_downtime_ms: _Optional[int] = ..., most_downtime_ms: _Optional[int] = ..., auto_converge: _Optional[bool] = ..., allow_post_copy: _Optional[bool] = ..., multifd_channels: _Optional[int] = ..., stalled_iterations: _Optional[int] = ..., most_iterations: _Optional[int] = ...) -> None: ...

class MigrationProgress(_message.Message):
    __slots__ = ("elapsed", "phase", "memory_total_bytes", "memory_done_bytes", "memory_remaining_bytes", "disk_total_bytes", "disk_done_bytes", "disk_remaining_bytes", "bytes_per_second", "iteration", "dirty_bytes_per_second", "expected_downtime_ms", "throttle_percent", "outcome")
    ELAPSED_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    MEMORY_TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_DONE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_REMAINING_BYTES_FIELD_NUMBER: _ClassVar[int]
    DISK_TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    DISK_DONE_BYTES_FIELD_NUMBER: _ClassVar[int]
    DISK_REMAINING_BYTES_FIELD_NUMBER: _ClassVar[int]
    BYTES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    ITERATION_FIELD_NUMBER: _ClassVar[int]
    DIRTY_BYTES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_DOWNTIME_MS_FIELD_NUMBER: _ClassVar[int]
    THROTTLE_PERCENT_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    elapsed: _duration_pb2.Duration
    phase: MigrationPhase
    memory_total_bytes: int
    memory_done_bytes: int
    memory_remaining_bytes: int
    disk_total_bytes: int
    disk_done_bytes: int
    disk_remaining_bytes: int
    bytes_per_second: int
    iteration: int
    dirty_bytes_per_second: int
    expected_downtime_ms: int
    throttle_percent: int
    outcome: MigrationOutcome
    def __init__(self, elapsed: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., phase: _Optional[_Union[MigrationPhase, str]] = ..., memory_total_bytes: _Optional[int] = ..., memory_done_bytes: _Optional[int] = ..., memory_remaining_bytes: _Optional[int] = ..., disk_total_bytes: _Optional[int] = ..., disk_done_bytes: _Optional[int] = ..., disk_remaining_bytes: _Optional[int] = ..., bytes_per_second: _Optional[int] = ..., iteration: _Optional[int] = ..., dirty_bytes_per_second: _Optional[int] = ..., expected_downtime_ms: _Optional[int] = ..., throttle_percent: _Optional[int] = ..., outcome: _Optional[_Union[MigrationOutcome, _Mapping]] = ...) -> None: ...

class MigrationOutcome(_message.Message):
    __slots__ = ("migration_id", "uuid", "state", "reason", "elapsed")
    MIGRATION_ID_FIELD_NUMBER: _ClassVar[int]
    UUID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ELAPSED_FIELD_NUMBER: _ClassVar[int]
    migration_id: str
    uuid: str
    state: MigrationState
    reason: str
    elapsed: _duration_pb2.Duration
    def __init__(self, migration_id: _Optional[str] = ..., uuid: _Optional[str] = ..., state: _Optional[_Union[MigrationState, str]] = ..., reason: _Optional[str] = ..., elapsed: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class CancelMigrationRequest(_message.Message):
    __slots__ = ("uuid", "migration_id")
    UUID_FIELD_NUMBER: _ClassVar[int]
    MIGRATION_ID_FIELD_NUMBER: _ClassVar[int]
    uuid: str
    migration_id: str
    def __init__(self, uuid: _Optional[str] = ..., migration_id: _Optional[str] = ...) -> None: ...

class GetMigrationOutcomeRequest(_message.Message):
    __slots__ = ("migration_id",)
    MIGRATION_ID_FIELD_NUMBER: _ClassVar[int]
    migration_id: str
    def __init__(self, migration_id: _Optional[str] = ...) -> None: ...

class EnsureIncomingRemovedRequest(_message.Message):
    __slots__ = ("uuid", "migration_id")
    UUID_FIELD_NUMBER: _ClassVar[int]
    MIGRATION_ID_FIELD_NUMBER: _ClassVar[int]
    uuid: str
    migration_id: str
    def __init__(self, uuid: _Optional[str] = ..., migration_id: _Optional[str] = ...) -> None: ...

class EnsureIncomingRemovedResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
