"""A node whose devices are given to guests: writes to its tree of /sys have the effect that they have in a kernel."""

from __future__ import annotations

import errno
import functools
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from agent.devices.base import Surroundings
from agent.devices.fault import Faults
from agent.devices.gpu_mode import GpuModes, ModeRecord
from agent.devices.journal import DeviceJournal, Entry
from agent.devices.keeper import DeviceKeeper
from agent.devices.maker import Tools
from agent.devices.state import DeviceStates
from agent.devices.survey import DeviceSurvey
from agent.devices.writer import SysfsWriter
from agent.errors import HypervisorUnavailable, HypervisorUnsupported
from protos.agent.v1.device_pb2 import HostDevice
from protos.agent.v1.host_pb2 import Device
from tests.unit.agent.device_builder import Node
from tests.unit.agent.sysfs_builder import Machine

DOMAIN: Final = "0a6a1c50-7fb4-4b0a-9d0e-5a4f6b1c2d01"
OTHER_DOMAIN: Final = "0a6a1c50-7fb4-4b0a-9d0e-5a4f6b1c2d02"
DEVICE: Final = "5b0e3f0c-2a30-5d65-8c44-0a2b6f3c1d01"
OTHER_DEVICE: Final = "5b0e3f0c-2a30-5d65-8c44-0a2b6f3c1d02"
FOREIGN: Final = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"

T4: Final = "0000:3b:00.0"
A100: Final = "0000:81:00.0"
VIRTUAL: Final = tuple(f"0000:81:00.{number}" for number in range(4, 8))
CREATABLE: Final = "ID    : vGPU Name\n471   : NVIDIA A100-4C\n472   : NVIDIA A100-5C\n"


class PowerFailure(Exception):
    """Nothing of the agent goes on."""


class Countdown:
    """The power fails before the step of this number, or after it."""

    def __init__(self) -> None:
        self.before: int | None = None
        self.after: int | None = None
        self.steps = 0

    def take(self, step: Callable[[], None]) -> None:
        if self.steps == self.before:
            raise PowerFailure
        step()
        if self.steps == self.after:
            raise PowerFailure
        self.steps += 1


class Kernel(SysfsWriter):
    """Does what drivers do."""

    def __init__(self, node: Node, countdown: Countdown) -> None:
        super().__init__(node.machine.root)
        self._node = node
        self._countdown = countdown
        self.writes: list[tuple[str, str]] = []
        # What is refused, by a part of the path.
        self.refusals: dict[str, int] = {}
        # Which driver takes a function when nobody chooses.
        self.home_drivers: dict[str, str] = {}
        # How to add the virtual functions of a function.
        self.virtual_functions: dict[str, Callable[[], object]] = {}
        self._answers: Sequence[tuple[str, Callable[..., None]]] = (
            (r"class/mdev_bus/([^/]+)/mdev_supported_types/([^/]+)/create", self._create_mdev),
            (r"class/mdev_bus/([^/]+)/([0-9a-f-]{36})/remove", self._remove_mdev),
            (r"(.+/nvidia)/current_vgpu_type", self._set_type),
            (r"bus/pci/devices/([^/]+)/driver/unbind", self._unbind),
            (r"bus/pci/devices/([^/]+)/driver_override", self._override),
            (r"bus/pci/drivers_probe", self._probe),
            (r"bus/pci/devices/([^/]+)/sriov_numvfs", self._set_virtual_functions),
            (r"class/net/([^/]+)/flags", lambda name, text: self._node.machine.write(f"class/net/{name}/flags", text)),
        )

    def write(self, path: str, text: str) -> None:
        self.writes.append((path, text))
        for part, number in self.refusals.items():
            if part in path:
                raise OSError(number, os.strerror(number))
        for pattern, answer in self._answers:
            if match := re.fullmatch(pattern, path):
                self._countdown.take(functools.partial(answer, *match.groups(), text))
                return
        raise OSError(errno.ENOENT, f"no such attribute: {path}")

    def _path(self, path: str) -> Path:
        return self.root / path

    def _create_mdev(self, parent: str, type_id: str, uuid: str) -> None:
        types = f"class/mdev_bus/{parent}/mdev_supported_types"
        base = f"{types}/{type_id}"
        left = int(self._path(f"{base}/available_instances").read_text())
        if not left or list(self._path(types).glob(f"*/devices/{uuid}")):
            raise OSError(errno.EEXIST if left else errno.ENOSPC, "not made")
        above = f"devices/{self._node.paths[parent]}"
        self._node.machine.directory(f"{above}/{uuid}")
        link = f"{above}/mdev_supported_types/{type_id}/devices/{uuid}"
        self._node.machine.link(link, f"{above}/{uuid}")
        self._node.machine.write(f"{base}/available_instances", left - 1)

    def _remove_mdev(self, parent: str, uuid: str, _text: str) -> None:
        self.remove_mdev(parent, uuid)

    def remove_mdev(self, parent: str, uuid: str) -> None:
        """As a reboot, too, does."""
        (link,) = self._path(f"class/mdev_bus/{parent}/mdev_supported_types").glob(f"*/devices/{uuid}")
        link.unlink()
        shutil.rmtree(self._path(f"class/mdev_bus/{parent}/{uuid}"))
        left = link.parent.parent / "available_instances"
        left.write_text(f"{int(left.read_text()) + 1}\n")

    def _set_type(self, base: str, text: str) -> None:
        current = int(self._path(f"{base}/current_vgpu_type").read_text())
        creatable = self._path(f"{base}/creatable_vgpu_types").read_text()
        if text != "0" and (current or not re.search(rf"^{text} ", creatable, re.MULTILINE)):
            raise OSError(errno.EINVAL, "not such a type")
        self._node.machine.write(f"{base}/current_vgpu_type", text)

    def _unbind(self, address: str, _text: str) -> None:
        self._path(f"bus/pci/devices/{address}/driver").unlink()

    def _override(self, address: str, text: str) -> None:
        self._node.machine.write(f"bus/pci/devices/{address}/driver_override", text.strip())

    def _probe(self, address: str) -> None:
        chosen = self._path(f"bus/pci/devices/{address}/driver_override").read_text().strip()
        driver = chosen or self.home_drivers.get(address, "")
        if driver and not self._path(f"bus/pci/devices/{address}/driver").exists():
            self.bind(address, driver)

    def bind(self, address: str, driver: str) -> None:
        """As libvirt, a person or a probe does."""
        link = self._path(f"bus/pci/devices/{address}/driver")
        link.unlink(missing_ok=True)
        self._node.machine.directory(f"bus/pci/drivers/{driver}")
        self._node.machine.link(f"devices/{self._node.paths[address]}/driver", f"bus/pci/drivers/{driver}")

    def _set_virtual_functions(self, address: str, text: str) -> None:
        if text == "0":
            self.remove_virtual_functions(address)
        elif self._node.machine.sysfs.read_number(f"bus/pci/devices/{address}/sriov_numvfs"):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        else:
            self.virtual_functions[address]()
            self._node.machine.write(f"bus/pci/devices/{address}/sriov_numvfs", text)

    def remove_virtual_functions(self, address: str) -> None:
        """As a reboot, too, does."""
        home = self._path(f"bus/pci/devices/{address}")
        for link in [link for link in home.iterdir() if link.name.startswith("virtfn")]:
            self._path(f"bus/pci/devices/{os.readlink(link).rpartition('/')[2]}").unlink()
            shutil.rmtree(link.resolve())
            link.unlink()
        self._node.machine.write(f"bus/pci/devices/{address}/sriov_numvfs", 0)


