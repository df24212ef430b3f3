"""Compute nodes, what they offer and what they report."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Index
from sqlmodel import JSON, Field, SQLModel

from coordinator.store.column import UtcDateTime
from coordinator.store.tables.base import Timestamped


class Node(Timestamped, table=True):
    """A host that runs an agent."""

    id: str = Field(primary_key=True, max_length=32)
    name: str = Field(max_length=255, index=True)
    machine_uuid: str = Field(unique=True, max_length=64)
    zone: str = Field(default="", max_length=63, index=True)
    # "host:port" of the agent's gRPC server; empty until it registered.
    address: str = Field(default="", max_length=255)
    # "x86" or "arm", the API's spelling.
    architecture: str = Field(default="", max_length=8)
    cpu_model: str = Field(default="", max_length=127)
    # Registered and its lease is alive.
    ready: bool = False
    # Cleared by an operator to keep new instances away.
    schedulable: bool = True
    # Set by an operator: its instances move away, and none come.
    in_maintenance: bool = False
    lease_expires_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    # When the last heartbeat was received that is stored; only such ones are acknowledged to the node.
    heard_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    # Its watchdog runs, as it said then.
    self_fence: bool = False
    # The longest that it may go on with its highly available guests without being heard of.
    ha_tolerance_seconds: int = 0
    session_id: str = Field(default="", max_length=64)
    # The kernel's id of its present run; empty: not told yet.
    boot_id: str = Field(default="", max_length=36)
    last_event_sequence: int = 0
    # Above every other node's after each change that the scheduler should know of.
    generation: int = Field(default=0, index=True, sa_type=BigInteger)
    agent_version: str = Field(default="", max_length=32)
    traits: list[str] = Field(default_factory=list, sa_type=JSON)
    # HostFacts as JSON, for people and for REST.
    facts: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    # NUMA cells: [{id, cores: [[cpu]], memory_mib, huge_pages_mib: {page KiB: MiB}}], for the scheduler.
    cells: list[dict[str, Any]] = Field(default_factory=list, sa_type=JSON)
    # Nodes that tell the same one share their volumes; empty: not told, shared with nobody.
    storage_id: str = Field(default="", max_length=36)
    # Where it makes volumes, by type ("*": all others, "@…": none any more): [id of the StoragePool, id of the place,
    # since when it is silent]. Nodes with the same place share the volumes in it. Empty: its agent does not tell.
    storages: dict[str, list[str]] = Field(default_factory=dict, sa_type=JSON)
    # Kept for the host itself; None: what the configuration says.
    reserved_vcpus: int | None = None
    reserved_memory_mib: int | None = None
    # Where it stands, as operators say; placement can spread or gather by them.
    label: str = Field(default="", max_length=63)
    rack: str = Field(default="", max_length=63)
    switch: str = Field(default="", max_length=63)
    net_switch: str = Field(default="", max_length=63)

    @property
    def host_ip(self) -> str:
        """Address of the host, without port and brackets; empty until it registered."""
        return self.address.rpartition(":")[0].strip("[]")


class Inventory(SQLModel, table=True):
    """Counted capacity of one resource class on one node."""

    node_id: str = Field(primary_key=True, foreign_key="node.id", max_length=32)
    # A coordinator.domain.placement.ResourceClass.
    resource_class: str = Field(primary_key=True, max_length=32)
    total: int
    reserved: int = 0
    allocation_ratio: float = 1.0


class Allocation(SQLModel, table=True):
    """What one consumer holds of one resource class on one node."""

    # Sums are made of it alone.
    __table_args__ = (Index("ix_allocation_use", "node_id", "resource_class", "amount"),)

    consumer_uuid: str = Field(primary_key=True, max_length=36)
    node_id: str = Field(primary_key=True, foreign_key="node.id", max_length=32)
    resource_class: str = Field(primary_key=True, max_length=32)
    amount: int
    # True: claimed over gRPC by another scheduler.
    external: bool = False


class ReportedDomain(SQLModel, table=True):
    """A domain as its node last reported it, foreign ones included."""

    __tablename__ = "reported_domain"

    node_id: str = Field(primary_key=True, foreign_key="node.id", max_length=32)
    uuid: str = Field(primary_key=True, max_length=36)
    name: str = Field(max_length=255)
    foreign: bool
    power_state: str = Field(max_length=16)
    # 0: not told.
    vcpus: int = 0
    memory_bytes: int = Field(default=0, sa_type=BigInteger)
    reported_at: datetime = Field(sa_type=UtcDateTime)
