"""What an agent tells about its host, as it is stored: columns for the scheduler, JSON for people."""

from typing import Any, Final

from google.protobuf.json_format import MessageToDict
from sqlmodel import Session

from coordinator.config import Settings
from coordinator.domain.placement import ResourceClass
from coordinator.domain.unit import GIB, KIB, MIB
from coordinator.store.tables import Inventory, Node
from protos.agent.v1 import host_pb2

_ARCHITECTURES: Final = {
    host_pb2.ARCHITECTURE_X86_64: "x86",
    host_pb2.ARCHITECTURE_AARCH64: "arm",
}
# Lengths of the columns, and the largest numbers in them.
_NAME_MAXIMUM: Final = 255
_CPU_MODEL_MAXIMUM: Final = 127
_VERSION_MAXIMUM: Final = 32
_AMOUNT_MAXIMUM: Final = 2**31 - 1


def apply_facts(node: Node, facts: host_pb2.HostFacts) -> None:
    """Takes the facts over into the node's columns; the column `facts` keeps them all, named as in the protocol."""
    node.name = facts.hostname[:_NAME_MAXIMUM] or node.name
    node.architecture = _ARCHITECTURES.get(facts.architecture, "")
    node.cpu_model = facts.cpu.model_name[:_CPU_MODEL_MAXIMUM]
    node.agent_version = facts.agent_version[:_VERSION_MAXIMUM]
    node.traits = sorted(facts.traits)
    node.cells = [_cell_of(cell) for cell in facts.numa_nodes]
    node.facts = MessageToDict(facts, preserving_proto_field_name=True)


def make_inventory(
    node: Node, offered: host_pb2.HostInventory, settings: Settings, cpu_ratio: float
) -> list[Inventory]:
    """What the host offers, less what is reserved for the host itself; memory without that set aside as huge pages."""
    huge_pages_mib = sum(sum(cell["huge_pages_mib"].values()) for cell in node.cells)
    memory_mib = max(offered.memory_bytes // MIB - huge_pages_mib, 0)
    amounts = {
        ResourceClass.VCPU: (offered.vcpus, reserved_vcpus_of(node, settings), cpu_ratio),
        ResourceClass.MEMORY_MIB: (memory_mib, reserved_memory_mib_of(node, settings), 1.0),
        ResourceClass.STORAGE_GIB: (offered.storage_bytes // GIB, 0, 1.0),
        ResourceClass.LOCAL_STORAGE_GIB: (offered.local_storage_bytes // GIB, 0, 1.0),
    }
    return [
        Inventory(
            node_id=node.id,
            resource_class=name,
            total=(total := min(offered_amount, _AMOUNT_MAXIMUM)),
            reserved=min(reserved, total),
            allocation_ratio=ratio,
        )
        for name, (offered_amount, reserved, ratio) in amounts.items()
    ]


def reserved_vcpus_of(node: Node, settings: Settings) -> int:
    """CPUs that the host keeps for itself."""
    return settings.reserved_host_vcpus if node.reserved_vcpus is None else node.reserved_vcpus


def reserved_memory_mib_of(node: Node, settings: Settings) -> int:
    """Memory that the host keeps for itself."""
    return settings.reserved_host_memory_mib if node.reserved_memory_mib is None else node.reserved_memory_mib


def reserve(session: Session, node: Node, settings: Settings) -> None:
    """The node's inventory, if it has one, follows what is reserved now."""
    reserved = {
        ResourceClass.VCPU: reserved_vcpus_of(node, settings),
        ResourceClass.MEMORY_MIB: reserved_memory_mib_of(node, settings),
    }
    for name, amount in reserved.items():
        inventory = session.get(Inventory, (node.id, name))
        if inventory:
            inventory.reserved = min(amount, inventory.total)
            session.add(inventory)


def _cell_of(cell: host_pb2.NumaNode) -> dict[str, Any]:
    """Without cores from an agent that does not tell them: every CPU is one."""
    cores = [list(core.cpu_ids) for core in cell.cores] or [[cpu] for cpu in cell.cpu_ids]
    pages = {
        str(pool.page_size_bytes // KIB): pool.total_pages * pool.page_size_bytes // MIB
        for pool in cell.huge_pages
        if pool.total_pages
    }
    memory_mib = cell.memory_bytes // MIB - sum(pages.values())
    return {"id": cell.id, "cores": cores, "memory_mib": memory_mib, "huge_pages_mib": pages}
