"""Devices of the node in guests that are off, on libvirt's test driver; guests that run are in tests/scenario."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import libvirt
import pytest
from lxml import etree

from agent.configure.host_device import name_alias
from agent.devices.source import BlockSource, PciSource, UsbSource
from agent.domainxml.assignment import AssignedDomain
from agent.errors import DeviceFaulty, GpuInUse, GuestIncompatible
from protos.agent.v1 import device_pb2 as messages
from protos.agent.v1 import domain_pb2
from protos.agent.v1.device_pb2 import HostDevice
from tests.unit.agent.assigned_device import CARD, DISK, PORT, SECOND_CARD, SOURCES, STICK, VGPU, a_device
from tests.unit.agent.domain_server import FOREIGN_UUID, DomainServer, drain, failure, serve
from tests.unit.agent.guest_builder import GUEST_UUID, a_spec

STRANGER_UUID = "bbbbbbbb-7e64-4a7e-9c60-0e2a4a7a7d11"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[DomainServer]:
    async with serve(tmp_path) as server:
        server.provider.sources = dict(SOURCES)
        yield server


async def _document(server: DomainServer) -> AssignedDomain:
    def read(handle: libvirt.virConnect) -> str:
        flags = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE
        document: str = handle.lookupByUUIDString(GUEST_UUID).XMLDesc(flags)
        return document

    return AssignedDomain(await server.connection.call(read))


async def _addresses(server: DomainServer, wish: HostDevice) -> list[dict[str, str]]:
    found = (await _document(server)).find(name_alias(wish.uuid))
    return [_attributes(address) for element in found if (address := element.find("source/address")) is not None]


def _attributes(element: etree._Element) -> dict[str, str]:
    return {str(name): str(value) for name, value in element.items()}


async def _define(server: DomainServer, *wishes: HostDevice, generation: int = 3) -> None:
    spec = a_spec(host_devices=wishes, generation=generation)
    await server.domains.EnsureDefined(domain_pb2.EnsureDefinedRequest(spec=spec))


async def _attach(server: DomainServer, wish: HostDevice, uuid: str = GUEST_UUID) -> None:
    await server.devices.EnsureAttached(messages.EnsureAttachedRequest(domain_uuid=uuid, device=wish))


async def _detach(server: DomainServer, device_uuid: str, uuid: str = GUEST_UUID) -> None:
    await server.devices.EnsureDetached(messages.EnsureDetachedRequest(domain_uuid=uuid, device_uuid=device_uuid))


async def test_a_guest_is_defined_with_its_devices(server: DomainServer) -> None:
    await _define(server, CARD, DISK)
    assert server.provider.prepared == [(GUEST_UUID, CARD.uuid), (GUEST_UUID, DISK.uuid)]
    assert [address["function"] for address in await _addresses(server, CARD)] == ["0x0", "0x1", "0x2"]
    assert {mark.uuid for mark in (await _document(server)).marks} == {CARD.uuid, DISK.uuid}


async def test_a_guest_whose_device_is_not_here_is_not_defined(server: DomainServer) -> None:
    del server.provider.sources[DISK.uuid]
    request = domain_pb2.EnsureDefinedRequest(spec=a_spec(host_devices=[CARD, DISK]))
    assert await failure(lambda: server.domains.EnsureDefined(request)) == ("NOT_FOUND", "DeviceNotFound")
    assert await server.guests.find(GUEST_UUID) is None


async def test_an_overtaken_definition_takes_no_devices(server: DomainServer) -> None:
    await _define(server, generation=5)
    request = domain_pb2.EnsureDefinedRequest(spec=a_spec(host_devices=[CARD], generation=4))
    outcome = await failure(lambda: server.domains.EnsureDefined(request))
    assert outcome == ("FAILED_PRECONDITION", "DomainGenerationStale")
    assert server.provider.prepared == []


async def test_a_device_is_attached_and_detached_as_often_as_one_likes(server: DomainServer) -> None:
    await _define(server)
    before = (await _document(server)).format()
    for _ in range(2):
        await _attach(server, DISK)
        document = await _document(server)
        assert len(document.find(name_alias(DISK.uuid))) == 1
        assert [mark.device_id for mark in document.marks] == [DISK.device_id]
    # The seed's drive has the first place.
    disk = document.find(name_alias(DISK.uuid))[0]
    assert [dict(found.attrib) for found in disk.findall("target")] == [{"dev": "sdb", "bus": "scsi"}]
    for _ in range(2):
        await _detach(server, DISK.uuid)
        assert (await _document(server)).format() == before


async def test_what_else_a_guest_has_is_not_changed_by_a_device(server: DomainServer) -> None:
    await _define(server)
    before = etree.fromstring((await _document(server)).format())
    await _attach(server, SECOND_CARD)
    document = await _document(server)
    assert [place.get("function") for place in _places(document, SECOND_CARD)] == ["0x0", "0x1"]
    # Both on one bus, which is a root port's that nobody else has.
    assert len({place.get("bus") for place in _places(document, SECOND_CARD)}) == 1
    after = etree.fromstring(document.format())
    kinds = [element.tag for element in before.iterfind("devices/*")]
    assert [e.tag for e in after.iterfind("devices/*") if e.tag != "hostdev"] == kinds
    # The password of the screen, for one.
    assert [_attributes(found) for found in after.iterfind("devices/graphics")] == [
        _attributes(found) for found in before.iterfind("devices/graphics")
    ]


def _places(document: AssignedDomain, wish: HostDevice) -> list[Any]:
    return [place for element in document.find(name_alias(wish.uuid)) for place in element.findall("address")]


async def test_two_disks_get_two_places_however_they_come_and_go(server: DomainServer) -> None:
    first, second, third = (a_device(number, f"wwn-{number}") for number in (21, 22, 23))
    server.provider.sources = {
        wish.uuid: BlockSource(Path(f"/dev/disk/by-id/{wish.device_id}")) for wish in (first, second, third)
    }
    await _define(server)
    await _attach(server, first)
    await _attach(server, second)
    await _detach(server, first.uuid)
    await _attach(server, third)
    document = await _document(server)
    places = {wish.device_id: _places(document, wish)[0].get("unit") for wish in (second, third)}
    assert places == {"wwn-22": "2", "wwn-23": "1"}


async def test_a_device_is_where_it_is_now_when_its_guest_starts(server: DomainServer) -> None:
    await _define(server, CARD, STICK)
    place = [dict(found.attrib) for found in _places(await _document(server), CARD)]
    server.provider.sources[STICK.uuid] = UsbSource(3, 77)
    server.provider.sources[CARD.uuid] = PciSource(("0000:3c:00.0", "0000:3c:00.1", "0000:3c:00.2"))
    await server.domains.EnsureRunning(domain_pb2.EnsureRunningRequest(uuid=GUEST_UUID))
    assert server.provider.checked == [GUEST_UUID]
    assert await _addresses(server, STICK) == [{"bus": "3", "device": "77"}]
    assert [address["bus"] for address in await _addresses(server, CARD)] == ["0x3c"] * 3
    # Where the guest finds it does not change.
    assert [dict(found.attrib) for found in _places(await _document(server), CARD)] == place


@pytest.mark.parametrize("by", ["start", "reboot"])
async def test_a_guest_does_not_start_without_its_device(server: DomainServer, by: str) -> None:
    await _define(server, CARD)
    if by == "reboot":
        await server.domains.EnsureRunning(domain_pb2.EnsureRunningRequest(uuid=GUEST_UUID))
    server.provider.failure = DeviceFaulty(f"{CARD.device_id}: fell off the bus")
    if by == "start":
        request = domain_pb2.EnsureRunningRequest(uuid=GUEST_UUID)
        outcome = await failure(lambda: server.domains.EnsureRunning(request))
    else:
        reboot = domain_pb2.RebootRequest(uuid=GUEST_UUID, operation_id="op-1", force=True)
        outcome = await failure(lambda: server.domains.Reboot(reboot))
    assert outcome == ("FAILED_PRECONDITION", "DeviceFaulty")
    assert (await server.guests.get(GUEST_UUID)).power_state.value == "SHUTOFF"
    if by == "reboot":
        # The same operation goes on where it was when the device is back.
        server.provider.failure = None
        await drain(server.domains.Reboot(reboot))
        assert (await server.guests.get(GUEST_UUID)).power_state.value == "RUNNING"


async def test_a_guest_that_runs_is_not_asked_for_its_devices(server: DomainServer) -> None:
    await _define(server)
    for _ in range(2):
        await server.domains.EnsureRunning(domain_pb2.EnsureRunningRequest(uuid=GUEST_UUID))
    assert server.provider.checked == [GUEST_UUID]


async def test_detaching_from_a_guest_that_is_gone_is_success(server: DomainServer) -> None:
    await _detach(server, DISK.uuid)


@pytest.mark.parametrize(
    ("uuid", "wish", "code"),
    [
        (STRANGER_UUID, DISK, "DomainNotFound"),
        (FOREIGN_UUID, DISK, "DomainForeign"),
        (GUEST_UUID, a_device(90, "wwn-away"), "DeviceNotFound"),
        (GUEST_UUID, a_device(90, ""), "RequestInvalid"),
        (GUEST_UUID, a_device(1, "wwn-1", boot_index=1), "RequestInvalid"),
        ("x", DISK, "RequestInvalid"),
    ],
)
async def test_what_cannot_be_attached_changes_nothing(
    server: DomainServer, uuid: str, wish: HostDevice, code: str
) -> None:
    await _define(server)
    before = (await _document(server)).format()
    request = messages.EnsureAttachedRequest(domain_uuid=uuid, device=wish)
    assert (await failure(lambda: server.devices.EnsureAttached(request)))[1] == code
    assert (await _document(server)).format() == before
    assert not [prepared for prepared in server.provider.prepared if prepared[0] != GUEST_UUID]


async def test_a_foreign_guest_loses_nothing(server: DomainServer) -> None:
    request = messages.EnsureDetachedRequest(domain_uuid=FOREIGN_UUID, device_uuid=DISK.uuid)
    outcome = await failure(lambda: server.devices.EnsureDetached(request))
    assert outcome == ("FAILED_PRECONDITION", "DomainForeign")


async def test_changes_of_one_guest_wait_for_each_other(server: DomainServer) -> None:
    await _define(server)
    await asyncio.gather(*(_attach(server, wish) for wish in (CARD, DISK, PORT, STICK, SECOND_CARD)))
    document = await _document(server)
    assert all(document.find(name_alias(wish.uuid)) for wish in (CARD, DISK, PORT, STICK, SECOND_CARD))
    assert len({place.get("bus") for wish in (CARD, SECOND_CARD) for place in _places(document, wish)}) == 2


async def test_giving_back_tells_how_far_it_is(server: DomainServer) -> None:
    request = messages.EnsureReleasedRequest(domain_uuid=GUEST_UUID, device_uuids=[DISK.uuid])
    steps = await drain(server.devices.EnsureReleased(request))
    assert [step.done_bytes for step in steps] == [0, 512, 1024]
    assert server.provider.released == [(GUEST_UUID, (DISK.uuid,))]


async def test_giving_back_by_force_is_the_provider_s(server: DomainServer) -> None:
    request = messages.EnsureForcedReleaseRequest(device_id="wwn-1", unclaimed=True)
    assert [step.device_id for step in await drain(server.devices.EnsureForcedRelease(request))] == ["wwn-1"]
    assert server.provider.released == [("wwn-1", ("by force",))]
    empty = messages.EnsureForcedReleaseRequest()
    assert (await failure(lambda: server.devices.EnsureForcedRelease(empty)))[1] == "RequestInvalid"


async def test_the_mode_of_gpus_is_the_provider_s(server: DomainServer) -> None:
    answer = await server.devices.EnsureGpuMode(messages.EnsureGpuModeRequest(mode="nvidia-223"))
    assert answer.device_ids == ["gpu-as-nvidia-223"]
    server.provider.failure = GpuInUse("0000:3b:00.0 is ecs-1's")
    request = messages.EnsureGpuModeRequest(mode="passthrough")
    assert (await failure(lambda: server.devices.EnsureGpuMode(request)))[1] == "GpuInUse"
    empty = messages.EnsureGpuModeRequest()
    assert (await failure(lambda: server.devices.EnsureGpuMode(empty)))[1] == "RequestInvalid"


async def test_a_guest_with_devices_does_not_come_from_another_node(server: DomainServer) -> None:
    with pytest.raises(GuestIncompatible, match="host_devices"):
        await server.definitions.prepare_incoming(a_spec(host_devices=[VGPU, CARD]), "")
    assert server.provider.prepared == []


async def test_a_guest_that_comes_finds_its_vgpus(server: DomainServer) -> None:
    document = AssignedDomain(await server.definitions.prepare_incoming(a_spec(host_devices=[VGPU]), ""))
    assert server.provider.prepared == [(GUEST_UUID, VGPU.uuid)]
    (vgpu,) = document.find(name_alias(VGPU.uuid))
    address = vgpu.find("source/address")
    assert address is not None
    assert (vgpu.get("type"), address.get("uuid")) == ("mdev", VGPU.uuid)
    assert [mark.vgpu_type_id for mark in document.marks] == [VGPU.vgpu_type_id]
