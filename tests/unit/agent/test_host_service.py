"""Facts and inventory of a node over real gRPC."""

from __future__ import annotations

import platform
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest

from agent.errors import HypervisorUnavailable
from agent.facts.host import HostReader, agent_version
from agent.rpc.host import HostServicer
from agent.rpc.interceptor import ErrorInterceptor
from agent.storage.base import StorageCapacity
from agent.watchdog.lease import read_boot_id
from protos.agent.v1 import host_pb2, host_pb2_grpc
from tests.unit.agent.domain_server import failure
from tests.unit.agent.sysfs_builder import Machine

MACHINE_UUID = "4c4c4544-0038-5a10-8052-b4c04f4e3732"
STORAGE_ID = "8d1e8c1e-7e64-4a7e-9c60-0e2a4a7a7d13"


@dataclass(frozen=True)
class Capability:
    """What libvirt and QEMU can do."""

    domain_type: str = "kvm"
    accelerator_reason: str = ""
    host_cpu_model: str = "EPYC-Genoa"
    libvirt_version: str = "9.0.0"
    qemu_version: str = "7.2.0"
    traits: tuple[str, ...] = ("uefi", "kvm")


@dataclass
class Server:
    """A service, and the machine that it speaks of."""

    machine: Machine
    capability: Capability | None = field(default_factory=Capability)
    locks_disks: bool = False
    stub: Any = None

    async def read_capability(self) -> Capability:
        if self.capability is None:
            raise HypervisorUnavailable("libvirt is away")
        return self.capability

    async def read_device_users(self, _besides: str) -> dict[str, str]:
        if self.capability is None:
            raise HypervisorUnavailable("libvirt is away")
        return {"sdc": "somebody's"}

    async def read_storage(self) -> StorageCapacity:
        return StorageCapacity(total_bytes=1000, free_bytes=400)

    async def read_local_storage(self) -> int:
        return 300

    async def read_storage_id(self) -> str:
        return STORAGE_ID

    async def facts(self) -> host_pb2.HostFacts:
        answer: host_pb2.HostFacts = await self.stub.GetFacts(host_pb2.GetFactsRequest())
        return answer


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    made = Server(Machine(tmp_path))
    reader = HostReader(
        MACHINE_UUID,
        made.read_capability,
        made.read_storage,
        made.machine.sysfs,
        lambda _, name: {"ID_MODEL": "a disk", "USEC_INITIALIZED": "1", "ID_WWN": f"0x{name}"},
        made.read_device_users,
        tmp_path / "proc",
        read_storage_id=made.read_storage_id,
        read_disk_locks=lambda: made.locks_disks,
        read_local_storage=made.read_local_storage,
    )
    server = grpc.aio.server(interceptors=[ErrorInterceptor()])
    host_pb2_grpc.add_HostServiceServicer_to_server(HostServicer(reader), server)
    address = f"unix:{tmp_path}/agent.sock"
    server.add_insecure_port(address)
    await server.start()
    async with grpc.aio.insecure_channel(address) as channel:
        made.stub = host_pb2_grpc.HostServiceStub(channel)
        yield made
    await server.stop(None)


async def test_facts_are_those_of_the_machine(server: Server) -> None:
    server.machine.add_processors(sockets=2, cores=2, threads=2)
    server.machine.add_numa_node(0, "0-7", memory_gib=16)
    server.machine.add_block("vda", size_gib=1, device="virtio1")
    server.machine.add_nic("eth0", device="virtio2", mtu=1500)
    facts = await server.facts()
    assert (facts.cpu.sockets, facts.cpu.logical_cpus, facts.cpu.libvirt_model) == (2, 8, "EPYC-Genoa")
    assert [node.memory_bytes for node in facts.numa_nodes] == [16 * 1024**3]
    assert [(disk.name, disk.model) for disk in facts.disks] == [("vda", "a disk")]
    assert [(nic.name, nic.mtu_bytes) for nic in facts.nics] == [("eth0", 1500)]


