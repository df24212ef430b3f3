"""What an agent tells about its host, as it is stored: columns for the scheduler, JSON for people."""

from typing import Final

from google.protobuf.json_format import MessageToDict

from coordinator.config import Settings
from coordinator.domain.placement import ResourceClass
from coordinator.domain.unit import GIB, MIB
from coordinator.store.tables import Inventory, Node
from protos.agent.v1 import host_pb2

_ARCHITECTURES: Final = {
    host_pb2.ARCHITECTURE_X86_64: "x86",
    host_pb2.ARCHITECTURE_AARCH64: "arm",
}


def apply_facts(node: Node, facts: host_pb2.HostFacts) -> None:
    """Takes the facts over into the node's columns; the column `facts` keeps them all, named as in the protocol."""
    node.name = facts.hostname or node.name
    node.architecture = _ARCHITECTURES.get(facts.architecture, "")
    node.cpu_model = facts.cpu.model_name
    node.agent_version = facts.agent_version
    node.traits = sorted(facts.traits)
    node.facts = MessageToDict(facts, preserving_proto_field_name=True)


def make_inventory(
    node_id: str, offered: host_pb2.HostInventory, settings: Settings, cpu_ratio: float
) -> list[Inventory]:
    """What the host offers, less what the configuration reserves for the host itself."""
    amounts = {
        ResourceClass.VCPU: (offered.vcpus, settings.reserved_host_vcpus, cpu_ratio),
        ResourceClass.MEMORY_MIB: (offered.memory_bytes // MIB, settings.reserved_host_memory_mib, 1.0),
        ResourceClass.STORAGE_GIB: (offered.storage_bytes // GIB, 0, 1.0),
    }
    return [
        Inventory(
            node_id=node_id,
            resource_class=name,
            total=total,
            reserved=min(reserved, total),
            allocation_ratio=ratio,
        )
        for name, (total, reserved, ratio) in amounts.items()
    ]
