"""Cheap hosts for `fleet`: many real agents' sessions in one process, on libvirt's test driver.

Each host has an identity, a certificate, a connection to the coordinator and a libvirt of its own, with guests in it;
what it reports, when and how, is the agent's own code. Hosts of a process share the reading of the hardware, for it is
one machine that is built in a directory, and differ in name, address and free space. They serve no calls.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any, Final, Self, TypeVar
from uuid import NAMESPACE_URL, uuid5

import libvirt

from agent.coordinator_client import CoordinatorClient
from agent.devices.change import DeviceWatch
from agent.enrolment import enrol
from agent.facts.host import HostReader
from agent.facts.memory import Memory
from agent.hypervisor.capability import CapabilityReader
from agent.hypervisor.connection import Connection
from agent.hypervisor.events import DomainEvents
from agent.hypervisor.guest import Guests
from agent.hypervisor.guest_agent import GuestAgents
from agent.hypervisor.prober import GuestAgentProber
from agent.identity import Identity
from agent.log import configure_log
from agent.renewal import CertificateRenewal
from agent.reporter import DomainView, Reporter
from agent.self_fence import SelfFence
from agent.storage.base import StorageCapacity
from agent.watchdog.record import FenceRecord
from protos.agent.v1.host_pb2 import HostFacts, HostInventory
from protos.coordinator.v1 import node_pb2
from tests.unit.agent.sysfs_builder import Machine

GIB: Final = 1024**3

_MEMORY_GIB: Final = 768
_STORAGE_BYTES: Final = 15_000 * GIB
# Just enough to be news.
_WRITTEN_BYTES: Final = GIB
_JOINING_AT_ONCE: Final = 8
_GUEST: Final = """
<domain type="test">
  <name>guest-{number}</name>
  <uuid>{uuid}</uuid>
  <metadata><nw:domain xmlns:nw="https://nodewright.dev/xmlns/domain/1" generation="1"/></metadata>
  <memory unit="GiB">4</memory>
  <vcpu>2</vcpu>
  <os><type>hvm</type></os>
</domain>
"""

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Order:
    """The hosts of one process."""

    numbers: Sequence[int]
    guests: int
    # Of a host's inventories, the share that has news.
    news: float
    coordinator_url: str
    # Each host's state; on a disk, as an agent's is.
    directory: Path
    # What is kept in memory where agents run.
    run_directory: Path


def guest_uuid(host: int, guest: int) -> str:
    """The UUID of a host's guest."""
    return str(uuid5(NAMESPACE_URL, f"bench:{host}:{guest}"))


class SharedMachine:
    """The hardware that all hosts have, read once by the agent's own reader."""

    def __init__(self, facts: HostFacts, inventory: HostInventory, news: float) -> None:
        self.facts = facts
        self.inventory = inventory
        self.news = news

    @classmethod
    async def build(cls, directory: Path, news: float) -> Self:
        """Two sockets with 64 cores of two threads, eight disks, four cards."""
        machine = _build_sysfs(directory)
        connection = Connection("test:///default", worker_count=1)
        await connection.open()

        async def read_storage() -> StorageCapacity:
            return StorageCapacity(total_bytes=_STORAGE_BYTES, free_bytes=_STORAGE_BYTES)

        reader = HostReader(
            "",
            CapabilityReader(connection, directory / "accelerator.json").get,
            read_storage,
            sysfs=machine.sysfs,
            read_properties=lambda _, name: {"ID_SERIAL_SHORT": f"S{name}", "ID_MODEL": "bench", "ID_WWN": f"0x{name}"},
        )
        facts, inventory = await reader.facts(), await reader.inventory()
        facts.memory_bytes = inventory.memory_bytes = _MEMORY_GIB * GIB
        await connection.close()
        return cls(facts, inventory, news)


class CheapHost:
    """One of the hosts, as the agent's `reporter.Host`."""

    def __init__(self, machine: SharedMachine, number: int) -> None:
        self._machine = machine
        self._number = number
        self._free_bytes = _STORAGE_BYTES

    @property
    def address(self) -> str:
        """Where nobody answers."""
        return f"127.2.{self._number >> 8}.{self._number & 255}:9"

    async def facts(self, _memory: Memory | None = None) -> HostFacts:
        """What differs is set."""
        facts = HostFacts()
        facts.CopyFrom(self._machine.facts)
        facts.hostname = f"host-{self._number:05}"
        facts.machine_uuid = machine_uuid(self._number)
        return facts

    async def inventory(self, _memory: Memory | None = None) -> HostInventory:
        """Guests have written to their disks, or have not."""
        inventory = HostInventory()
        inventory.CopyFrom(self._machine.inventory)
        if random.random() < self._machine.news:
            self._free_bytes = max(self._free_bytes - _WRITTEN_BYTES, GIB)
        inventory.storage_free_bytes = self._free_bytes
        return inventory


class CountingClient(CoordinatorClient):
    """The agent's client, which counts what succeeds."""

    def __init__(self, address: str, identity: Identity, counts: Counter[str]) -> None:
        super().__init__(address, identity.credentials())
        self._counts = counts

    async def register(self, request: node_pb2.RegisterRequest) -> node_pb2.RegisterResponse:
        """See CoordinatorClient."""
        answer = await super().register(request)
        self._counts["registrations"] += 1
        return answer

    async def heartbeat(
        self, request: node_pb2.HeartbeatRequest, timeout_seconds: float = 15.0
    ) -> node_pb2.HeartbeatResponse:
        """See CoordinatorClient."""
        answer = await super().heartbeat(request, timeout_seconds)
        self._counts["heartbeats"] += 1
        return answer

    async def report_inventory(self, request: node_pb2.ReportInventoryRequest) -> None:
        """See CoordinatorClient."""
        await super().report_inventory(request)
        self._counts["inventories"] += 1

    async def report_events(self, request: node_pb2.ReportEventsRequest) -> int:
        """See CoordinatorClient."""
        acknowledged = await super().report_events(request)
        self._counts["events"] += len(request.events)
        return acknowledged


