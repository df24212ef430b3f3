"""The hardware of the node: what a server for passthrough has, in one QEMU, which needs no KVM."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.hardware.boot_sector import make_speaker
from tests.hardware.preparation import Preparation

MANAGEMENT_MAC: Final = "52:54:00:00:00:01"
# In the guest's network of QEMU: the node itself, and this machine as the node sees it.
NODE_ADDRESS: Final = "10.0.2.15"
OUTSIDE_ADDRESS: Final = "10.0.2.2"
AGENT_PORT: Final = 8446
# The second graphics card and the card with virtual functions, as the firmware numbers the buses.
SPLIT_GPU: Final = "0000:03:00.0"
SPLIT_NIC: Final = "0000:04:00.0"
# What has gone over the wire of the latter, as pcap.
SPLIT_WIRE: Final = "split.pcap"
# The root port with nothing in it: where devices are plugged in from outside.
FREE_PORT: Final = "free"
# All of it below 4 GiB: else that of devices is above it, where QEMU 10 does not find that of virtual functions.
_MEMORY_MIB: Final = 2752
_DISK_BYTES: Final = 64 * 1024**2
_SYSTEM_BYTES: Final = 2 * 1024**3
# What the boot sectors of the disks say, by the name of the disk.
DISKS: Final = (
    "sata-hdd",
    "sata-ssd",
    "sas-0",
    "sas-1",
    "sas-2",
    "nvme-0",
    "nvme-1",
    "nvme-plugged",
    "stick",
    "stick-plugged",
)
_CPU: Final = "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt,+cx16,+rdrand"
_KERNEL_COMMAND_LINE: Final = (
    "console=ttyS0 loglevel=4 intel_iommu=on apparmor=0 mitigations=off nopti nokaslr tsc=reliable no_timer_check"
    " random.trust_cpu=on panic=-1"
)


def describe_proof(disk: str) -> str:
    """What the boot sector of this disk says, or what cards load from the network."""
    return f"disk {disk}"


def make_disks(directory: Path) -> None:
    """Disks whose boot sectors tell which they are, the same for the network, and one for the node itself."""
    for name in DISKS:
        with (directory / name).open("wb") as disk:
            disk.write(make_speaker(describe_proof(name)))
            disk.truncate(_DISK_BYTES)
    system = directory / "system"
    with system.open("wb") as disk:
        disk.truncate(_SYSTEM_BYTES)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", system], check=True)
    (directory / "tftp").mkdir()
    (directory / "tftp/boot").write_bytes(make_speaker(describe_proof("network")))


def describe_machine(preparation: Preparation, directory: Path, agent_port: int) -> list[str]:
    """QEMU's arguments; the agent's port of the node is reached under `agent_port` of this machine."""
    groups = (
        _board(preparation, directory),
        _shares(preparation, directory),
        _network(agent_port),
        _cards(directory, with_igb="igb" not in preparation.missing),
        _nvme(directory),
        _sata_and_scsi(directory),
        _usb(directory),
    )
    return [argument for group in groups for argument in group]


def _board(preparation: Preparation, directory: Path) -> Iterator[str]:
    # QEMU before 8 lets the kernel's patching of its own code fail now and then with more than one processor.
    processors = 1 if "igb" in preparation.missing else 2
    yield from ("-machine", "q35,kernel-irqchip=split", "-accel", "tcg,thread=multi,tb-size=512", "-cpu", _CPU)
    yield from ("-smp", str(processors), "-m", str(_MEMORY_MIB), "-nodefaults", "-display", "none", "-no-reboot")
    yield from ("-kernel", str(preparation.kernel), "-initrd", str(preparation.initrd), "-append", _KERNEL_COMMAND_LINE)
    yield from ("-serial", f"file:{directory}/console.log", "-qmp", f"unix:{directory}/qmp,server=on,wait=off")
    yield from ("-device", "intel-iommu,intremap=on", "-device", "VGA,romfile=")
    yield from ("-device", "virtio-serial-pci,id=serial")
    yield from ("-chardev", f"socket,id=shell,path={directory}/shell,server=on,wait=off")
    yield from ("-device", "virtserialport,bus=serial.0,chardev=shell,name=org.qemu.guest_agent.0")
    yield from _drive("system", directory, cache="unsafe")
    yield from ("-device", "virtio-blk-pci,drive=system,serial=SYSTEM")


def _shares(preparation: Preparation, directory: Path) -> Iterator[str]:
    shares = (
        ("root", "/", "readonly=on,multidevs=remap"),
        ("layer", preparation.layer, "readonly=on"),
        ("node", directory / "shared", "readonly=off"),
    )
    for tag, path, options in shares:
        yield from ("-fsdev", f"local,id={tag},path={path},security_model=none,{options}")
        yield from ("-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}")


def _network(agent_port: int) -> Iterator[str]:
    yield from ("-netdev", f"user,id=management,hostfwd=tcp:127.0.0.1:{agent_port}-:{AGENT_PORT}")
    yield from ("-device", f"virtio-net-pci,netdev=management,mac={MANAGEMENT_MAC},romfile=")


def _cards(directory: Path, *, with_igb: bool) -> Iterator[str]:
    """Each behind a port of its own, and so in an IOMMU group of its own: the first number is that of the port."""
    yield from _port(1)
    yield from ("-netdev", f"user,id=wire,tftp={directory}/tftp,bootfile=boot")
    yield from ("-device", "e1000e,bus=port1,netdev=wire,mac=52:54:00:00:01:01")
    # The shape of a graphics card: the display and its sound.
    yield from _port(2)
    yield from (
        "-device",
        "ati-vga,bus=port2,addr=0.0,multifunction=on,romfile=",
        "-device",
        "intel-hda,bus=port2,addr=0.1",
    )
    # Another one, which the fake driver of vGPUs splits.
    yield from _port(3)
    yield from ("-device", "ati-vga,bus=port3,romfile=")
    if with_igb:
        yield from _port(4)
        yield from ("-netdev", "user,id=split", "-device", "igb,bus=port4,netdev=split,mac=52:54:00:00:04:00,romfile=")
        yield from ("-object", f"filter-dump,id=recorder,netdev=split,file={directory / SPLIT_WIRE}")
    yield from ("-device", f"pcie-root-port,id={FREE_PORT},chassis=9,slot=9")
    # Two cards that nothing keeps from each other: behind a bridge of conventional PCI.
    yield from ("-device", "pcie-pci-bridge,id=bridge")
    for number in (1, 2):
        yield from ("-device", f"e1000,bus=bridge,addr={number},romfile=")


def _nvme(directory: Path) -> Iterator[str]:
    for number in (0, 1):
        name = f"nvme-{number}"
        yield from _port(5 + number)
        yield from _drive(name, directory)
        yield from ("-device", f"nvme,bus=port{5 + number},serial=NVME{number},drive={name}")


def _sata_and_scsi(directory: Path) -> Iterator[str]:
    for number, (name, rotation) in enumerate((("sata-hdd", 7200), ("sata-ssd", 1))):
        yield from _drive(name, directory)
        yield from ("-device", f"ide-hd,bus=ide.{number},drive={name},serial=SATA{number},rotation_rate={rotation}")
    yield from ("-device", "virtio-scsi-pci,id=scsi")
    for number, (target, lun) in enumerate(((1, 0), (1, 1), (2, 0))):
        name = f"sas-{number}"
        place = f"bus=scsi.0,channel=0,scsi-id={target},lun={lun}"
        identity = f"serial=SAS{number},wwn=0x500000000000000{number + 1},rotation_rate=10000,vendor=MAKER,product=DISK"
        yield from _drive(name, directory)
        yield from ("-device", f"scsi-hd,{place},drive={name},{identity}")


def _usb(directory: Path) -> Iterator[str]:
    yield from ("-device", "qemu-xhci,id=usb,p2=8,p3=8")
    yield from _drive("stick", directory)
    yield from ("-device", "usb-storage,bus=usb.0,port=1,drive=stick,serial=STICK0,removable=on")
    yield from ("-device", "usb-tablet,bus=usb.0,port=2", "-chardev", "null,id=line")
    yield from ("-device", "usb-serial,bus=usb.0,port=3,chardev=line,always-plugged=on,serial=SERIAL0")
    yield from ("-device", "usb-hub,bus=usb.0,port=4", "-device", "usb-kbd,bus=usb.0,port=4.1")
    yield from ("-device", "usb-ccid,bus=usb.0,port=4.2")


def _port(number: int) -> tuple[str, str]:
    return "-device", f"pcie-root-port,id=port{number},chassis={number},slot={number}"


def _drive(name: str, directory: Path, cache: str = "writeback") -> tuple[str, str]:
    return "-drive", f"if=none,id={name},format=raw,cache={cache},file={directory}/{name}"
