"""How all GPUs of the node work: whole for one guest each, or split into vGPUs of one type.

What is to be is on disk before anything is done for it: whatever is interrupted is ended by the next call or start.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import structlog

from agent.devices.base import PASSTHROUGH, GpuMode, Surroundings
from agent.devices.binding import VFIO_DRIVER
from agent.devices.gpu import find_companions, find_plain_obstacles, is_gpu
from agent.devices.hostdev import describe_user, name_mdev, name_pci
from agent.devices.journal import Entry
from agent.devices.maker import Tools
from agent.devices.pci import PciFunction
from agent.devices.sriov import ALL, disable_virtual_functions, enable_virtual_functions
from agent.devices.vgpu import VgpuSupport, read_vgpus
from agent.durable_file import write_file
from agent.errors import AgentError, DeviceFailed, GpuInUse, GpuModeUnsupported, RequestInvalid

_MODE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_NVIDIA: Final = "10de"
_NVIDIA_DRIVER: Final = "nvidia"

# The node as it is now, without a mode: what drivers could do counts here.
Look = Callable[[], Awaitable[Surroundings]]

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class ModeRecord:
    """What is on disk."""

    mode: str = ""
    # What to go back to when no GPU can do what is wanted.
    former_mode: str = ""
    # All that is to be done for the mode has been done.
    settled: bool = True
    # GPUs that were split when it was.
    split_ids: tuple[str, ...] = ()
    # GPUs that were taken from these drivers for the mode, and those whose virtual functions were made for it.
    drivers: Mapping[str, str] = field(default_factory=dict)
    enabled: tuple[str, ...] = ()


class GpuModes:
    """The mode of the node's GPUs. One change at a time."""

    def __init__(self, path: Path, tools: Tools) -> None:
        self._path = path
        self._tools = tools
        self._record = ModeRecord()

    def prepare(self) -> None:
        """The mode of the last run is known; what cannot be read is left for a person to see."""
        try:
            self._record = _decode(json.loads(self._path.read_bytes()))
        except FileNotFoundError:
            return
        except (ValueError, KeyError, TypeError) as error:
            kept = self._path.with_suffix(".unreadable")
            log.warning("device.gpu_mode_unreadable", kept=str(kept), reason=str(error))
            self._path.rename(kept)

    @property
    def mode(self) -> GpuMode:
        """What discovery heeds."""
        return GpuMode(self._record.mode, frozenset(self._record.split_ids), self._record.settled)

    async def set(self, mode: str, look: Look, entries: Sequence[Entry]) -> list[str]:
        """All GPUs that can work in this mode do; answers their ids.

        Raises RequestInvalid, GpuInUse, GpuModeUnsupported, DeviceFailed: then the next call or start goes on.
        """
        if not _MODE.fullmatch(mode):
            raise RequestInvalid(f'mode: "{PASSTHROUGH}" or the id of a vGPU type')
        around = await look()
        gpus = list(_list_gpus(around))
        if not gpus:
            raise GpuModeUnsupported("the node has no GPU")
        self._refuse_used(gpus, mode, around, entries)
        if mode != self._record.mode:
            self._keep(replace(self._record, mode=mode, former_mode=self._record.mode, settled=False))
        await self._switch_all(gpus, around, entries)
        return await self._settle(look, entries)

    async def restore(self, look: Look, entries: Sequence[Entry]) -> None:
        """The GPUs work in the mode that was set last, as far as they can; what they cannot is logged."""
        around = await look()
        if not self._record.mode or around.guests is None:  # without libvirt nobody knows what guests have
            return
        gpus = list(_list_gpus(around))
        if self._record.settled:
            # Others are as somebody wants them.
            gpus = [gpu for gpu in gpus if gpu.address in self._record.split_ids]
        try:
            await self._switch_all(gpus, around, entries)
            await self._settle(look, entries)
        except (AgentError, OSError) as error:
            log.warning("device.gpu_mode_not_restored", mode=self._record.mode, reason=str(error))

    async def _settle(self, look: Look, entries: Sequence[Entry]) -> list[str]:
        """The rest of what is to be done for the mode, after all GPUs were switched."""
        around, mode = await look(), self._record.mode
        gpus = list(_list_gpus(around))
        able = [gpu.address for gpu in gpus if _works(gpu, mode, around)]
        known = self._record.split_ids if self._record.settled else ()
        if mode == PASSTHROUGH:
            self._keep(replace(self._record, settled=True, former_mode="", split_ids=()))
            return able
        if not able and not self._record.settled:
            types = sorted({one for gpu in gpus for one in _read(gpu, around).types})
            await self._go_back()
            raise GpuModeUnsupported(f"no GPU of the node makes {mode}; there is {', '.join((PASSTHROUGH, *types))}")
        for gpu in gpus:
            if gpu.address not in {*able, *known} and not any(_find_users(gpu, around, entries)):
                await self._undo(gpu.address)
        self._keep(replace(self._record, settled=True, former_mode="", split_ids=tuple(sorted({*known, *able}))))
        return able

    async def _switch_all(self, gpus: Sequence[PciFunction], around: Surroundings, entries: Sequence[Entry]) -> None:
        """One that fails does not keep the others from working. Raises DeviceFailed."""
        mode, failures = self._record.mode, list[DeviceFailed]()
        # Parts of it that guests have do not mind others beside them, and after a reboot they are to come back.
        find = _find_users if mode == PASSTHROUGH else _find_whole_users
        for gpu in gpus:
            if any(find(gpu, around, entries)):
                continue
            try:
                await self._switch(gpu, mode)
            except DeviceFailed as error:
                failures.append(error)
        for failure in failures:
            raise failure

    async def _switch(self, gpu: PciFunction, mode: str) -> None:
        """What was changed for it is written down first: going back takes no more than that away."""
        sysfs, writer = self._tools.sysfs, self._tools.writer
        if mode == PASSTHROUGH:
            await disable_virtual_functions(gpu.address, sysfs, writer)
            self._keep(replace(self._record, enabled=tuple(one for one in self._record.enabled if one != gpu.address)))
            return
        if gpu.vendor_id != _NVIDIA:
            return
        if gpu.driver in (VFIO_DRIVER, ""):
            drivers = {gpu.address: gpu.driver, **self._record.drivers}
            self._keep(replace(self._record, drivers=drivers))
            await self._tools.bindings.bind(gpu.address, _NVIDIA_DRIVER)
        if sysfs.read_number(f"{gpu.path}/sriov_totalvfs") and not gpu.virtual_functions:
            self._keep(replace(self._record, enabled=tuple({*self._record.enabled, gpu.address})))
            await enable_virtual_functions(gpu.address, ALL, sysfs, writer)

    async def _go_back(self) -> None:
        former, record = self._record.former_mode, self._record
        if former not in ("", PASSTHROUGH):  # which needs the same drivers and functions
            self._keep(replace(record, mode=former, former_mode="", settled=True))
            return
        for address in {*record.enabled, *record.drivers}:
            await self._undo(address)
        self._keep(ModeRecord(mode=former))

    async def _undo(self, address: str) -> None:
        """What was changed of a GPU for a mode that it cannot work in."""
        if address in self._record.enabled:
            await disable_virtual_functions(address, self._tools.sysfs, self._tools.writer)
            self._keep(replace(self._record, enabled=tuple(one for one in self._record.enabled if one != address)))
        if driver := self._record.drivers.get(address):
            await self._tools.bindings.bind(address, driver)
        drivers = {one: former for one, former in self._record.drivers.items() if one != address}
        self._keep(replace(self._record, drivers=drivers))

    def _refuse_used(
        self, gpus: Sequence[PciFunction], mode: str, around: Surroundings, entries: Sequence[Entry]
    ) -> None:
        is_same = self._record.mode == mode
        # Those of other models, when all has been done: they cannot make the type, and are free to be used otherwise.
        spared = is_same and self._record.settled and mode != PASSTHROUGH
        in_use = {
            gpu.address: users
            for gpu in gpus
            if not (_works(gpu, mode, around) and (is_same or _is_split_only(gpu, mode, around, entries)))
            and not (spared and gpu.address not in self._record.split_ids)
            and (users := list(_find_users(gpu, around, entries)))
        }
        if in_use:
            words = "; ".join(f"{address}: {', '.join(users)}" for address, users in in_use.items())
            raise GpuInUse(f"GPUs of the node are in use, and keep their mode: {words}")

    def _keep(self, record: ModeRecord) -> None:
        if record != self._record:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_file(self._path, json.dumps(asdict(record)).encode())
            self._record = record


