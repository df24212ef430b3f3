"""Devices of the node in the hands of guests: made ready, kept ready through crashes and reboots, and taken back clean.

The journal is written before anything is made or bound. What it does not name is somebody else's, and stays as it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

import structlog

from agent.devices.base import Surroundings
from agent.devices.block_use import find_users
from agent.devices.disk import discover_disks
from agent.devices.gpu import is_gpu
from agent.devices.gpu_mode import GpuModes
from agent.devices.hostdev import describe_user, tells_user
from agent.devices.journal import DeviceJournal, Entry
from agent.devices.maker import Maker, Order, Tools
from agent.devices.making import build_makers, check_wish, choose_way
from agent.devices.pci import read_pci_bus
from agent.devices.refusal import (
    check_same,
    check_wipeable,
    find_device,
    is_same_disk,
    refuse_releasing,
    refuse_used,
)
from agent.devices.source import DeviceSource
from agent.devices.sriov import restore_virtual_functions
from agent.devices.survey import DeviceSurvey
from agent.devices.thread import run_to_end
from agent.devices.wipe import CHUNK_BYTES, wipe
from agent.errors import (
    AgentError,
    DeviceFailed,
    DeviceFaulty,
    DeviceInUse,
    DeviceWithheld,
    HypervisorTimeout,
    HypervisorUnavailable,
)
from protos.agent.v1.device_pb2 import HostDevice, ReleaseProgress
from protos.agent.v1.host_pb2 import Device

# A disk whose controller a guest had comes back when the host's driver has looked at it.
_RETURN_SECONDS: Final = 30.0
_RETRY_SECONDS: Final = 0.5
# What is made of devices. Others need the device as it is now, which is looked at before the guest starts.
_LOST_IN_REBOOTS: Final = frozenset(("mdev", "vendor-vfio"))

log = structlog.get_logger(__name__)


class DeviceKeeper:
    """One change of a device at a time: a driver that hangs keeps nobody from other devices.

    Locks are taken in this order: those of devices, by their ids, then the one for what is decided from the journal.
    """

    def __init__(
        self,
        journal: DeviceJournal,
        modes: GpuModes,
        tools: Tools,
        survey: DeviceSurvey,
        *,
        virtual_functions: Mapping[str, str] | None = None,
        notice: Callable[[], None] = lambda: None,
        dev: Path = Path("/dev"),
        chunk_bytes: int = CHUNK_BYTES,
    ) -> None:
        """`notice`: tells those who report devices. `chunk_bytes`: wiped at once."""
        self._journal = journal
        self._modes = modes
        self._tools = tools
        self._makers = build_makers(tools)
        self._survey = survey
        self._virtual_functions = virtual_functions or {}
        self._notice = notice
        self._dev = dev
        self._chunk_bytes = chunk_bytes
        self._decisions = asyncio.Lock()
        self._devices: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._releases: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def prepare(self, domain_uuid: str, wish: HostDevice) -> DeviceSource:
        """The device is there for the guest, and is the guest's from now on. May be repeated.

        Raises RequestInvalid, DeviceNotFound, DeviceWithheld, DeviceInUse, DeviceBusy, DeviceFaulty, DeviceFailed,
        HypervisorUnavailable.
        """
        return (await self.prepare_all(domain_uuid, [wish]))[wish.uuid]

    async def prepare_all(self, domain_uuid: str, wishes: Sequence[HostDevice]) -> dict[str, DeviceSource]:
        """The same for several, by HostDevice.uuid; after a failure those before the one that failed are prepared."""
        for wish in wishes:
            check_wish(wish)
        sources: dict[str, DeviceSource] = {}
        if not wishes:  # nor does such a guest wait for a driver that hangs
            return sources
        self._journal.check_readable(domain_uuid)
        async with self._hold(wish.device_id for wish in wishes):
            seen: tuple[Sequence[Device], Surroundings] | None = None
            for wish in wishes:
                # Looking at a large node takes longer than anything else here.
                seen = seen or await self._look(domain_uuid)
                async with self._decisions:
                    entry = await self._plan(self._order(domain_uuid, wish, *seen), *seen)
                sources[wish.uuid] = await self._make(entry, seen[1])
                if not entry.made and entry.making.way in _LOST_IN_REBOOTS:
                    # Less can be made of its parent now.
                    seen = None
        return sources

    async def check_ready(self, domain_uuid: str, device_uuids: Collection[str] | None = None) -> None:
        """All that the guest has, or what is named of that, is there, made again where a reboot took it away.

        Raises DeviceNotFound, DeviceInUse, DeviceFaulty, DeviceFailed with the reason: then the guest must not start.
        """
        self._journal.check_readable(domain_uuid)
        held = {entry.device.id for entry in self._find_needed(domain_uuid, device_uuids)}
        if not held:
            return
        async with self._hold(held):
            seen = await self._look(domain_uuid)
            for entry in self._find_needed(domain_uuid, device_uuids):
                if entry.device.id in held and not entry.releasing:
                    await self._make(await self._plan(entry, *seen), seen[1])

    def _find_needed(self, domain_uuid: str, device_uuids: Collection[str] | None) -> list[Entry]:
        entries = self._journal.entries_of(domain_uuid)
        return [entry for entry in entries if device_uuids is None or entry.uuid in device_uuids]

    async def release(self, domain_uuid: str, device_uuids: Collection[str] = ()) -> AsyncGenerator[ReleaseProgress]:
        """The devices, all of the domain when none is named, are the node's again; goes on where it was cut off.

        One that fails keeps none of the others: the first failure is raised after all of them.

        Raises DeviceInUse while a domain has one, DeviceFailed, DeviceNotFound (a disk that must be wiped is away),
        DeviceWipeFailed, HypervisorUnavailable.
        """
        self._journal.check_readable(domain_uuid)
        entries = [
            entry
            for entry in self._journal.entries_of(domain_uuid)
            if not entry.given_up and (not device_uuids or entry.uuid in set(device_uuids))
        ]
        failures: dict[str, AgentError] = {}
        async with aclosing(self._release_all(entries, failures)) as progress:
            async for step in progress:
                yield step
        for failure in failures.values():
            raise failure

    async def force_release(self, device_id: str, *, unclaimed: bool) -> AsyncGenerator[ReleaseProgress]:
        """The device is given back, whoever had it by the journal; what cannot be done of that is given up.

        `unclaimed`: also when it was not begun, for nobody knows of who has it.
        Raises DeviceInUse, HypervisorUnavailable.
        """
        entries = [entry for entry in self._journal.entries() if entry.device.id == device_id]
        for entry in entries:
            if not (entry.releasing or unclaimed):
                raise DeviceInUse(f"{device_id} is given to domain {entry.domain_uuid}, which is to give it back first")
        failures: dict[str, AgentError] = {}
        async with aclosing(self._release_all(entries, failures)) as progress:
            async for step in progress:
                yield step
        for entry in entries:
            if failure := failures.get(entry.uuid):
                await self._give_up(entry, failure)
        self._notice()

    async def _give_up(self, entry: Entry, failure: AgentError) -> None:
        if isinstance(failure, (HypervisorTimeout, HypervisorUnavailable)):
            raise failure
        async with self._release_lock(entry):
            # Another call may have given it back meanwhile.
            if current := self._journal.find(entry.domain_uuid, entry.uuid):
                log.warning("device.given_up", device=entry.device.id, uuid=entry.uuid, reason=failure.message)
                await self._put(replace(current, given_up=True))

    def _release_lock(self, entry: Entry) -> asyncio.Lock:
        return self._releases.setdefault((entry.domain_uuid, entry.uuid), asyncio.Lock())

    async def _release_all(
        self, entries: Sequence[Entry], failures: dict[str, AgentError]
    ) -> AsyncGenerator[ReleaseProgress]:
        """One after the other; why one was not, by its UUID."""
        if entries:
            await self._begin_release(entries)
        for entry in entries:
            try:
                async with self._release_lock(entry), aclosing(self._release(entry)) as progress:
                    async for step in progress:
                        yield step
            except AgentError as error:
                log.warning("device.not_released", device=entry.device.id, uuid=entry.uuid, reason=error.message)
                failures[entry.uuid] = error

    async def restore(self) -> None:
        """What the node lost by a crash or a reboot is back: virtual functions, the GPUs' mode, what guests have; and
        what guests do not have any more is the host's. What cannot be is logged, and `check_ready` tells."""
        await restore_virtual_functions(self._virtual_functions, self._tools.sysfs, self._tools.writer)
        async with self._hold(await self._list_gpus()):
            await self._modes.restore(self._survey.look_anyway, self._journal.entries())
        around = await self._survey.look_anyway()
        for known in self._journal.entries():
            async with self._hold([known.device.id]):
                try:
                    if entry := self._journal.find(known.domain_uuid, known.uuid):
                        await self._restore(entry, around)
                except (AgentError, OSError) as error:
                    log.warning("device.not_restored", device=known.device.id, uuid=known.uuid, reason=str(error))
        self._notice()

    async def set_gpu_mode(self, mode: str) -> list[str]:
        """All GPUs of the node work in this mode, also after a reboot; answers the ids of those that can.

        Raises RequestInvalid, GpuInUse with the list, GpuModeUnsupported with what there is, DeviceFailed.
        """
        async with self._hold(await self._list_gpus()):
            try:
                return await self._modes.set(mode, self._survey.look, self._journal.entries())
            finally:
                self._notice()

    @asynccontextmanager
    async def _hold(self, device_ids: Iterable[str]) -> AsyncIterator[None]:
        """Nobody else changes these devices. In one order, so that two who want several cannot wait for each other."""
        async with AsyncExitStack() as stack:
            for device_id in sorted(set(device_ids)):
                await stack.enter_async_context(self._devices.setdefault(device_id, asyncio.Lock()))
            yield

    async def _list_gpus(self) -> list[str]:
        """Ids of all of them, virtual functions included."""
        bus = await asyncio.to_thread(read_pci_bus, self._tools.sysfs)
        return [function.address for function in bus.functions.values() if is_gpu(function)]

    async def _look(self, domain_uuid: str) -> tuple[Sequence[Device], Surroundings]:
        """The node as a guest sees it that is to have some of it."""
        around = await self._survey.look(domain_uuid)
        return await self._survey.discover(around), around

    def _order(self, domain_uuid: str, wish: HostDevice, devices: Sequence[Device], around: Surroundings) -> Entry:
        """What the journal is to say of it; a wish that is known keeps what was made for it."""
        former = self._journal.find(domain_uuid, wish.uuid)
        if former is None:
            return self._begin(domain_uuid, wish, find_device(devices, wish.device_id), around)
        check_same(former, wish)
        if not former.made:
            self._refuse(domain_uuid, wish, find_device(devices, wish.device_id))
        kept = HostDevice()
        kept.CopyFrom(wish)
        # What was once to be wiped must be.
        kept.wipe_on_release |= former.wish.wipe_on_release
        return replace(former, wish=kept)

    def _maker_of(self, entry: Entry) -> Maker:
        maker = self._makers.get(entry.making.way)
        if maker is None:
            raise DeviceFailed(f"{entry.device.id}: a later version has given it to the guest: {entry.making.way}")
        return maker

    def _begin(self, domain_uuid: str, wish: HostDevice, device: Device, around: Surroundings) -> Entry:
        self._refuse(domain_uuid, wish, device)
        way = choose_way(wish, device)
        taken = frozenset(address for entry in self._journal.entries() for address in entry.making.addresses)
        making = self._makers[way].plan(Order(wish, device, taken=taken), around)
        return Entry(domain_uuid, wish, device, making)

    def _refuse(self, domain_uuid: str, wish: HostDevice, device: Device) -> None:
        """Raises when somebody else has the device, or nobody can."""
        for entry in self._journal.entries():
            is_other = (entry.domain_uuid, entry.uuid) != (domain_uuid, wish.uuid)
            if is_other and entry.device.id == device.id and not (wish.vgpu_type_id and entry.wish.vgpu_type_id):
                refuse_releasing(entry)
                raise DeviceInUse(f"{device.id} is given to domain {entry.domain_uuid}")
        if device.fault:
            raise DeviceFaulty(f"{device.id}: {device.fault}")
        if device.withheld_reason not in ("", describe_user(domain_uuid)):
            kind = DeviceInUse if tells_user(device.withheld_reason) else DeviceWithheld
            raise kind(f"{device.id}: {device.withheld_reason}")

    async def _plan(self, entry: Entry, devices: Sequence[Device], around: Surroundings) -> Entry:
        """Written down, before anything is done."""
        refuse_releasing(entry)
        device, maker = find_device(devices, entry.device.id), self._maker_of(entry)
        if device.fault:
            raise DeviceFaulty(f"{device.id}: {device.fault}")
        if entry.made and not is_same_disk(entry.device, device):
            raise DeviceFaulty(f"{device.id}: another disk than the guest's is in its slot")
        refuse_used(entry, maker, around)
        making = maker.plan(Order(entry.wish, device, entry.making), around)
        return await self._put(replace(entry, making=making))

    async def _make(self, entry: Entry, around: Surroundings) -> DeviceSource:
        source = await self._maker_of(entry).make(entry, around)
        await self._put(replace(entry, made=True))
        return source

    async def _begin_release(self, entries: Sequence[Entry]) -> None:
        async with self._hold(entry.device.id for entry in entries):
            around = await self._survey.look()
            for entry in entries:
                if domain := self._maker_of(entry).find_domain(entry, around):
                    raise DeviceInUse(f"{entry.device.id} is {describe_user(domain)}")
            for entry in entries:
                if current := self._journal.find(entry.domain_uuid, entry.uuid):
                    await self._put(replace(current, releasing=True))
        self._notice()

    async def _release(self, begun: Entry) -> AsyncGenerator[ReleaseProgress]:
        """By one caller at a time; another one may have done it meanwhile."""
        entry = self._journal.find(begun.domain_uuid, begun.uuid)
        if entry is None:
            return
        yield ReleaseProgress(device_id=entry.device.id)
        async with self._hold([entry.device.id]):
            await self._maker_of(entry).unmake(entry, await self._survey.look())
        if entry.must_be_wiped:
            async with aclosing(self._wipe(entry)) as progress:
                async for step in progress:
                    yield step
        await run_to_end(None, self._journal.remove, entry)
        self._notice()

    async def _wipe(self, entry: Entry) -> AsyncGenerator[ReleaseProgress]:
        name, around = await self._await_disk(entry)
        for use in find_users(around.sysfs, around.block_use, name):
            raise DeviceInUse(f"{entry.device.id} ({name}) is not wiped: {use}")
        number = around.sysfs.read(f"class/block/{name}/dev")
        pieces = wipe(self._dev / name, entry.wiped_bytes, number=number, chunk_bytes=self._chunk_bytes)
        async with aclosing(pieces):
            async for done_bytes, total_bytes in pieces:
                if done_bytes > entry.wiped_bytes:
                    entry = await self._put(replace(entry, wiped_bytes=done_bytes))
                yield ReleaseProgress(device_id=entry.device.id, done_bytes=done_bytes, total_bytes=total_bytes)

    async def _await_disk(self, entry: Entry) -> tuple[str, Surroundings]:
        """The kernel's name of the disk at this moment."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (_RETURN_SECONDS if entry.making.way == "pci" else 0)
        while True:
            around = await self._survey.look()
            disks = await asyncio.to_thread(list, discover_disks(around))
            names = [disk.details["name"] for disk in disks if disk.id == entry.device.id]
            if names or loop.time() >= deadline:
                break
            await asyncio.sleep(_RETRY_SECONDS)
        check_wipeable(entry, disks)
        return names[0], around

    async def _restore(self, entry: Entry, around: Surroundings) -> None:
        maker = self._maker_of(entry)
        if not maker.find_domain(entry, around):
            # It took a while to come here, and nothing is taken from a guest that has got it since. Most have theirs,
            # and looking anew for each would take minutes on a large node.
            around = await self._survey.look_anyway()
        if around.guests is not None and not maker.find_domain(entry, around):
            if entry.releasing or entry.making.drivers:
                # Drivers that libvirt has not brought back; it takes the device again when the guest gets it.
                await maker.unmake(entry, around)
            if entry.releasing and not entry.must_be_wiped:
                await run_to_end(None, self._journal.remove, entry)
        if not entry.releasing and entry.making.way in _LOST_IN_REBOOTS:
            making = maker.plan(Order(entry.wish, entry.device, entry.making), around)
            await maker.make(await self._put(replace(entry, making=making)), around)

    async def _put(self, entry: Entry) -> Entry:
        """Durably, unless it is so already."""
        if self._journal.find(entry.domain_uuid, entry.uuid) == entry:
            return entry
        return await run_to_end(None, self._journal.put, entry)
