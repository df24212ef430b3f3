"""The agent's domain services on real libvirt and QEMU: what the test driver cannot show."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing

import pytest

from agent.errors import (
    AgentError,
    DomainMemoryInsufficient,
    DomainStopTimeout,
    GuestAgentCommandFailed,
    GuestAgentTimeout,
    HypervisorUnavailable,
)
from agent.hypervisor.description import PowerState
from agent.hypervisor.prober import GuestAgentState
from agent.hypervisor.stop import StopProgress
from protos.agent.v1.domain_pb2 import DomainSpec, Firmware, TpmModel
from tests.lab.host import Host
from tests.scenario.domain_agent import DEMO_IMAGE, DomainAgent
from tests.stopwatch import Stopwatch
from tests.unit.agent.guest_builder import GUEST_UUID, a_spec

pytestmark = [
    pytest.mark.scenario,
    pytest.mark.xdist_group("agents"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

MIB = 1024**2
TIB = 1024**4
needs_demo_image = pytest.mark.skipif(not DEMO_IMAGE, reason="needs the demo image of tests/run")


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    host = Host(1, tmp_path_factory.mktemp("agent-domains"))
    host.start_libvirt()
    yield host
    host.end()


@pytest.fixture
async def agent(host: Host) -> AsyncIterator[DomainAgent]:
    agent = DomainAgent(host)
    await agent.connection.open()
    probing = asyncio.create_task(agent.prober.run())
    yield agent
    probing.cancel()
    await agent.definitions.ensure_removed(GUEST_UUID)
    await agent.connection.close()


def _deaf_spec(*, memory_bytes: int = 64 * MIB) -> DomainSpec:
    """A guest that has nothing to start from, and hence hears no power button."""
    return a_spec(vcpus=1, memory_bytes=memory_bytes, disks=[], nics=[])


def _demo_spec() -> DomainSpec:
    return a_spec(vcpus=1, memory_bytes=256 * MIB, nics=[])


async def _until(condition: Callable[[], object], what: str, timeout_seconds: float = 90) -> None:
    deadline = time.monotonic() + timeout_seconds
    while time.monotonic() < deadline:
        result = condition()
        if await result if asyncio.iscoroutine(result) else result:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"not within {timeout_seconds} s: {what}")


async def _drain(stop: AsyncIterator[StopProgress], methods: list[str]) -> None:
    async for progress in stop:
        methods.append(progress.method)


async def test_the_node_knows_what_it_can_do(agent: DomainAgent) -> None:
    capability = await agent.capability.get()
    assert capability.firmwares == {"bios", "uefi", "uefi-secure-boot"}
    assert capability.tpm_versions == {"1.2", "2.0"}
    assert {"uefi", "secure-boot", "vtpm-1.2", "vtpm-2.0"} <= set(capability.traits)
    assert "qemu64" in capability.cpu_models
    # Either it runs guests under KVM, or it says why not.
    assert (capability.domain_type == "kvm") == ("kvm" in capability.traits) == (not capability.accelerator_reason)
    assert all(part.isdigit() for part in capability.libvirt_version.split("."))


async def test_a_guest_that_does_not_hear_is_never_forced(agent: DomainAgent) -> None:
    await agent.start(_deaf_spec())
    methods: list[str] = []
    with pytest.raises(DomainStopTimeout):
        await _drain(agent.stops.ask(GUEST_UUID, grace_seconds=2), methods)
    assert set(methods) == {"acpi"}
    assert len(methods) >= 2
    assert await agent.state() is PowerState.RUNNING


async def test_who_stops_waiting_leaves_the_guest_as_it_is(agent: DomainAgent) -> None:
    await agent.start(_deaf_spec())
    async with aclosing(agent.stops.ask(GUEST_UUID, grace_seconds=60)) as stop:
        await anext(stop)
    assert await agent.state() is PowerState.RUNNING


async def test_a_reboot_that_failed_is_not_tried_again_under_its_operation(agent: DomainAgent) -> None:
    await agent.start(_deaf_spec())

    async def reboot() -> float:
        with Stopwatch() as watch, pytest.raises(DomainStopTimeout):
            await _drain(agent.reboots.reboot(GUEST_UUID, "op-1", force=False, grace_seconds=2), [])
        return watch.seconds

    # Less what the stopwatch missed.
    assert await reboot() > 1
    assert await reboot() < 1
    assert await agent.state() is PowerState.RUNNING


async def test_a_forced_reboot_starts_the_guest_anew(agent: DomainAgent) -> None:
    await agent.start(_deaf_spec())
    async with agent.events.subscribe() as changes:
        async for progress in agent.reboots.reboot(GUEST_UUID, "op-2", force=True, grace_seconds=1):
            assert progress.method == "destroy"
        kinds = []
        while "started" not in kinds:
            kinds.append((await asyncio.wait_for(changes.get(), 10)).kind)
    assert kinds.index("stopped") < kinds.index("started")
    assert await agent.state() is PowerState.RUNNING


async def test_secure_boot_and_a_tpm_start_and_leave_nothing_behind(agent: DomainAgent, host: Host) -> None:
    spec = _deaf_spec()
    spec.firmware = Firmware.FIRMWARE_UEFI_SECURE_BOOT
    spec.tpm = TpmModel.TPM_MODEL_2_0
    await agent.start(spec)
    kept = [host.namespace.path("/var/lib/libvirt/qemu/nvram"), host.namespace.path("/var/lib/libvirt/swtpm")]
    assert all(list(directory.iterdir()) for directory in kept)
    assert (agent.directory / "serial" / f"{GUEST_UUID}.log").exists()

    await agent.definitions.ensure_removed(GUEST_UUID)
    assert host.domain_state(spec.name) == "absent"
    for directory in (*kept, agent.directory / "serial", agent.directory / "seeds"):
        assert list(directory.iterdir()) == [], directory


async def test_memory_that_the_node_does_not_have_is_named_as_such(agent: DomainAgent) -> None:
    await agent.definitions.ensure_defined(_deaf_spec(memory_bytes=64 * TIB))
    with pytest.raises(DomainMemoryInsufficient):
        await agent.guests.start(GUEST_UUID)
    assert await agent.state() is PowerState.SHUTOFF


async def test_a_guest_that_crashed_is_told_from_one_that_shut_down(agent: DomainAgent, host: Host) -> None:
    await agent.start(_deaf_spec())
    host.namespace.run("bash", "-c", f"kill -KILL $(cat /run/libvirt/qemu/{_deaf_spec().name}.pid)")
    await _until(lambda: _is(agent, PowerState.CRASHED), "the guest is seen to have crashed")


async def _is(agent: DomainAgent, state: PowerState) -> bool:
    return await agent.state() is state


async def test_libvirt_that_dies_comes_back_with_its_guests_and_its_events(agent: DomainAgent, host: Host) -> None:
    await agent.start(_deaf_spec())
    async with agent.events.subscribe() as changes:
        host.libvirtd.kill()
        await _until(lambda: not agent.connection.is_open, "the loss is noticed")
        with pytest.raises(HypervisorUnavailable):
            await agent.state()
        await asyncio.to_thread(host.start_libvirtd)
        await _until(lambda: agent.connection.is_open, "the connection is back")
        while not (await asyncio.wait_for(changes.get(), 10)).is_resync:
            pass
        assert await agent.state() is PowerState.RUNNING
        await agent.guests.suspend(GUEST_UUID)
        while (await asyncio.wait_for(changes.get(), 10)).kind != "suspended":
            pass


@needs_demo_image
async def test_a_guest_agent_is_known_by_asking_it(agent: DomainAgent) -> None:
    await agent.start(_demo_spec())
    assert await agent.agent_state() is GuestAgentState.NOT_RUNNING
    await _until(lambda: _agent_is(agent, GuestAgentState.RUNNING), "the guest agent answers", 120)
    answer = await agent.guest_agents.execute(GUEST_UUID, "guest-get-host-name", timeout_seconds=60)
    assert answer == {"host-name": "web-1"}
    with pytest.raises(GuestAgentCommandFailed, match="No such file"):
        await agent.guest_agents.execute(GUEST_UUID, "guest-file-open", {"path": "/no"}, timeout_seconds=60)

    silence = {"path": "/bin/sh", "arg": ["-c", "sleep 1; kill -STOP $(pidof qemu-ga)"]}
    await agent.guest_agents.execute(GUEST_UUID, "guest-exec", silence, timeout_seconds=60)
    await asyncio.sleep(3)
    with Stopwatch() as watch, pytest.raises(GuestAgentTimeout):
        await agent.guest_agents.execute(GUEST_UUID, "guest-info", timeout_seconds=2)
    assert watch.seconds < 6
    assert (await agent.prober.probe(GUEST_UUID)).state is GuestAgentState.NOT_RESPONDING
    assert await agent.state() is PowerState.RUNNING
    # libvirtd works on no more than five calls of a client at once: these hold up nobody else.
    asking = [
        asyncio.create_task(agent.guest_agents.execute(GUEST_UUID, "guest-info", timeout_seconds=4)) for _ in range(6)
    ]
    await asyncio.sleep(0.5)
    started = time.monotonic()
    assert await agent.guests.list()
    assert time.monotonic() - started < 2
    assert all(isinstance(answer, AgentError) for answer in await asyncio.gather(*asking, return_exceptions=True))


async def _agent_is(agent: DomainAgent, state: GuestAgentState) -> bool:
    return await agent.agent_state() is state


@needs_demo_image
async def test_a_guest_shuts_down_when_it_is_asked(agent: DomainAgent) -> None:
    await agent.start(_demo_spec())
    await _until(lambda: _agent_is(agent, GuestAgentState.RUNNING), "the guest agent answers", 120)
    methods = {progress.method async for progress in agent.stops.ask(GUEST_UUID, grace_seconds=60)}
    assert methods == {"guest-agent"}
    assert (await agent.guests.get(GUEST_UUID)).power_state_reason == "shutdown"
    assert await agent.agent_state() is GuestAgentState.NOT_RUNNING