def _list_gpus(around: Surroundings) -> Iterator[PciFunction]:
    """Those that guests can have: not what the host shows itself with."""
    functions = around.pci.functions
    for function in functions.values():
        is_physical = function.physical_function not in functions
        if is_physical and is_gpu(function) and not any(find_plain_obstacles(function, around)):
            yield function


def _read(gpu: PciFunction, around: Surroundings) -> VgpuSupport:
    return read_vgpus(around.sysfs, gpu, around.pci.functions)


def _works(gpu: PciFunction, mode: str, around: Surroundings) -> bool:
    support = _read(gpu, around)
    if mode == PASSTHROUGH:
        return not gpu.virtual_functions and not support.vgpus
    return support.can_make(mode) and all(vgpu.type_id == mode for vgpu in support.vgpus)


def _is_split_only(gpu: PciFunction, mode: str, around: Surroundings, entries: Sequence[Entry]) -> bool:
    """Whether the mode is a type, and nobody has the whole GPU: then what there is of the type stays as it is."""
    return mode != PASSTHROUGH and not any(_find_whole_users(gpu, around, entries))


def _find_whole_users(gpu: PciFunction, around: Surroundings, entries: Sequence[Entry]) -> Iterator[str]:
    """Domains that have it as a whole, as libvirt and the journal know."""
    for name in (gpu.address, *(one.address for one in find_companions(gpu, around))):
        if domain := (around.guests or {}).get(name_pci(name)):
            yield describe_user(domain)
    for entry in entries:
        if gpu.address in entry.making.addresses:
            yield f"given to domain {entry.domain_uuid}"


def _find_users(gpu: PciFunction, around: Surroundings, entries: Sequence[Entry]) -> Iterator[str]:
    """Domains that have it or a part of it, as libvirt and the journal know; and vGPUs, whoever made them."""
    guests, found = around.guests or {}, dict[str, None]()
    for name in (gpu.address, *(one.address for one in find_companions(gpu, around)), *gpu.virtual_functions):
        if domain := guests.get(name_pci(name)):
            found[describe_user(domain)] = None
    for vgpu in _read(gpu, around).vgpus:
        domain = guests.get(name_mdev(vgpu.id)) or guests.get(name_pci(vgpu.id))
        found[describe_user(domain) if domain else f"vGPU {vgpu.id} exists"] = None
    parts = {gpu.address, *gpu.virtual_functions}
    for entry in entries:
        if entry.device.id in parts and not found:
            found[f"given to domain {entry.domain_uuid}"] = None
    yield from found


def _decode(content: dict[str, Any]) -> ModeRecord:
    return ModeRecord(
        mode=str(content["mode"]),
        former_mode=str(content["former_mode"]),
        settled=bool(content["settled"]),
        split_ids=tuple(content["split_ids"]),
        drivers=dict(content["drivers"]),
        enabled=tuple(content["enabled"]),
    )