class Journal(DeviceJournal):
    """Whose writes are steps, too."""

    def __init__(self, directory: Path, countdown: Countdown) -> None:
        super().__init__(directory)
        self._countdown = countdown

    def _write(self, domain_uuid: str, entries: Any) -> None:
        self._countdown.take(lambda: super(Journal, self)._write(domain_uuid, entries))


class Modes(GpuModes):
    """The same for the mode of GPUs."""

    def __init__(self, path: Path, tools: Tools, countdown: Countdown) -> None:
        super().__init__(path, tools)
        self._countdown = countdown

    def _keep(self, record: ModeRecord) -> None:
        self._countdown.take(lambda: super(Modes, self)._keep(record))


class NoLibvirt:
    """A libvirt that makes no mediated devices."""

    async def ensure(self, uuid: str, parent: str, type_id: str) -> None:
        raise HypervisorUnsupported("no mdevctl")

    async def ensure_removed(self, uuid: str) -> None:
        raise HypervisorUnsupported("no mdevctl")


class Rig:
    """A node with a keeper, which can be started anew."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.node = Node(Machine(directory))
        self.countdown = Countdown()
        self.kernel = Kernel(self.node, self.countdown)
        # Names of devices by the UUID of the domain that has them; None: libvirt is away.
        self.domains: dict[str, list[str]] | None = {}
        self.ip_calls: list[str] = []
        self.virtual_functions: Mapping[str, str] = {}
        self.chunk_bytes = 4 * 1024**2
        self.notices = 0
        self.looks = 0
        (directory / "dev").mkdir()
        self.start()

    def start(self) -> DeviceKeeper:
        """The agent's process begins, and knows what is on disk."""
        sysfs = self.node.machine.sysfs
        tools = Tools(sysfs, self.kernel, NoLibvirt(), self._run_ip)
        self.journal = Journal(self.directory / "journal/devices", self.countdown)
        self.modes = Modes(self.directory / "journal/gpu-mode.json", tools, self.countdown)
        self.journal.prepare()
        self.modes.prepare()
        self.faults = Faults(sysfs)
        self.survey = DeviceSurvey(
            sysfs,
            lambda _, name: self.node.udev.get(name, {}),
            self._read_users,
            self.directory / "proc",
            read_gpu_mode=lambda: self.modes.mode,
            complete=DeviceStates(self.journal, self.faults).complete,
        )
        self.keeper = DeviceKeeper(
            self.journal,
            self.modes,
            tools,
            self.survey,
            virtual_functions=self.virtual_functions,
            notice=self._notice,
            dev=self.directory / "dev",
            chunk_bytes=self.chunk_bytes,
        )
        return self.keeper

    def fail_at(self, *, before: int | None = None, after: int | None = None) -> None:
        """The power fails at a step counted from here; without a number never."""
        self.countdown.before, self.countdown.after, self.countdown.steps = before, after, 0

    async def discover(self, kind: str = "") -> list[Device]:
        """What the node tells of itself."""
        devices = await self.survey.discover(await self.look())
        return [device for device in devices if kind in ("", device.kind)]

    async def look(self) -> Surroundings:
        return await self.survey.look_anyway()

    async def find(self, device_id: str) -> Device:
        (device,) = (device for device in await self.discover() if device.id == device_id)
        return device

    async def release(self, domain_uuid: str = DOMAIN, *uuids: str) -> list[tuple[int, int]]:
        """To the end; the progress."""
        return [(step.done_bytes, step.total_bytes) async for step in self.keeper.release(domain_uuid, uuids)]

    def entries(self) -> list[Entry]:
        return self.journal.entries()

    def mount(self, number: str, source: str) -> None:
        """A file system of this device is mounted."""
        (self.directory / "proc/self").mkdir(parents=True, exist_ok=True)
        (self.directory / "proc/self/mountinfo").write_text(f"29 1 {number} / /mnt rw - ext4 {source} rw\n")

    async def _read_users(self, besides: str) -> dict[str, str]:
        self.looks += 1
        if self.domains is None:
            raise HypervisorUnavailable("libvirt is away")
        return {name: f"vm-{uuid[-2:]}" for uuid, names in self.domains.items() if uuid != besides for name in names}

    async def _run_ip(self, arguments: Sequence[str]) -> None:
        self.ip_calls.append(" ".join(arguments))

    def _notice(self) -> None:
        self.notices += 1


