"""A running domain's XML for another host: what the guest sees stays, what the host is changes."""

import copy
from dataclasses import replace
from pathlib import Path

import libvirt
import pytest
from lxml import etree

from agent.configure.pipeline import build_domain
from agent.devices.source import MdevSource, PciSource
from agent.domainxml.element import format_document
from agent.domainxml.transfer import (
    adapt_domain,
    find_blockers,
    find_disk_targets,
    find_nvram,
    find_vgpu_names,
    has_coherent_disks,
    has_other_devices,
)
from protos.agent.v1.device_pb2 import HostDevice
from tests.unit.agent.assigned_device import SOURCES, VENDOR_VGPU, VGPU, a_device
from tests.unit.agent.guest_builder import (
    DATA_VOLUME_UUID,
    GIB,
    GUEST_UUID,
    VOLUME_UUID,
    ANetwork,
    AVolume,
    a_cell,
    a_host,
    a_spec,
)

SOURCE = a_host()
TARGET = replace(
    a_host(),
    emulator="/opt/qemu",
    vnc_address="10.0.0.8",
    serial_log_directory=Path("/mnt/serial"),
    seed_directory=Path("/mnt/seeds"),
    volumes={VOLUME_UUID: AVolume(Path("/mnt/volumes/root.qcow2"))},
    networks={next(iter(SOURCE.networks)): ANetwork("other")},
)


def _live(cell: int = 0, pin: int = 1) -> str:
    """As libvirt tells it: with what we do not declare."""
    spec = a_spec(vcpus=1, memory_bytes=GIB, cells=[a_cell(cell, pin)])
    live = etree.fromstring(format_document(build_domain(spec, SOURCE)))
    etree.SubElement(live, "resource")
    for disk in live.iterfind("devices/disk"):
        etree.SubElement(disk, "address", type="pci", bus="0x03")
    server = live.find("devices/graphics")
    assert server is not None
    server.set("listen", "10.0.0.7")
    return etree.tostring(live, encoding="unicode")


def _adapted() -> etree._Element:
    there = a_spec(vcpus=1, memory_bytes=GIB, cells=[a_cell(1, 5)], generation=4)
    return etree.fromstring(adapt_domain(_live(), format_document(build_domain(there, TARGET))))


def test_paths_addresses_and_pins_are_those_of_the_other_host() -> None:
    adapted = _adapted()
    text = etree.tostring(adapted, encoding="unicode")
    assert adapted.findtext("devices/emulator") == "/opt/qemu"
    assert [source.get("file") for source in adapted.iterfind("devices/disk/source")] == [
        "/mnt/volumes/root.qcow2",
        f"/mnt/seeds/{GUEST_UUID}.iso",
    ]
    assert [source.get("network") for source in adapted.iterfind("devices/interface/source")] == ["other"]
    assert [log.get("file") for log in adapted.iterfind("devices/serial/log")] == [f"/mnt/serial/{GUEST_UUID}.log"]
    assert [pin.get("cpuset") for pin in adapted.iterfind("cputune/vcpupin")] == ["5"]
    assert [memory.get("nodeset") for memory in adapted.iterfind("numatune/memory")] == ["1"]
    assert 'generation="4"' in text
    assert "10.0.0.7" not in text
    assert "10.0.0.8" in text
    assert "/srv/agent" not in text


def test_what_the_guest_sees_stays() -> None:
    before, after = etree.fromstring(_live()), _adapted()
    for path in ("vcpu", "memory", "os", "cpu", "features", "clock", "resource", "devices/controller", "sysinfo"):
        assert list(map(etree.tostring, after.iterfind(path))) == list(map(etree.tostring, before.iterfind(path)))
    assert len(list(after.iterfind("devices/disk/address[@bus='0x03']"))) == 2


def test_a_target_without_pins_leaves_none() -> None:
    definition = format_document(build_domain(a_spec(vcpus=1, memory_bytes=GIB), replace(TARGET, cpus=SOURCE.cpus)))
    adapted = etree.fromstring(adapt_domain(_live(), definition))
    assert adapted.find("numatune") is None


@pytest.mark.parametrize("becomes", [AVolume(Path("/dev/b/nw-1"), "raw", "block"), AVolume(Path("/mnt/1.qcow2"))])
def test_a_logical_volume_of_a_guest_that_hibernates_is_found_where_it_has_come_to(becomes: AVolume) -> None:
    spec = a_spec(vcpus=4, memory_bytes=GIB)
    here, there = (
        format_document(build_domain(spec, replace(host, volumes={VOLUME_UUID: volume})))
        for host, volume in ((SOURCE, AVolume(Path("/dev/a/nw-1"), "raw", "block")), (TARGET, becomes))
    )
    adapted = etree.fromstring(adapt_domain(here, there)).find("devices/disk")
    wanted = etree.fromstring(there).find("devices/disk")
    assert adapted is not None
    assert wanted is not None
    assert sorted(etree.tostring(it) for it in adapted) == sorted(etree.tostring(it) for it in wanted)
    assert adapted.get("type") == becomes.kind


def test_volumes_are_found_by_their_serial() -> None:
    assert find_disk_targets(_live(), [VOLUME_UUID]) == ["vda"]
    with pytest.raises(ValueError, match=DATA_VOLUME_UUID):
        find_disk_targets(_live(), [DATA_VOLUME_UUID])


