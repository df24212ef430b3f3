"""Devices of nodes as their agents report them, and who holds them."""

from typing import Any

from sqlmodel import JSON, BigInteger, Field, SQLModel


class Device(SQLModel, table=True):
    """A device, whatever its kind; what tells it from others is in its attributes."""

    node_id: str = Field(primary_key=True, foreign_key="node.id", max_length=32)
    # Stable on its node over reboots: a PCI address, a disk's WWN.
    id: str = Field(primary_key=True, max_length=127)
    # A coordinator.domain.device.DeviceKind; others are kept, and nobody can ask for them.
    kind: str = Field(max_length=16)
    attributes: dict[str, str] = Field(default_factory=dict, sa_type=JSON)
    # NUMA cell; -1: none, or not known.
    cell: int = -1
    # Capacity of a disk, memory of a GPU.
    size_bytes: int = Field(default=0, sa_type=BigInteger)
    shareable: bool = False
    # Why nobody is given it; empty: it is offered.
    withheld_reason: str = Field(default="", max_length=255)
    # What else the agent tells, named as in the protocol: of no meaning to the scheduler.
    report: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)


class DeviceAllocation(SQLModel, table=True):
    """That a consumer has a device, or a slice of it. All slices of a device together are at most one whole."""

    __tablename__ = "device_allocation"

    consumer_uuid: str = Field(primary_key=True, max_length=36)
    node_id: str = Field(primary_key=True, foreign_key="node.id", max_length=32, index=True)
    device_id: str = Field(primary_key=True, max_length=127)
    kind: str = Field(max_length=16)
    # Of all slices together.
    milli: int
    # How many it has, all of one size.
    slices: int = 1


class CellAllocation(SQLModel, table=True):
    """What a consumer has of one NUMA cell."""

    __tablename__ = "cell_allocation"

    consumer_uuid: str = Field(primary_key=True, max_length=36)
    node_id: str = Field(primary_key=True, foreign_key="node.id", max_length=32, index=True)
    cell: int = Field(primary_key=True)
    vcpus: int
    memory_mib: int
    # Size of the huge pages behind the memory; 0: ordinary pages.
    page_kib: int = 0
    # Host CPUs of its own, whole cores; empty: its vCPUs float over the cell.
    cpus: list[int] = Field(default_factory=list, sa_type=JSON)
