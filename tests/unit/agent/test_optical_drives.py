"""Optical drives of guests that are off, on libvirt's test driver; guests that run are in tests/scenario."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import libvirt
import pytest

from agent.domainxml.assignment import AssignedDomain
from protos.agent.v1 import domain_pb2 as messages
from protos.agent.v1.domain_pb2 import DiskBus, OpticalDrive
from protos.agent.v1.storage_pb2 import ImageFormat
from tests.unit.agent.domain_server import FOREIGN_UUID, DomainServer, failure, serve
from tests.unit.agent.guest_builder import GUEST_UUID, ISO_ID, a_drive, a_spec

OTHER_ID = ISO_ID[:-1] + "x"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[DomainServer]:
    async with serve(tmp_path) as server:
        yield server


async def _define(server: DomainServer, *drives: OpticalDrive, generation: int = 3) -> None:
    spec = a_spec(optical_drives=drives, generation=generation)
    await server.domains.EnsureDefined(messages.EnsureDefinedRequest(spec=spec))


async def _insert(server: DomainServer, drive: OpticalDrive, uuid: str = GUEST_UUID) -> None:
    await server.domains.EnsureMedium(messages.EnsureMediumRequest(domain_uuid=uuid, drive=drive))


async def _drives(server: DomainServer) -> dict[str, tuple[str, str, int]]:
    """Name in the guest, file and place in the boot order, by key."""

    def read(handle: libvirt.virConnect) -> str:
        document: str = handle.lookupByUUIDString(GUEST_UUID).XMLDesc(libvirt.VIR_DOMAIN_XML_SECURE)
        return document

    return {
        disk.key: (
            disk.target.dev,
            (disk.source and disk.source.file) or "",
            disk.boot.order if disk.boot else 0,
        )
        for disk in AssignedDomain(await server.connection.call(read)).disks
        if disk.key.startswith("cdrom")
    }


async def test_a_drive_stays_where_it_is_whatever_is_in_it(server: DomainServer) -> None:
    file = f"/srv/agent/images/{ISO_ID}.iso"
    await _define(server, a_drive(0), a_drive(1))
    assert await _drives(server) == {"cdrom0": ("sdb", "", 0), "cdrom1": ("sdc", "", 0)}
    for _ in range(2):
        await _insert(server, a_drive(1, ISO_ID))
        assert await _drives(server) == {"cdrom0": ("sdb", "", 0), "cdrom1": ("sdc", file, 0)}
    await _insert(server, a_drive(1, OTHER_ID))
    assert (await _drives(server))["cdrom1"][1] == f"/srv/agent/images/{OTHER_ID}.iso"
    # Defined anew without the first: the other keeps its place.
    await _define(server, a_drive(1, ISO_ID, boot_index=2), generation=4)
    assert await _drives(server) == {"cdrom1": ("sdc", file, 2)}
    for _ in range(2):
        await _insert(server, a_drive(1))
        assert await _drives(server) == {"cdrom1": ("sdc", "", 0)}
    # A guest of before, which had no drives.
    await _insert(server, a_drive(0, ISO_ID))
    assert (await _drives(server))["cdrom0"] == ("sdb", file, 0)


async def test_what_cannot_be_in_a_drive(server: DomainServer) -> None:
    await _define(server, a_drive(0))
    disk = a_drive(0, ISO_ID)
    disk.image.format = ImageFormat.IMAGE_FORMAT_RAW
    for drive, uuid, outcome in (
        (a_drive(16), GUEST_UUID, ("INVALID_ARGUMENT", "RequestInvalid")),
        (OpticalDrive(bus=DiskBus.DISK_BUS_VIRTIO), GUEST_UUID, ("INVALID_ARGUMENT", "RequestInvalid")),
        (disk, GUEST_UUID, ("INVALID_ARGUMENT", "RequestInvalid")),
        (a_drive(0, "img-elsewhere"), GUEST_UUID, ("NOT_FOUND", "ImageNotFound")),
        (a_drive(0, ISO_ID), FOREIGN_UUID, ("FAILED_PRECONDITION", "DomainForeign")),
        (a_drive(0, ISO_ID), "bbbbbbbb-7e64-4a7e-9c60-0e2a4a7a7d11", ("NOT_FOUND", "DomainNotFound")),
    ):
        request = messages.EnsureMediumRequest(domain_uuid=uuid, drive=drive)
        assert await failure(lambda: server.domains.EnsureMedium(request)) == outcome  # noqa: B023
    twice = messages.EnsureDefinedRequest(spec=a_spec(optical_drives=[a_drive(0), a_drive(0)], generation=4))
    assert await failure(lambda: server.domains.EnsureDefined(twice)) == ("INVALID_ARGUMENT", "RequestInvalid")
    absent = messages.EnsureDefinedRequest(spec=a_spec(optical_drives=[a_drive(0, "img-elsewhere")], generation=4))
    assert await failure(lambda: server.domains.EnsureDefined(absent)) == ("NOT_FOUND", "ImageNotFound")