@dataclass
class Agent:
    """A host's agent, as far as it talks to the coordinator."""

    number: int
    order: Order
    identity: Identity = field(init=False)
    connection: Connection = field(init=False)
    has_session: bool = False

    def __post_init__(self) -> None:
        home = self.order.directory / f"{self.number:05}"
        home.mkdir()
        self.identity = Identity(home, home / "pki")
        node = home / "node.xml"
        guests = (_GUEST.format(number=it, uuid=guest_uuid(self.number, it)) for it in range(self.order.guests))
        node.write_text(f"<node>{''.join(guests)}</node>")
        self.connection = Connection(f"test://{node}", worker_count=1, guest_agent_worker_count=1)

    async def join(self, token: str) -> str:
        """Its node's id: got as any machine gets it."""
        membership = await enrol(
            self.identity,
            coordinator_url=self.order.coordinator_url,
            token=token,
            machine_uuid=machine_uuid(self.number),
        )
        return membership.node_id

    async def serve(self, machine: SharedMachine, counts: Counter[str]) -> None:
        """What an agent does beside answering calls, until it is cancelled."""
        events = DomainEvents(self.connection)
        run_dir = self.order.run_directory / f"{self.number:05}"
        self_fence = SelfFence(run_dir, FenceRecord(run_dir / "fenced"))
        guests = Guests(self.connection, events, check_start=self_fence.check_startable)
        prober = GuestAgentProber(guests, GuestAgents(self.connection, allowed_commands=()), events)
        client = CountingClient(self.identity.membership().coordinator_address, self.identity, counts)
        host = CheapHost(machine, self.number)

        def on_session(present: bool) -> None:
            # Also told of sessions that could not begin.
            counts["sessions"] += present - self.has_session
            self.has_session = present

        view = DomainView(guests, prober)
        reporter = Reporter(
            client,
            host,
            view,
            events,
            self_fence,
            DeviceWatch(),  # nothing is plugged here
            advertise_address=lambda: host.address,
            zone="",
            on_session=on_session,
        )
        renewal = CertificateRenewal(self.identity, client, on_renewed=client.reload)
        async with AsyncExitStack() as stack, asyncio.TaskGroup() as loops:
            stack.push_async_callback(self.connection.close)
            stack.push_async_callback(client.close)
            await self.connection.open()
            for loop in (reporter.run(), prober.run(), renewal.run()):
                loops.create_task(loop)

    async def change(self, guest: int, action: str) -> None:
        """A person does something to a guest: "suspend", "resume"."""

        def act(handle: libvirt.virConnect) -> None:
            getattr(handle.lookupByUUIDString(guest_uuid(self.number, guest)), action)()

        await self.connection.call(act)


def machine_uuid(host: int) -> str:
    """The identity of the machine."""
    return str(uuid5(NAMESPACE_URL, f"bench:{host}"))


def run_hosts(pipe: Pipe, order: Order) -> None:
    """Does what comes through the pipe, in a process of its own, and answers through it, until "stop" comes."""
    configure_log("ERROR")
    asyncio.run(_HostProcess(pipe, order).run())


class _HostProcess:
    def __init__(self, pipe: Pipe, order: Order) -> None:
        self._pipe = pipe
        self._order = order
        self._agents = {number: Agent(number, order) for number in order.numbers}
        self._counts: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def run(self) -> None:
        machine = await SharedMachine.build(self._order.directory, self._order.news)
        while True:
            match await asyncio.to_thread(self._pipe.recv):
                case "join", tokens:
                    self._pipe.send(await self._join(tokens))
                case "serve", None:
                    for agent in self._agents.values():
                        self._begin(agent.serve(machine, self._counts))
                case "change", (host, guest, action):
                    self._begin(self._agents[host].change(guest, action))
                case "count", None:
                    self._pipe.send(self._counts.copy())
                case _:
                    break
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _join(self, tokens: dict[int, str]) -> dict[int, str]:
        slots = asyncio.Semaphore(_JOINING_AT_ONCE)

        async def join(number: int, token: str) -> tuple[int, str]:
            async with slots:
                return number, await self._agents[number].join(token)

        return dict(await asyncio.gather(*(join(number, token) for number, token in tokens.items())))

    def _begin(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self._counts["failures"] += 1
            print(f"a host failed: {error!r}", flush=True)


def _build_sysfs(directory: Path) -> Machine:
    machine = Machine(directory)
    machine.add_processors(sockets=2, cores=32, threads=2)
    for cell in range(2):
        machine.add_numa_node(cell, f"{cell * 32}-{cell * 32 + 31},{cell * 32 + 64}-{cell * 32 + 95}", _MEMORY_GIB // 2)
    for number in range(8):
        device = f"pci0000:00/0000:{number + 1:02x}:00.0/nvme/nvme{number}"
        machine.add_block(f"nvme{number}n1", size_gib=1788, device=device, queue__rotational=0)
    for number in range(4):
        device = f"pci0000:80/0000:{number + 129:02x}:00.0"
        machine.add_nic(f"eth{number}", device=device, address=f"02:00:00:00:00:0{number}", mtu=1500, speed=25_000)
    return machine
