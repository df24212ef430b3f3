"""Devices of the node in guests that run, on real libvirt and QEMU: what lets go, what does not, and what is said.

Whole disks are loop devices. What needs an IOMMU or a USB bus is tested on the virtual hardware node.
"""

from __future__ import annotations

import asyncio
import base64
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import libvirt
import pytest

from agent.configure.host_device import name_alias
from agent.devices.source import BlockSource, PciSource
from agent.domainxml.assignment import AssignedDomain
from agent.errors import DeviceFaulty, DeviceNotFound, DevicePlugUnsafe, DeviceStillAttached
from agent.hypervisor.description import PowerState
from agent.hypervisor.events import DEVICE_REMOVED
from agent.hypervisor.guest import find_owned
from agent.hypervisor.prober import GuestAgentState
from protos.agent.v1.domain_pb2 import DomainSpec
from tests.lab.host import Host
from tests.loop_device import loop_device
from tests.scenario.domain_agent import DEMO_IMAGE, DomainAgent
from tests.unit.agent.assigned_device import CARD, DISK
from tests.unit.agent.guest_builder import GUEST_UUID, a_spec

pytestmark = [
    pytest.mark.scenario,
    pytest.mark.xdist_group("agents"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

MIB = 1024**2
_ALIAS = name_alias(DISK.uuid)
needs_demo_image = pytest.mark.skipif(not DEMO_IMAGE, reason="needs the demo image of tests/run")


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    host = Host(1, tmp_path_factory.mktemp("agent-devices"))
    host.start_libvirt()
    yield host
    host.end()


@pytest.fixture
def whole_disk(tmp_path: Path) -> Iterator[Path]:
    """A block device."""
    file = tmp_path / "whole-disk"
    file.write_bytes(b"marker of the whole disk".ljust(512) + bytes(8 * MIB - 512))
    with loop_device(file) as path:
        yield path


@pytest.fixture
async def agent(host: Host, whole_disk: Path) -> AsyncIterator[DomainAgent]:
    agent = DomainAgent(host)
    agent.provider.sources = {DISK.uuid: BlockSource(whole_disk)}
    await agent.connection.open()
    probing = asyncio.create_task(agent.prober.run())
    yield agent
    probing.cancel()
    await agent.definitions.ensure_removed(GUEST_UUID)
    await agent.connection.close()


def _deaf_spec() -> DomainSpec:
    """A guest that has nothing to start from, and hence never answers."""
    spec = a_spec(vcpus=1, memory_bytes=64 * MIB, disks=[], nics=[])
    spec.ClearField("cloud_init")
    return spec


async def _start_demo(agent: DomainAgent) -> None:
    await agent.start(a_spec(vcpus=1, memory_bytes=256 * MIB, nics=[]))
    deadline = time.monotonic() + 120
    while await agent.agent_state() is not GuestAgentState.RUNNING:
        assert time.monotonic() < deadline, "the guest agent never came"
        await asyncio.sleep(0.2)


async def _run(agent: DomainAgent, script: str) -> str:
    """What a script writes in the guest."""
    order = {"path": "/bin/sh", "arg": ["-c", script], "capture-output": True}
    answer = await agent.guest_agents.execute(GUEST_UUID, "guest-exec", order, timeout_seconds=60)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        status = await agent.guest_agents.execute(
            GUEST_UUID, "guest-exec-status", {"pid": answer["pid"]}, timeout_seconds=60
        )
        if status["exited"]:
            return base64.b64decode(status.get("out-data", "")).decode(errors="replace")
        await asyncio.sleep(0.1)
    raise AssertionError(f"not within 30 s: {script}")


async def _document(agent: DomainAgent, flags: int = 0) -> AssignedDomain:
    return AssignedDomain(await agent.connection.call(lambda handle: find_owned(handle, GUEST_UUID).XMLDesc(flags)))


async def _has(agent: DomainAgent) -> tuple[bool, bool]:
    """Whether the guest has the disk: live, and from its next start on."""
    live, definition = await _document(agent), await _document(agent, libvirt.VIR_DOMAIN_XML_INACTIVE)
    return bool(live.find(_ALIAS)), bool(definition.find(_ALIAS))


async def _plug_pci_disk(agent: DomainAgent, disk: Path) -> None:
    """On a PCIe port, from which nothing comes out without the guest's help: as any PCI function, but without IOMMU."""
    xml = (
        f"<disk type='block' device='disk'><driver name='qemu' type='raw'/><source dev='{disk}'/>"
        f"<target dev='vdz' bus='virtio'/><alias name='{_ALIAS}'/></disk>"
    )
    both = libvirt.VIR_DOMAIN_AFFECT_LIVE | libvirt.VIR_DOMAIN_AFFECT_CONFIG
    await agent.connection.call(lambda handle: find_owned(handle, GUEST_UUID).attachDeviceFlags(xml, both))


@needs_demo_image
async def test_a_running_guest_gets_a_whole_disk_reads_it_and_lets_it_go(agent: DomainAgent) -> None:
    await _start_demo(agent)
    for _ in range(2):
        await agent.assignments.attach(GUEST_UUID, DISK)
        assert await _has(agent) == (True, True)
    find = f"for d in /sys/block/sd*; do grep -q {8 * MIB // 512} $d/size && echo /dev/${{d##*/}}; done"
    name = ""
    deadline = time.monotonic() + 120
    while not name and time.monotonic() < deadline:
        name = (await _run(agent, find)).strip()
    assert name, await _run(agent, "ls /sys/block; dmesg | tail -20")
    assert (await _run(agent, f"head -c 24 {name}")) == "marker of the whole disk"
    for _ in range(2):
        await agent.assignments.detach(GUEST_UUID, DISK.uuid, grace_seconds=20)
        assert await _has(agent) == (False, False)
    assert not (await _document(agent)).marks
    deadline = time.monotonic() + 120
    while name in await _run(agent, find):
        assert time.monotonic() < deadline


async def test_a_guest_without_a_scsi_controller_gets_one_with_the_disk(agent: DomainAgent) -> None:
    await agent.start(_deaf_spec())
    assert not (await _document(agent)).has_controller("scsi")
    await agent.assignments.attach(GUEST_UUID, DISK)
    assert await _has(agent) == (True, True)
    assert [mark.device_id for mark in (await _document(agent)).marks] == [DISK.device_id]
    # As it is from the next start on.
    await agent.guests.destroy(GUEST_UUID)
    await agent.definitions.check_startable(GUEST_UUID)
    await agent.guests.start(GUEST_UUID)
    assert await _has(agent) == (True, True)


async def test_a_guest_that_does_not_let_go_keeps_the_device(agent: DomainAgent, whole_disk: Path) -> None:
    await agent.start(_deaf_spec())
    await _plug_pci_disk(agent, whole_disk)
    started = time.monotonic()
    with pytest.raises(DeviceStillAttached):
        await agent.assignments.detach(GUEST_UUID, DISK.uuid, grace_seconds=3)
    assert time.monotonic() - started >= 3
    assert await _has(agent) == (True, True)
    # It can be had while the guest is off.
    await agent.guests.destroy(GUEST_UUID)
    await agent.assignments.detach(GUEST_UUID, DISK.uuid, grace_seconds=3)
    assert await _has(agent) == (False, False)


async def test_a_guest_that_ends_meanwhile_has_let_go(agent: DomainAgent, whole_disk: Path) -> None:
    await agent.start(_deaf_spec())
    await _plug_pci_disk(agent, whole_disk)
    detaching = asyncio.create_task(agent.assignments.detach(GUEST_UUID, DISK.uuid, grace_seconds=60))
    await asyncio.sleep(1)
    await agent.guests.destroy(GUEST_UUID)
    await asyncio.wait_for(detaching, 90)
    assert await _has(agent) == (False, False)


@needs_demo_image
async def test_a_guest_with_a_system_lets_go_of_a_pci_device(agent: DomainAgent, whole_disk: Path) -> None:
    await _start_demo(agent)
    await _plug_pci_disk(agent, whole_disk)
    async with agent.events.subscribe() as changes:
        await agent.assignments.detach(GUEST_UUID, DISK.uuid, grace_seconds=60)
        assert await _has(agent) == (False, False)
        told = [changes.get_nowait() for _ in range(changes.qsize())]
    assert _ALIAS in [change.device_alias for change in told if change.kind == DEVICE_REMOVED]


async def test_a_guest_starts_with_its_disk_or_not_at_all(agent: DomainAgent) -> None:
    spec = _deaf_spec()
    spec.host_devices.append(DISK)
    await agent.definitions.ensure_defined(spec)
    agent.provider.failure = DeviceFaulty("the disk has failed")
    with pytest.raises(DeviceFaulty):
        await agent.definitions.check_startable(GUEST_UUID)
    assert await agent.state() is PowerState.SHUTOFF
    agent.provider.failure = None
    await agent.definitions.check_startable(GUEST_UUID)
    await agent.guests.start(GUEST_UUID)
    assert await _has(agent) == (True, True)


async def test_a_card_of_several_functions_waits_until_the_guest_is_off(agent: DomainAgent) -> None:
    agent.provider.sources[CARD.uuid] = PciSource(("0000:ff:1f.0", "0000:ff:1f.1"))
    await agent.start(_deaf_spec())
    before = (await _document(agent, libvirt.VIR_DOMAIN_XML_INACTIVE)).format()
    with pytest.raises(DevicePlugUnsafe, match="2 functions"):
        await agent.assignments.attach(GUEST_UUID, CARD)
    assert (await _document(agent, libvirt.VIR_DOMAIN_XML_INACTIVE)).format() == before
    await agent.guests.destroy(GUEST_UUID)
    await agent.assignments.attach(GUEST_UUID, CARD)
    definition = await _document(agent, libvirt.VIR_DOMAIN_XML_INACTIVE)
    places = [element.find("address") for element in definition.find(name_alias(CARD.uuid))]
    assert [place is not None and place.get("function") for place in places] == ["0x0", "0x1"]
    assert len({place.get("bus") for place in places if place is not None}) == 1


async def test_what_libvirt_refuses_changes_nothing(agent: DomainAgent) -> None:
    agent.provider.sources[DISK.uuid] = BlockSource(Path("/dev/disk/by-id/away"))
    await agent.start(_deaf_spec())
    before = (await _document(agent, libvirt.VIR_DOMAIN_XML_INACTIVE)).format()
    with pytest.raises(DeviceNotFound):
        await agent.assignments.attach(GUEST_UUID, DISK)
    assert (await _document(agent, libvirt.VIR_DOMAIN_XML_INACTIVE)).format() == before
    assert not (await _document(agent)).marks
