"""What agents tell, as it is stored."""

from coordinator.agents.device_report import make_devices
from coordinator.runtime import Runtime
from coordinator.services.host_fact import apply_facts, make_inventory
from coordinator.store.tables import Node
from protos.agent.v1 import host_pb2
from tests.builders import a_node, add


def test_more_than_columns_hold_keeps_no_node_out(runtime: Runtime) -> None:
    """PostgreSQL would refuse the row, and the node could not register."""
    node = a_node(generation=1)
    facts = host_pb2.HostFacts(hostname="h" * 300, agent_version="9" * 40)
    facts.cpu.model_name = "m" * 200
    apply_facts(node, facts)
    offered = host_pb2.HostInventory(vcpus=4, memory_bytes=2**40, storage_bytes=2**64 - 1)
    offered.devices.add(id="disk-0", kind="disk", size_bytes=2**64 - 1)
    with runtime.database.write() as session:
        add(session, node, *make_inventory(node, offered, runtime.settings, 1.0))
        add(session, *make_devices(node.id, offered.devices))
    with runtime.database.read() as session:
        assert session.get_one(Node, node.id).cpu_model == "m" * 127
