"""A running domain's XML as another host needs it: the same machine, with that host's paths, addresses and pins.

libvirt's own XML is changed in place instead of being parsed into typed elements: it must keep what we do not declare,
for the guest sees it. Source: https://libvirt.org/migration.html, "xml".
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from lxml import etree

from agent.domainxml.disk import Disk
from agent.domainxml.metadata import Ownership

_SERIAL_LENGTH: Final = 20
_REPLACED: Final = ("cputune", "numatune")
# Of a disk's driver, what depends on where its volume is.
_DRIVER: Final = ("type", "cache", "io", "discard", "detect_zeroes")


def adapt_domain(live_xml: str, definition_xml: str) -> str:
    """The live domain, with what differs by host taken from its definition there.

    ValueError when it has not as many vGPUs there as here.
    """
    live, there = _parse(live_xml), _parse(definition_xml)
    for tag in _REPLACED:
        _replace(live, there, tag)
    if live.find("iothreads") is None:
        # It was started before such guests had I/O threads: there are none to be pinned.
        for pin in live.findall("cputune/iothreadpin"):
            pin.getparent().remove(pin)  # type: ignore[union-attr]  # it was found below one
    _replace_ownership(live, there)
    _copy_text(live, there, "devices/emulator")
    others = _disks_by_key(there)
    for key, disk in _disks_by_key(live).items():
        _adapt_disk(disk, others.get(key))
    for interface in live.iterfind("devices/interface"):
        address = _attribute(interface, "mac", "address")
        twin = _first(there.iterfind(f"devices/interface/mac[@address='{address}']/.."))
        if twin is not None:
            _replace(interface, twin, "source")
    for port in (*live.iterfind("devices/serial"), *live.iterfind("devices/console")):
        _copy_attributes(port, there.find("devices/serial"), "log", ("file",))
    _adapt_graphics(live, there)
    _adapt_vgpus(live, there)
    return etree.tostring(live, encoding="unicode")


def adapt_definition(live_xml: str, definition_xml: str) -> str:
    """The definition there, with the guest's disks where the guest has them; as it is, when they are not the same."""
    there = _parse(definition_xml)
    mine, others = _disks_by_key(_parse(live_xml)), _disks_by_key(there)
    if mine.keys() == others.keys():
        for key, disk in others.items():
            place = Disk.parse(mine[key]).place
            built = replace(Disk.parse(disk), target=place.target, address=place.address)
            disk.getparent().replace(disk, built.format())  # type: ignore[union-attr]  # it was found below one
    return etree.tostring(there, encoding="unicode")


def find_disk_targets(live_xml: str, volume_uuids: Iterable[str]) -> list[str]:
    """The guest's names of these volumes, "vda"; ValueError for one that it does not have."""
    live = _parse(live_xml)
    names = []
    for uuid in volume_uuids:
        serial = uuid.replace("-", "")[:_SERIAL_LENGTH]
        target = next((disk for disk in live.iterfind("devices/disk") if disk.findtext("serial") == serial), None)
        if target is None:
            raise ValueError(f"the guest has no volume {uuid}")
        names.append(_attribute(target, "target", "dev"))
    return names


def find_cluster_disks(document: str, volume_uuids: Iterable[str]) -> list[str]:
    """Those of these volumes that are in a cluster and not on the node."""
    names = {disk.findtext("serial") for disk in _parse(document).iterfind("devices/disk[@type='network']")}
    return [uuid for uuid in volume_uuids if uuid.replace("-", "")[:_SERIAL_LENGTH] in names]


def has_coherent_disks(live_xml: str) -> bool:
    """Whether another node sees what the guest has written: none of its disks is written through a page cache."""
    disks = [disk for disk in _parse(live_xml).iterfind("devices/disk") if disk.find("readonly") is None]
    cached = (disk for disk in disks if _attribute(disk, "driver", "cache") not in ("none", "directsync"))
    # What librbd caches is the guest's alone, and flushed before it goes.
    return all(_attribute(disk, "source", "protocol") == "rbd" for disk in cached)


def find_uuid(document: str) -> str:
    """Of the domain."""
    return (_parse(document).findtext("uuid") or "").strip()


def find_nvram(live_xml: str) -> str:
    """The file of the firmware's variables; empty without one."""
    return (_parse(live_xml).findtext("os/nvram") or "").strip()