def wish(device_id: str, uuid: str = DEVICE, **values: Any) -> HostDevice:
    """What a guest is to have."""
    return HostDevice(device_id=device_id, uuid=uuid, **values)


def add_split_t4(node: Node, *, driver: str = "nvidia") -> None:
    """A GPU with mediated devices, one of which somebody else has made."""
    node.add_t4(T4, driver=driver, driver_override="")
    if driver == "nvidia":
        add_t4_types(node)


def add_t4_types(node: Node) -> None:
    node.add_mdev_type(T4, "nvidia-222", "GRID T4-1B", mib=1024, most=16, available=2, uuids=[FOREIGN])
    node.add_mdev_type(T4, "nvidia-223", "GRID T4-2B", mib=2048, most=8, available=0)


def add_a100(node: Node, *, enabled: bool = True, driver: str = "nvidia") -> None:
    """A GPU with virtual functions of the newer framework, or one that could have them."""
    parent = "pci0000:80/0000:80:01.1"
    node.add_pci(
        A100, "10de:20b5", "030200", group=80, driver=driver, parent=parent, sriov_totalvfs=4, driver_override=""
    )
    node.machine.write(f"bus/pci/devices/{A100}/sriov_numvfs", 0)
    if enabled:
        add_a100_functions(node)


def add_a100_functions(node: Node) -> None:
    node.add_virtual_functions(
        A100,
        VIRTUAL,
        "10de:20b5",
        "030200",
        first_group=90,
        driver="nvidia",
        nvidia__creatable_vgpu_types=CREATABLE,
        nvidia__current_vgpu_type=0,
    )


def set_type(node: Node, address: str, number: int) -> None:
    """As the driver's own tools do."""
    node.machine.write(f"bus/pci/devices/{address}/nvidia/current_vgpu_type", number)


def read_type(node: Node, address: str) -> int:
    return node.machine.sysfs.read_number(f"bus/pci/devices/{address}/nvidia/current_vgpu_type")


def list_mdevs(node: Node, parent: str = T4) -> list[str]:
    """UUIDs of the mediated devices of a parent."""
    types = node.machine.root / f"class/mdev_bus/{parent}/mdev_supported_types"
    return sorted(link.name for link in types.glob("*/devices/*"))


def reboot(rig: Rig) -> None:
    """What the kernel forgets: what was made, which drivers were chosen, virtual functions; what others made, too."""
    node = rig.node
    for parent in node.machine.sysfs.names("class/mdev_bus"):
        for uuid in list_mdevs(node, parent):
            rig.kernel.remove_mdev(parent, uuid)
    for address in node.machine.sysfs.names("bus/pci/devices"):
        base = f"bus/pci/devices/{address}"
        if node.machine.sysfs.exists(f"{base}/nvidia/current_vgpu_type"):
            set_type(node, address, 0)
        if node.machine.sysfs.exists(f"{base}/driver_override"):
            node.machine.write(f"{base}/driver_override", "")
        if home := rig.kernel.home_drivers.get(address):
            rig.kernel.bind(address, home)
    for address in rig.kernel.virtual_functions:
        rig.kernel.remove_virtual_functions(address)
    rig.start()
