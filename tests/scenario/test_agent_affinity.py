"""Pins, cells and memory of guests on real libvirt and QEMU, and where their threads really run."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from agent.configure.pipeline import build_domain
from agent.cpu_list import format_cpu_list, parse_cpu_list
from agent.errors import CpuPinned, CpusExhausted, MemoryLockRefused
from agent.hypervisor.affinity import parse_host_cells
from agent.hypervisor.description import PowerState
from agent.recovery import AffinityRecovery
from protos.agent.v1.domain_pb2 import DomainSpec
from tests.lab.host import Host
from tests.scenario.domain_agent import DomainAgent
from tests.unit.agent.guest_builder import GUEST_UUID, a_cell, a_spec

MIB = 1024**2
DEDICATED = "ecs-dedicated"
DEDICATED_UUID = "1d1e8c1e-7e64-4a7e-9c60-0e2a4a7a7d11"
ONLINE = parse_cpu_list(Path("/sys/devices/system/cpu/online").read_text())
ALL, ALL_BUT_0 = format_cpu_list(ONLINE), format_cpu_list(ONLINE[1:])
CELL_COUNT = len(list(Path("/sys/devices/system/node").glob("node[0-9]*")))
PAGE_BYTES = 2 * MIB
PAGE_COUNT = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")
# RLIMIT_MEMLOCK is raised with CAP_SYS_RESOURCE, which libvirtd has on a real host, and a container often lacks.
CAN_LOCK = not subprocess.run(
    [sys.executable, "-c", "import resource as r; r.setrlimit(r.RLIMIT_MEMLOCK, (r.RLIM_INFINITY,) * 2)"],
    check=False,
    stderr=subprocess.DEVNULL,
).returncode

pytestmark = [
    pytest.mark.scenario,
    pytest.mark.xdist_group("agents"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(ONLINE[:2] != [0, 1] or CELL_COUNT > 1, reason="needs CPUs 0 and 1, and one cell"),
]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    host = Host(1, tmp_path_factory.mktemp("agent-affinity"))
    # libvirt looks for it when it starts.
    host.namespace.run("mkdir", "/run/huge-pages")
    host.namespace.run("mount", "-t", "hugetlbfs", "hugetlbfs", "/run/huge-pages", check=False)
    host.start_libvirt()
    yield host
    host.end()


@pytest.fixture
async def agent(host: Host) -> AsyncIterator[DomainAgent]:
    agent = DomainAgent(host)
    await agent.connection.open()
    yield agent
    for uuid in (DEDICATED_UUID, GUEST_UUID):
        await agent.definitions.ensure_removed(uuid)
    await agent.connection.close()


def _floating() -> DomainSpec:
    return a_spec(vcpus=2, memory_bytes=64 * MIB, disks=[], nics=[])


def _dedicated(*pins: int, **changes: object) -> DomainSpec:
    spec = a_spec(
        uuid=DEDICATED_UUID,
        name=DEDICATED,
        vcpus=len(pins),
        memory_bytes=64 * MIB,
        disks=[],
        nics=[],
        cells=[a_cell(0, *pins, memory_bytes=64 * MIB)],
    )
    spec.MergeFrom(DomainSpec(**changes))  # type: ignore[arg-type]
    return spec


def _pins(host: Host, name: str, *flags: str) -> list[str]:
    """The CPUs of each vCPU as virsh shows them, then those of the rest of QEMU."""
    lines = host.virsh("vcpupin", name, *flags) + host.virsh("emulatorpin", name, *flags)
    return [line.split()[-1] for line in lines.splitlines() if line.strip()]


def _allowed(host: Host, name: str) -> list[str]:
    """The same as the kernel knows it: of the threads of the vCPUs, then of the main thread."""
    script = f"cd /proc/$(cat /run/libvirt/qemu/{name}.pid)/task && grep -H . */comm */status"
    allowed, names = {}, {}
    for line in host.namespace.run("bash", "-c", script).splitlines():
        file, _, text = line.partition(":")
        thread, kind = file.split("/")
        if kind == "comm":
            names[int(thread)] = text
        elif text.startswith("Cpus_allowed_list:"):
            allowed[int(thread)] = text.split()[1]
    vcpus = sorted(
        (found.group(1), thread) for thread, name in names.items() if (found := re.match(r"CPU (\d+)", name))
    )
    return [allowed[thread] for _, thread in vcpus] + [allowed[min(allowed)]]


async def test_a_floating_guest_moves_off_a_pinned_cpu_and_has_it_back(agent: DomainAgent, host: Host) -> None:
    floating = _floating()
    await agent.start(floating)
    assert _pins(host, floating.name) == [ALL] * 3

    await agent.start(_dedicated(0))
    assert _pins(host, DEDICATED) == _pins(host, DEDICATED, "--config") == _allowed(host, DEDICATED) == ["0", ALL_BUT_0]
    for flag in ("--live", "--config"):
        assert _pins(host, floating.name, flag) == [ALL_BUT_0] * 3
    assert _allowed(host, floating.name) == [ALL_BUT_0] * 3
    assert 'nodeset="0"' in host.virsh("dumpxml", DEDICATED).replace("'", '"')

    await agent.definitions.ensure_removed(DEDICATED_UUID)
    for flag in ("--live", "--config"):
        assert _pins(host, floating.name, flag) == [ALL] * 3
    assert _allowed(host, floating.name) == [ALL] * 3


async def test_the_last_cpu_of_a_guest_that_runs_and_one_of_another_guest_are_refused(
    agent: DomainAgent, host: Host
) -> None:
    floating = _floating()
    await agent.start(floating)
    with pytest.raises(CpusExhausted, match=floating.name):
        await agent.definitions.ensure_defined(_dedicated(*ONLINE))
    assert host.domain_state(DEDICATED) == "absent"
    await agent.definitions.ensure_defined(_dedicated(0))
    floating.cells.append(a_cell(0, 0, 1, memory_bytes=64 * MIB))
    floating.generation += 1
    with pytest.raises(CpuPinned, match=DEDICATED):
        await agent.definitions.ensure_defined(floating)


async def test_an_agent_that_ended_in_between_makes_room_when_it_starts(agent: DomainAgent, host: Host) -> None:
    floating = _floating()
    await agent.start(floating)
    # All that the agent did before it ended is that libvirt has the definition.
    profile = await agent.read_profile()
    async with agent.affinities.defining(GUEST_UUID, floating.name, frozenset()) as cpus:
        pass

    spec = _dedicated(0)
    await agent.guests.define(build_domain(spec, replace(profile, cpus=cpus)), generation=spec.generation)
    assert _pins(host, floating.name) == [ALL] * 3

    later = DomainAgent(host)
    await later.connection.open()
    recovering = asyncio.create_task(AffinityRecovery(later.connection, later.affinities, later.events).run())
    try:
        async with asyncio.timeout(60):
            while _pins(host, floating.name) != [ALL_BUT_0] * 3:
                await asyncio.sleep(0.1)
        await agent.connection.call(lambda handle: handle.lookupByName(DEDICATED).undefine())
        async with asyncio.timeout(60):
            while _pins(host, floating.name, "--config") != [ALL] * 3:
                await asyncio.sleep(0.1)
    finally:
        recovering.cancel()
        with suppress(asyncio.CancelledError):
            await recovering
        await later.connection.close()


async def test_the_cells_of_this_machine_are_known(agent: DomainAgent) -> None:
    cells = await agent.connection.call(lambda handle: parse_host_cells(handle.getCapabilities()))
    assert sorted(cpu for cell in cells for cpu in cell.cpus) == ONLINE


async def test_a_guest_that_sees_its_cells_starts(agent: DomainAgent, host: Host) -> None:
    await agent.start(_dedicated(0, 1, has_virtual_numa=True))
    assert _allowed(host, DEDICATED)[:2] == ["0", "1"]
    command = host.namespace.run("bash", "-c", f"tr '\\0' ' ' < /proc/$(cat /run/libvirt/qemu/{DEDICATED}.pid)/cmdline")
    assert "-numa node,nodeid=0,cpus=0-1" in command
    assert re.search(r'"host-nodes":\[0\],"policy":"bind"', command)


async def test_locked_memory_is_resident_or_refused_by_name(agent: DomainAgent, host: Host) -> None:
    spec = _dedicated(0, memory_locked=True)
    await agent.definitions.ensure_defined(spec)
    if not CAN_LOCK:
        with pytest.raises(MemoryLockRefused, match="memory_locked"):
            await agent.guests.start(DEDICATED_UUID)
        assert (await agent.guests.get(DEDICATED_UUID)).power_state is PowerState.SHUTOFF
        return
    await agent.guests.start(DEDICATED_UUID)
    status = host.namespace.run("bash", "-c", f"cat /proc/$(cat /run/libvirt/qemu/{DEDICATED}.pid)/status")
    locked = re.search(r"VmLck:\s+(\d+) kB", status)
    assert locked is not None
    assert int(locked.group(1)) * 1024 >= spec.memory_bytes


@pytest.fixture
def huge_pages() -> Iterator[int]:
    """Pages for one guest, where the machine can spare them; what it had comes back."""
    before = int(PAGE_COUNT.read_text()) if PAGE_COUNT.exists() else 0
    wanted = before + 64 * MIB // PAGE_BYTES
    with suppress(OSError):
        PAGE_COUNT.write_text(str(wanted))
    try:
        if not PAGE_COUNT.exists() or int(PAGE_COUNT.read_text()) < wanted:
            pytest.skip("this machine has no huge pages to spare")
        yield wanted - before
    finally:
        with suppress(OSError):
            PAGE_COUNT.write_text(str(before))


async def test_a_guest_takes_its_memory_from_huge_pages(agent: DomainAgent, huge_pages: int) -> None:
    free = PAGE_COUNT.with_name("free_hugepages")
    before = int(free.read_text())
    await agent.start(_dedicated(0, huge_page_bytes=PAGE_BYTES, has_virtual_numa=True))
    assert before - int(free.read_text()) == huge_pages
