"""Nodes with devices: a tree that looks like /sys, and what udev, mounts, networks and libvirt know of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agent.devices.base import Surroundings, Versions
from agent.devices.block_use import BlockUse
from agent.devices.inventory import discover_devices
from agent.devices.net_use import NetUse
from protos.agent.v1.host_pb2 import Device
from tests.unit.agent.sysfs_builder import Machine

# What udev knows of a blank disk.
BLANK = {"USEC_INITIALIZED": "1", "ID_WWN": "0x5000c500a1b2c3d4", "ID_SERIAL_SHORT": "ZC1A2B3C", "ID_MODEL": "ST8000NM"}
GRID_T4_DESCRIPTION = "num_heads=4, frl_config=60, framebuffer={mib}M, max_resolution=4096x2160, max_instance={most}"


class Node:
    """Starts with nothing; every method adds a part."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.udev: dict[str, Mapping[str, str]] = {}
        self.mounted: set[str] = set()
        self.swaps: set[str] = set()
        # By the names of devices, see agent.devices.hostdev.
        self.guests: dict[str, str] | None = {}
        self.addresses: dict[str, Sequence[str]] = {}
        self.roles: dict[str, str] = {}
        self.versions = Versions()
        self.may_move_vgpus = True
        # Paths of PCI functions below /sys/devices, by address.
        self.paths: dict[str, str] = {}

    def add(self, name: str, device: str, *, udev: Mapping[str, str] = BLANK, **attributes: Any) -> None:
        """A disk of 8 GiB that nobody uses; attributes with "device__" before them are its hardware's."""
        own = {key: value for key, value in attributes.items() if not key.startswith("device__")}
        self.machine.add_block(name, size_gib=8, device=device, queue__rotational=0, **own)
        for key in attributes.keys() - own.keys():
            self.machine.write(f"devices/{device}/{key.removeprefix('device__')}", attributes[key])
        self.udev[name] = udev

    def add_pci(
        self,
        address: str,
        ids: str,
        class_code: str,
        *,
        group: int | None = None,
        driver: str = "",
        parent: str = "pci0000:00",
        names: tuple[str, str] = ("", ""),
        **attributes: object,
    ) -> str:
        """A PCI function, "10de:1eb8", by `names` in udev's database; answers its path below /sys/devices."""
        path = f"{parent}/{address}"
        vendor, product = ids.split(":")
        own = {"vendor": f"0x{vendor}", "device": f"0x{product}", "class": f"0x{class_code}", "numa_node": 0}
        for name, value in (own | attributes).items():
            self.machine.write(f"devices/{path}/{name.replace('__', '/')}", value)
        self.machine.link(f"bus/pci/devices/{address}", f"devices/{path}")
        if driver:
            self.machine.directory(f"bus/pci/drivers/{driver}")
            self.machine.link(f"devices/{path}/driver", f"bus/pci/drivers/{driver}")
        if group is not None:
            self.machine.directory(f"kernel/iommu_groups/{group}")
            self.machine.link(f"devices/{path}/iommu_group", f"kernel/iommu_groups/{group}")
        if any(names):
            self.udev[address] = {"ID_VENDOR_FROM_DATABASE": names[0], "ID_MODEL_FROM_DATABASE": names[1]}
        self.paths[address] = path
        return path

    def add_virtual_functions(
        self, physical: str, addresses: Sequence[str], ids: str, class_code: str, *, first_group: int, **values: Any
    ) -> None:
        """Virtual functions of a PCI function, each in an IOMMU group of its own."""
        home, parent = self.paths[physical], self.paths[physical].rpartition("/")[0]
        for number, address in enumerate(addresses):
            path = self.add_pci(address, ids, class_code, group=first_group + number, parent=parent, **values)
            self.machine.link(f"devices/{path}/physfn", f"devices/{home}")
            self.machine.link(f"devices/{home}/virtfn{number}", f"devices/{path}")
        self.machine.write(f"devices/{home}/sriov_numvfs", len(addresses))

    def add_mdev_type(
        self, address: str, type_id: str, name: str, *, mib: int, most: int, available: int, uuids: Sequence[str] = ()
    ) -> None:
        """A type of mediated devices, and some that exist."""
        base = f"devices/{self.paths[address]}/mdev_supported_types/{type_id}"
        if not (self.machine.root / f"class/mdev_bus/{address}").exists():
            self.machine.link(f"class/mdev_bus/{address}", f"devices/{self.paths[address]}")
        self.machine.write(f"{base}/name", name)
        self.machine.write(f"{base}/description", GRID_T4_DESCRIPTION.format(mib=mib, most=most))
        self.machine.write(f"{base}/available_instances", available)
        for uuid in uuids:
            self.machine.directory(f"devices/{self.paths[address]}/{uuid}")
            self.machine.link(f"{base}/devices/{uuid}", f"devices/{self.paths[address]}/{uuid}")

    def add_rdma(self, address: str, name: str, *, link_layer: str, state: str) -> None:
        """The RDMA device of a PCI function, with one port."""
        base = f"devices/{self.paths[address]}/infiniband/{name}"
        for attribute, value in (
            ("node_guid", "b859:9f03:00aa:0001"),
            ("fw_ver", "28.39.1002"),
            ("ports/1/state", state),
            ("ports/1/link_layer", link_layer),
            ("ports/1/rate", "400 Gb/sec (4X NDR)"),
            ("ports/1/gids/0", "fe80:0000:0000:0000:b859:9f03:00aa:0001"),
        ):
            self.machine.write(f"{base}/{attribute}", value)

    def add_usb(
        self,
        name: str,
        ids: str,
        *,
        controller: str = "pci0000:00/0000:00:14.0",
        number: int = 5,
        device_class: str = "00",
        interfaces: Sequence[tuple[str, str]] = (("08", "50"),),
        **attributes: object,
    ) -> str:
        """A USB device, "0951:1666", with classes and protocols of interfaces; answers its path below /sys/devices."""
        bus, _, ports = name.partition("-")
        hubs = [f"{bus}-{ports[:end]}" for end, letter in enumerate(ports) if letter == "."]
        path = "/".join((controller, f"usb{bus}", *hubs, name))
        vendor, product = ids.split(":")
        own = {"idVendor": vendor, "idProduct": product, "busnum": bus, "devnum": number, "bDeviceClass": device_class}
        for attribute, value in (own | attributes).items():
            self.machine.write(f"devices/{path}/{attribute}", value)
        for place, (kind, protocol) in enumerate(interfaces):
            self.machine.write(f"devices/{path}/{name}:1.{place}/bInterfaceClass", kind)
            self.machine.write(f"devices/{path}/{name}:1.{place}/bInterfaceProtocol", protocol)
            self.machine.link(f"bus/usb/devices/{name}:1.{place}", f"devices/{path}/{name}:1.{place}")
        self.machine.link(f"bus/usb/devices/{name}", f"devices/{path}")
        return path

    def add_t4(self, address: str = "0000:3b:00.0", *, group: int | None = 42, **attributes: Any) -> str:
        """A GPU of one function."""
        driver = attributes.pop("driver", "nvidia")
        names = ("NVIDIA Corporation", "TU104GL [Tesla T4]")
        ids, parent = "10de:1eb8", "pci0000:3a/0000:3a:00.0"
        return self.add_pci(
            address, ids, "030200", group=group, driver=driver, parent=parent, names=names, **attributes
        )

    def add_graphics_card(self, slot: str = "0000:65:00", *, group: int = 30, usb_group: int | None = None) -> None:
        """A GPU with audio, USB-C and the serial bus beside it."""
        for function, product, class_code, driver in (
            (0, "1e30", "030000", "nouveau"),
            (1, "10f7", "040300", "snd_hda_intel"),
            (2, "1ad6", "0c0330", "xhci_hcd"),
            (3, "1ad7", "0c8000", "nvidia-gpu"),
        ):
            its_group = usb_group if function == 2 and usb_group is not None else group
            self.add_pci(
                f"{slot}.{function}",
                f"10de:{product}",
                class_code,
                group=its_group,
                driver=driver,
                parent="pci0000:64/0000:64:00.0",
                boot_vga=0,
                reset_method="flr bus",
            )

    def discover(self, kind: str = "") -> list[Device]:
        """All devices, or those of a kind."""
        use = BlockUse(frozenset(self.mounted), frozenset(self.swaps), self.guests)
        properties = lambda _subsystem, name: self.udev.get(name, {})  # noqa: E731
        networks = NetUse(self.addresses, self.roles)
        around = Surroundings(
            *(self.machine.sysfs, properties, use, networks), versions=self.versions, may_move_vgpus=self.may_move_vgpus
        )
        return [device for device in discover_devices(around) if kind in ("", device.kind)]

    def reason(self, device_id: str = "") -> str:
        """Why the only device, or the named one, is withheld."""
        (device,) = (device for device in self.discover() if device_id in ("", device.id))
        return device.withheld_reason
