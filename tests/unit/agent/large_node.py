"""A large node for passthrough: GPUs of both frameworks, hundreds of virtual functions, shelves of disks, USB."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from tests.unit.agent.device_builder import Node
from tests.unit.agent.sysfs_builder import Machine

MEDIATED_GPUS: Final = 8
# In halves like an A100 and like an L40.
SRIOV_GPUS: Final = 8
FUNCTIONS_OF_A_GPU: Final = 16
CARDS: Final = 8
FUNCTIONS_OF_A_CARD: Final = 64
SHELVES: Final = 3
DISKS_OF_A_SHELF: Final = 20
USB_DEVICES: Final = 40
# Somebody else's, of the first GPU.
FOREIGN_MDEV: Final = "7d3a2f10-93a1-4b5c-8e77-0c9f3d1b2a44"

_T4_TYPES: Final = (("nvidia-222", "GRID T4-1B", 1024, 16), ("nvidia-231", "GRID T4-2Q", 2048, 8))
_CREATABLE: Final = {
    "20b5": "ID    : vGPU Name\n" + "\n".join(f"{468 + kind}   : NVIDIA A100-{4 << kind}C" for kind in range(5)),
    "26b9": "ID    : vGPU Name\n" + "\n".join(f"{1145 + kind}  : NVIDIA L40-{1 << kind}Q" for kind in range(6)),
}


def build_large_node(directory: Path) -> Node:
    """16 GPUs with 128 functions, 8 cards with 512, 60 disks in shelves, 40 USB devices; all of it is in two cells."""
    node = Node(Machine(directory))
    for number in range(MEDIATED_GPUS):
        _add_mediated_gpu(node, number)
    for number in range(SRIOV_GPUS):
        _add_sriov_gpu(node, number)
    for number in range(CARDS):
        _add_card(node, number)
    _add_shelves(node)
    _add_usb(node)
    return node


def _add_mediated_gpu(node: Node, number: int) -> None:
    bus = f"{0x10 + number:02x}"
    address = f"0000:{bus}:00.0"
    parent = f"pci0000:{bus}/0000:{bus}:00.0".replace("00.0", "01.0")
    names, aer = ("NVIDIA Corporation", "TU104GL [Tesla T4]"), _count_errors()
    node.add_pci(address, "10de:1eb8", "030200", group=100 + number, driver="nvidia", parent=parent, names=names, **aer)
    for type_id, name, mib, most in _T4_TYPES:
        is_foreign = number == 0 and type_id == _T4_TYPES[0][0]
        uuids = [FOREIGN_MDEV] if is_foreign else []
        node.add_mdev_type(address, type_id, name, mib=mib, most=most, available=most - len(uuids), uuids=uuids)


def _add_sriov_gpu(node: Node, number: int) -> None:
    bus = f"{0x20 + number:02x}"
    address, product = f"0000:{bus}:00.0", ("20b5", "26b9")[2 * number // SRIOV_GPUS]
    names = ("NVIDIA Corporation", "GA100 [A100]" if product == "20b5" else "AD102GL [L40]")
    common: dict[str, Any] = {"driver": "nvidia", "names": names, "numa_node": number % 2}
    node.add_pci(
        address,
        f"10de:{product}",
        "030200",
        group=200 + number,
        parent=f"pci0000:{bus}/0000:{bus}:01.0",
        sriov_totalvfs=FUNCTIONS_OF_A_GPU,
        **common,
        **_count_errors(),
    )
    node.add_virtual_functions(
        address,
        list(_addresses(bus, FUNCTIONS_OF_A_GPU)),
        f"10de:{product}",
        "030200",
        first_group=1000 + FUNCTIONS_OF_A_GPU * number,
        nvidia__creatable_vgpu_types=_CREATABLE[product],
        nvidia__current_vgpu_type=0,
        **common,
    )


def _add_card(node: Node, number: int) -> None:
    bus = f"{0x40 + number:02x}"
    address = f"0000:{bus}:00.0"
    names = ("Mellanox Technologies", "MT2892 Family [ConnectX-6 Dx]")
    common: dict[str, Any] = {"driver": "mlx5_core", "names": names, "numa_node": number % 2}
    node.add_pci(
        address,
        "15b3:101d",
        "020000",
        group=300 + number,
        parent=f"pci0000:{bus}/0000:{bus}:01.0",
        sriov_totalvfs=FUNCTIONS_OF_A_CARD,
        **common,
        **_count_errors(),
    )
    functions = list(_addresses(bus, FUNCTIONS_OF_A_CARD))
    first_group = 2000 + FUNCTIONS_OF_A_CARD * number
    node.add_virtual_functions(address, functions, "15b3:101e", "020000", first_group=first_group, **common)
    for place, function in enumerate((address, *functions)):
        name = f"ens{number}f0" + (f"v{place - 1}" if place else "np0")
        device = node.paths[function]
        node.machine.add_nic(name, device=device, address=f"02:00:00:00:{number:02x}:{place:02x}", carrier=1, ifindex=1)
        node.add_rdma(
            function, f"mlx5_{number * (FUNCTIONS_OF_A_CARD + 1) + place}", link_layer="Ethernet", state="4: ACTIVE"
        )


def _add_shelves(node: Node) -> None:
    """Of SAS disks, behind one expander each."""
    hba = node.add_pci(
        "0000:80:00.0", "1000:00ac", "010700", group=400, driver="mpt3sas", parent="pci0000:80/0000:80:01.0"
    )
    for number in range(SHELVES * DISKS_OF_A_SHELF):
        shelf, slot = divmod(number, DISKS_OF_A_SHELF)
        address = f"1:0:{number}:0"
        way = f"host1/port-1:{shelf}/expander-1:{shelf}/port-1:{shelf}:{slot}/end_device-1:{shelf}:{slot}"
        udev = _describe_disk(number)
        place = f"{hba}/{way}/target1:0:{number}/{address}"
        node.add(_name_disk(number), place, udev=udev, dev=f"8:{16 * number}", device__state="running")


def _add_usb(node: Node) -> None:
    """Behind hubs with four ports each."""
    node.add_pci("0000:00:14.0", "8086:a36d", "0c0330", group=401, driver="xhci_hcd")
    for number in range(USB_DEVICES):
        hub, port = divmod(number, 4)
        if port == 0:
            node.add_usb(f"1-{hub + 1}", "05e3:0610", number=hub + 2, device_class="09", interfaces=(("09", "00"),))
        name = f"1-{hub + 1}.{port + 1}"
        node.add_usb(name, "0951:1666", number=20 + number, serial=f"E0D55E{number:02d}", speed=480)


def _addresses(bus: str, count: int) -> Iterator[str]:
    """Of virtual functions behind the first slot of a bus."""
    for place in range(8, 8 + count):
        yield f"0000:{bus}:{place // 8:02x}.{place % 8}"


def _name_disk(number: int) -> str:
    first, second = divmod(number, 26)
    return "sd" + (chr(96 + first) if first else "") + chr(97 + second)


def _describe_disk(number: int) -> Mapping[str, str]:
    return {
        "USEC_INITIALIZED": "1",
        "ID_WWN": f"0x5000c500a1b2{number:04x}",
        "ID_SERIAL_SHORT": f"ZC1A2B{number:02d}",
        "ID_MODEL": "ST16000NM002J",
        "ID_VENDOR": "SEAGATE",
        "ID_PATH": f"pci-0000:80:00.0-sas-exp0x500304801f0d{number // DISKS_OF_A_SHELF:04x}-phy{number}-lun-0",
    }


def _count_errors() -> dict[str, Any]:
    return {"aer_dev_fatal": "TOTAL_ERR_FATAL 0", "aer_dev_nonfatal": "TOTAL_ERR_NONFATAL 0"}
