"""What an agent tells about its host, as it is stored: columns for the scheduler, JSON for people."""

from typing import Any, Final

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

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
    node.facts = to_plain(facts)


def make_inventory(node_id: str, offered: host_pb2.HostInventory, settings: Settings) -> list[Inventory]:
    """What the host offers, less what the configuration reserves for the host itself."""
    amounts = {
        ResourceClass.VCPU: (offered.vcpus, settings.reserved_host_vcpus, settings.cpu_allocation_ratio),
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


def to_plain(message: Message) -> dict[str, Any]:
    """The message as JSON with its own field names; 64-bit numbers stay numbers, enums are names."""
    return {field.name: _value(field, getattr(message, field.name)) for field in message.DESCRIPTOR.fields}


def _value(field: Any, value: Any) -> Any:
    if field.is_repeated:
        return [_single(field, item) for item in value]
    return _single(field, value)


def _single(field: Any, value: Any) -> Any:
    if isinstance(value, Timestamp):
        return value.ToJsonString() if value.seconds else None
    if isinstance(value, Message):
        return to_plain(value)
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return known.name if known else str(value)
    return value