async def test_facts_are_those_of_the_system(server: Server) -> None:
    facts = await server.facts()
    assert (facts.hostname, facts.kernel_release) == (platform.node(), platform.release())
    assert facts.machine_uuid == MACHINE_UUID
    assert host_pb2.Architecture.Name(facts.architecture) == f"ARCHITECTURE_{platform.machine().upper()}"
    assert facts.memory_bytes == psutil.virtual_memory().total
    assert facts.operating_system
    assert facts.booted_at.seconds == int(psutil.boot_time())
    assert facts.boot_id == read_boot_id()
    assert facts.agent_version == agent_version() != ""


async def test_facts_are_those_of_the_hypervisor(server: Server) -> None:
    facts = await server.facts()
    assert (facts.libvirt_version, facts.qemu_version) == ("9.0.0", "7.2.0")
    assert (facts.accelerator, facts.accelerator_reason) == (host_pb2.ACCELERATOR_KVM, "")
    assert server.capability is not None
    server.capability = replace(server.capability, domain_type="qemu", accelerator_reason="no /dev/kvm")
    facts = await server.facts()
    assert (facts.accelerator, facts.accelerator_reason) == (host_pb2.ACCELERATOR_TCG, "no /dev/kvm")


@pytest.mark.parametrize(
    ("module", "value", "traits"),
    [
        ("kvm_intel", "Y", ["kvm", "nested", "uefi"]),
        ("kvm_amd", "1", ["kvm", "nested", "uefi"]),
        ("kvm_amd", "0", ["kvm", "uefi"]),
        ("kvm_intel", "N", ["kvm", "uefi"]),
    ],
)
async def test_guests_may_be_hypervisors_where_the_kernel_allows_it(
    server: Server, module: str, value: str, traits: list[str]
) -> None:
    server.machine.write(f"module/{module}/parameters/nested", value)
    assert list((await server.facts()).traits) == traits


async def test_a_node_tells_whether_libvirt_locks_disks(server: Server) -> None:
    for server.locks_disks in (True, False):
        assert ("disk-locks" in (await server.facts()).traits) == server.locks_disks


async def test_a_machine_whose_kernel_tells_nothing_is_one_cell(server: Server) -> None:
    (node,) = (await server.facts()).numa_nodes
    assert list(node.cpu_ids) == list(range(psutil.cpu_count() or 1))
    assert node.memory_bytes == psutil.virtual_memory().total


async def test_the_inventory_is_what_guests_can_have(server: Server) -> None:
    server.machine.add_processors(sockets=1, cores=4, threads=1, online="0-2")
    assert await server.stub.GetInventory(host_pb2.GetInventoryRequest()) == host_pb2.HostInventory(
        vcpus=3,
        memory_bytes=psutil.virtual_memory().total,
        storage_bytes=1000,
        storage_free_bytes=400,
        storage_id=STORAGE_ID,
        local_storage_bytes=300,
    )


async def test_disks_are_in_the_inventory_with_what_keeps_them_from_being_offered(server: Server) -> None:
    for name in ("sdb", "sdc"):
        server.machine.add_block(name, size_gib=1, device=f"ata1/{name}")
    away = "libvirt, which knows the disks of guests, is away"
    for capability, reasons in ((Capability(), ["", "used by domain somebody's"]), (None, [away, away])):
        server.capability = capability
        devices = (await server.stub.GetInventory(host_pb2.GetInventoryRequest())).devices
        assert [device.id for device in devices] == ["wwn-0xsdb", "wwn-0xsdc"]
        assert [device.withheld_reason for device in devices] == reasons


async def test_without_libvirt_there_is_an_inventory_but_no_facts(server: Server) -> None:
    server.capability = None
    assert await failure(lambda: server.stub.GetFacts(host_pb2.GetFactsRequest())) == (
        "UNAVAILABLE",
        "HypervisorUnavailable",
    )
    assert (await server.stub.GetInventory(host_pb2.GetInventoryRequest())).storage_bytes == 1000