def test_devices_of_the_node_and_images_in_drives_keep_a_guest_where_it_is() -> None:
    seed = str(SOURCE.seed(GUEST_UUID))
    live = etree.fromstring(_live())
    devices = live.find("devices")
    assert devices is not None
    assert find_blockers(_live(), seed) == []
    etree.SubElement(devices, "hostdev", type="pci")
    etree.SubElement(devices, "interface", type="hostdev")
    etree.SubElement(devices, "disk", type="block")
    found = find_blockers(etree.tostring(live, encoding="unicode"), "another seed")
    assert [code for code, _ in found] == ["host-device"] * 3 + ["iso"]


def _as_test_domain(document: etree._Element) -> etree._Element:
    """With its devices of the node, as libvirt's test driver knows domains."""
    domain = etree.Element("domain", type="test")
    etree.SubElement(domain, "name").text = "guest"
    etree.SubElement(domain, "memory").text = "65536"
    etree.SubElement(etree.SubElement(domain, "os"), "type", arch="x86_64").text = "hvm"
    etree.SubElement(domain, "devices").extend(copy.deepcopy(it) for it in document.iterfind("devices/hostdev"))
    return domain


def _refuse(directory: Path, live: etree._Element, adapted: etree._Element) -> str:
    """Why libvirt takes the one for no guest that runs as the other: it has one check for targets and snapshots."""
    # A node of its own: all who open the default one share it.
    (node := directory / "node.xml").write_text("<node/>")
    handle = libvirt.open(f"test://{node}")
    try:
        domain = handle.defineXML(etree.tostring(_as_test_domain(live), encoding="unicode"))
        taken = domain.snapshotCreateXML("<domainsnapshot><name>one</name></domainsnapshot>").getXMLDesc()
        snapshot = etree.fromstring(taken)
        there = _as_test_domain(adapted)
        there.insert(0, copy.deepcopy(snapshot.findall("domain/uuid")[0]))
        snapshot.replace(snapshot.findall("domain")[0], there)
        changed = etree.tostring(snapshot, encoding="unicode")
        domain.snapshotCreateXML(changed, libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE)
    except libvirt.libvirtError as error:
        return str(error)
    finally:
        handle.close()
    return ""


@pytest.mark.parametrize("wish", [VGPU, VENDOR_VGPU], ids=["mdev", "vendor-vfio"])
def test_a_vgpu_goes_on_in_one_that_waits_there(tmp_path: Path, wish: HostDevice) -> None:
    other, source = a_device(9, "0000:01:00.0", vgpu_type_id=wish.vgpu_type_id), SOURCES[wish.uuid]
    twin = (
        PciSource(("0000:01:00.7",), managed=False)
        if isinstance(source, PciSource)
        else MdevSource(other.uuid, "vfio-pci")
    )
    here, there = (
        format_document(build_domain(a_spec(host_devices=[one]), replace(host, host_devices={one.uuid: has})))
        for one, host, has in ((wish, SOURCE, source), (other, TARGET, twin))
    )
    live = etree.fromstring(here)
    (vgpu,) = live.iterfind("devices/hostdev")
    etree.SubElement(vgpu, "address", type="pci", bus="0x07")
    adapted = etree.fromstring(adapt_domain(etree.tostring(live, encoding="unicode"), there))
    assert _refuse(tmp_path, live, adapted) == ""
    (vgpu,), (wanted,) = (document.findall("devices/hostdev") for document in (adapted, etree.fromstring(there)))
    assert vgpu.attrib == wanted.attrib
    for tag in ("source", "alias"):
        assert [etree.tostring(it) for it in vgpu.iterfind(tag)] == [etree.tostring(it) for it in wanted.iterfind(tag)]
    # The guest finds it where it was, on which libvirt insists.
    assert [place.get("bus") for place in vgpu.iterfind("address")] == ["0x07"]
    assert other.uuid in etree.tostring(adapted, encoding="unicode")
    for place in vgpu.iterfind("address"):
        place.set("bus", "0x08")
    assert "device PCI address" in _refuse(tmp_path, live, adapted)
    # As QEMU calls it.
    assert find_vgpu_names(here) == [source.addresses[0] if isinstance(source, PciSource) else wish.uuid]
    assert not has_other_devices(here)
    etree.SubElement(live.find("devices"), "interface", type="hostdev")  # type: ignore[arg-type]  # it has devices
    assert has_other_devices(etree.tostring(live, encoding="unicode"))
    without = format_document(build_domain(a_spec(), TARGET))
    with pytest.raises(ValueError, match="has 1 devices of its node, and 0 were made"):
        adapt_domain(here, without)


def test_variables_of_a_firmware_are_a_file() -> None:
    assert find_nvram(_live()) == ""
    assert find_nvram("<domain><os><nvram>\n /x_VARS.fd</nvram></os></domain>") == "/x_VARS.fd"


@pytest.mark.parametrize(
    ("cache", "coherent"), [("none", True), ("directsync", True), ("writeback", False), ("", False)]
)
def test_only_disks_past_the_page_cache_are_seen_alike_by_two_nodes(cache: str, coherent: bool) -> None:
    live = etree.fromstring(_live())
    for driver in live.iterfind("devices/disk/driver"):
        driver.set("cache", cache)
    assert has_coherent_disks(etree.tostring(live, encoding="unicode")) is coherent