def find_vgpu_names(live_xml: str) -> list[str]:
    """What QEMU calls the guest's vGPUs: UUIDs of mediated devices, addresses of unmanaged functions."""
    live = _parse(live_xml)
    names = [it.get("uuid", "") for it in live.iterfind("devices/hostdev[@type='mdev']/source/address")]
    for place in live.iterfind("devices/hostdev[@type='pci'][@managed='no']/source/address"):
        domain, bus, slot, function = (int(place.get(it, "0"), 16) for it in ("domain", "bus", "slot", "function"))
        names.append(f"{domain:04x}:{bus:02x}:{slot:02x}.{function:x}")
    return names


def has_other_devices(live_xml: str) -> bool:
    """Whether the guest has more of its node than vGPUs."""
    live = _parse(live_xml)
    count = len(live.findall("devices/hostdev")) + len(live.findall("devices/interface[@type='hostdev']"))
    return count > len(find_vgpu_names(live_xml))


def find_blockers(live_xml: str, seed: str) -> list[tuple[str, str]]:
    """Kinds of what keeps the guest where it is, with words for people."""
    live = _parse(live_xml)
    found = [
        ("host-device", f"a {device.get('type')} device of the node") for device in live.iterfind("devices/hostdev")
    ]
    for kind in ("interface[@type='hostdev']", "disk[@type='block']"):
        found += [("host-device", f"a {device.tag} of the node") for device in live.iterfind(f"devices/{kind}")]
    for disk in live.iterfind("devices/disk[@device='cdrom']"):
        path = _attribute(disk, "source", "file")
        if path and path != seed:
            found.append(("iso", f"{path} is in the drive {_attribute(disk, 'target', 'dev')}"))
    return found


def _disks_by_key(document: etree._Element) -> dict[str, etree._Element]:
    return {Disk.parse(disk).key: disk for disk in document.iterfind("devices/disk")}


def _adapt_disk(disk: etree._Element, twin: etree._Element | None) -> None:
    if twin is None or disk.get("type") == twin.get("type"):
        _copy_attributes(disk, twin, "source", ("file", "name", "dev"))
        return
    # Of a guest that hibernates, whose logical volume is a file there, or the other way round.
    disk.set("type", twin.get("type", ""))
    _replace(disk, twin, "source")
    _copy_attributes(disk, twin, "driver", _DRIVER)


def _adapt_graphics(live: etree._Element, there: etree._Element) -> None:
    for server, twin in zip(live.iterfind("devices/graphics"), there.iterfind("devices/graphics"), strict=False):
        server.attrib.pop("listen", "")
        _copy_attributes(server, twin, "listen", ("address",))


def _adapt_vgpus(live: etree._Element, there: etree._Element) -> None:
    """In the place of each vGPU one of those there, which are of the same type. The guest has no other devices now."""
    mine, others = live.findall("devices/hostdev"), there.findall("devices/hostdev")
    if [it.get("type") for it in mine] != [it.get("type") for it in others]:
        raise ValueError(f"the guest has {len(mine)} devices of its node, and {len(others)} were made for it there")
    for vgpu, twin in zip(mine, others, strict=True):
        for tag in ("source", "alias"):
            _replace(vgpu, twin, tag)


def _replace_ownership(live: etree._Element, there: etree._Element) -> None:
    path = f"metadata/{Ownership.qualified_tag()}"
    mine, other = live.find(path), there.find(path)
    if mine is not None and other is not None:
        mine.getparent().replace(mine, copy.deepcopy(other))  # type: ignore[union-attr]  # it was found below one


def _replace(live: etree._Element, there: etree._Element, tag: str) -> None:
    """The other's element, or none when it has none."""
    for element in live.findall(tag):
        live.remove(element)
    live.extend(copy.deepcopy(element) for element in there.findall(tag))


def _copy_text(live: etree._Element, there: etree._Element, path: str) -> None:
    mine, other = live.find(path), there.find(path)
    if mine is not None and other is not None:
        mine.text = other.text


def _copy_attributes(live: etree._Element, there: etree._Element | None, tag: str, names: tuple[str, ...]) -> None:
    mine, other = live.find(tag), None if there is None else there.find(tag)
    for name in names if mine is not None and other is not None else ():
        value = other.get(name)  # type: ignore[union-attr]
        if value is not None:
            mine.set(name, value)  # type: ignore[union-attr]


def _attribute(element: etree._Element, tag: str, name: str) -> str:
    found = element.find(tag)
    return "" if found is None else found.get(name, "")


def _first(elements: Iterable[etree._Element]) -> etree._Element | None:
    return next(iter(elements), None)


def _parse(document: str) -> etree._Element:
    return etree.fromstring(document.encode(), etree.XMLParser(resolve_entities=False, no_network=True))
