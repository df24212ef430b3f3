"""Volumes of guests that are off, on libvirt's test driver; guests that run are in tests/scenario."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import libvirt
import pytest

from agent.configure.disk import make_serial
from agent.configure.pipeline import build_domain
from agent.domainxml.assignment import AssignedDomain
from agent.domainxml.element import format_document
from agent.domainxml.transfer import adapt_definition, adapt_domain
from agent.hypervisor.disk_change import DiskPlugs
from agent.hypervisor.disk_edit import BuildDisk
from protos.agent.v1 import domain_pb2 as messages
from protos.agent.v1.domain_pb2 import Disk, DiskBus, DomainSpec
from tests.unit.agent.domain_server import FOREIGN_UUID, DomainServer, failure, serve
from tests.unit.agent.guest_builder import DATA_VOLUME_UUID, GUEST_UUID, VOLUME_UUID, AVolume, a_host, a_spec

STRANGER_UUID = "bbbbbbbb-7e64-4a7e-9c60-0e2a4a7a7d11"
ROOT = Disk(volume_uuid=VOLUME_UUID, bus=DiskBus.DISK_BUS_VIRTIO, boot_index=1)
DATA = Disk(volume_uuid=DATA_VOLUME_UUID, bus=DiskBus.DISK_BUS_SCSI)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[DomainServer]:
    async with serve(tmp_path) as server:
        yield server


async def _define(server: DomainServer, *disks: Disk) -> None:
    await server.domains.EnsureDefined(messages.EnsureDefinedRequest(spec=a_spec(disks=disks)))


async def _attach(server: DomainServer, disk: Disk, uuid: str = GUEST_UUID) -> None:
    await server.domains.EnsureDiskAttached(messages.EnsureDiskAttachedRequest(domain_uuid=uuid, disk=disk))


async def _detach(server: DomainServer, volume_uuid: str, uuid: str = GUEST_UUID) -> None:
    await server.domains.EnsureDiskDetached(
        messages.EnsureDiskDetachedRequest(domain_uuid=uuid, volume_uuid=volume_uuid)
    )


async def _document(server: DomainServer) -> str:
    def read(handle: libvirt.virConnect) -> str:
        document: str = handle.lookupByUUIDString(GUEST_UUID).XMLDesc(libvirt.VIR_DOMAIN_XML_SECURE)
        return document

    return await server.connection.call(read)


async def _places(server: DomainServer) -> dict[str, str]:
    return {disk.key: disk.target.dev for disk in AssignedDomain(await _document(server)).disks}


def _key(disk: Disk) -> str:
    return make_serial(disk.volume_uuid)


async def test_a_disk_is_attached_and_detached_as_often_as_one_likes(server: DomainServer) -> None:
    await _define(server, ROOT)
    before = await _document(server)
    for _ in range(2):
        await _attach(server, DATA)
        (disk,) = (disk for disk in AssignedDomain(await _document(server)).disks if disk.key == _key(DATA))
        # The seed's drive has the first place.
        assert (disk.target.dev, disk.serial, disk.address and disk.address.unit) == ("sdb", _key(DATA), 1)
    for _ in range(2):
        await _detach(server, DATA_VOLUME_UUID)
        assert await _document(server) == before


async def test_a_later_definition_is_the_same(server: DomainServer) -> None:
    await _define(server, ROOT)
    await _attach(server, DATA)
    attached = AssignedDomain(await _document(server)).disks
    await _define(server, ROOT, DATA)
    assert sorted(AssignedDomain(await _document(server)).disks, key=str) == sorted(attached, key=str)


async def test_disks_stay_where_they_are_when_one_before_them_goes(server: DomainServer) -> None:
    first, second = (Disk(volume_uuid=DATA_VOLUME_UUID), ROOT)
    await _define(server, first, second)
    assert (await _places(server))[_key(second)] == "vdb"
    await _detach(server, DATA_VOLUME_UUID)
    await _define(server, second)
    assert (await _places(server))[_key(second)] == "vdb"
    await _attach(server, first)
    assert (await _places(server))[_key(first)] == "vda"


async def test_only_one_disk_has_a_place_in_the_boot_order(server: DomainServer) -> None:
    await _define(server, ROOT)
    request = messages.EnsureDiskAttachedRequest(domain_uuid=GUEST_UUID, disk=DATA)
    request.disk.boot_index = 1
    assert await failure(lambda: server.domains.EnsureDiskAttached(request)) == ("INVALID_ARGUMENT", "RequestInvalid")
    request.disk.boot_index = 2
    await server.domains.EnsureDiskAttached(request)
    assert {disk.boot.order for disk in AssignedDomain(await _document(server)).disks if disk.boot} == {1, 2}


async def test_what_is_not_there(server: DomainServer) -> None:
    await _detach(server, DATA_VOLUME_UUID)
    for uuid, volume, outcome in (
        (STRANGER_UUID, DATA_VOLUME_UUID, ("NOT_FOUND", "DomainNotFound")),
        (FOREIGN_UUID, DATA_VOLUME_UUID, ("FAILED_PRECONDITION", "DomainForeign")),
        (GUEST_UUID, STRANGER_UUID, ("NOT_FOUND", "VolumeNotFound")),
    ):
        request = messages.EnsureDiskAttachedRequest(domain_uuid=uuid, disk=Disk(volume_uuid=volume))
        assert await failure(lambda: server.domains.EnsureDiskAttached(request)) == outcome  # noqa: B023
    foreign = messages.EnsureDiskDetachedRequest(domain_uuid=FOREIGN_UUID, volume_uuid=DATA_VOLUME_UUID)
    assert await failure(lambda: server.domains.EnsureDiskDetached(foreign)) == ("FAILED_PRECONDITION", "DomainForeign")


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"domain_uuid": "x"}, "domain_uuid"),
        ({"disk": Disk(volume_uuid="x")}, "disk.volume_uuid"),
        ({"disk": Disk(volume_uuid=DATA_VOLUME_UUID, bus=99)}, "disk.bus"),  # type: ignore[arg-type]
    ],
)
async def test_a_field_that_is_wrong_is_named(server: DomainServer, fields: dict[str, Any], named: str) -> None:
    request = messages.EnsureDiskAttachedRequest(**{"domain_uuid": GUEST_UUID, "disk": DATA, **fields})
    with pytest.raises(grpc.aio.AioRpcError, match=named):
        await server.domains.EnsureDiskAttached(request)


def _build(spec: DomainSpec, directory: str) -> str:
    host = a_host(
        volumes={
            VOLUME_UUID: AVolume(Path(directory) / "root.qcow2"),
            DATA_VOLUME_UUID: AVolume(Path(directory) / "data.qcow2"),
        }
    )
    return format_document(build_domain(spec, host))


def test_a_guest_on_its_way_finds_each_disk_by_its_serial_whatever_places_it_would_have_there() -> None:
    """Taken by its place it would be another's file, to which the guest would write."""
    data = Disk(volume_uuid=DATA_VOLUME_UUID)
    live, there = _build(a_spec(disks=[data, ROOT]), "/here"), _build(a_spec(disks=[ROOT, data]), "/there")
    for document in (adapt_domain(live, there), adapt_definition(live, there)):
        disks = {disk.key: disk for disk in AssignedDomain(document).disks}
        for disk, name, file in ((data, "vda", "/there/data.qcow2"), (ROOT, "vdb", "/there/root.qcow2")):
            found = disks[_key(disk)]
            assert (found.target.dev, found.source and found.source.file) == (name, file)


async def test_who_takes_a_disk_back_waits_for_one_who_gave_attaching_up(
    server: DomainServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """libvirt does not give up: the disk would be the guest's afterwards, and the volume somebody else's."""
    await _define(server, ROOT)
    before = await _document(server)
    begun, going_on, attach = asyncio.Event(), asyncio.Event(), DiskPlugs.attach
    works = []

    async def attach_slowly(plugs: DiskPlugs, uuid: str, build: BuildDisk) -> None:
        async def work() -> None:
            await going_on.wait()
            await attach(plugs, uuid, build)

        works.append(asyncio.create_task(work()))
        begun.set()
        await asyncio.shield(works[0])

    monkeypatch.setattr(DiskPlugs, "attach", attach_slowly)
    attaching = asyncio.create_task(_attach(server, DATA))
    await begun.wait()
    attaching.cancel()
    detaching = asyncio.create_task(_detach(server, DATA_VOLUME_UUID))
    await asyncio.sleep(0.05)
    going_on.set()
    await asyncio.gather(detaching, *works)
    assert await _document(server) == before
