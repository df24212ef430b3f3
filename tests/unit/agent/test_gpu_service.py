"""The mode of GPUs through the agent's own API, with guests that have them whole or in parts, in both frameworks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from protos.agent.v1 import device_pb2 as messages
from protos.agent.v1 import domain_pb2
from protos.agent.v1.device_pb2 import HostDevice
from tests.unit.agent.device_kernel import (
    A100,
    DEVICE,
    FOREIGN,
    OTHER_DEVICE,
    T4,
    VIRTUAL,
    Rig,
    add_a100,
    add_a100_functions,
    add_split_t4,
    list_mdevs,
    read_type,
    set_type,
)
from tests.unit.agent.domain_server import DomainServer, drain, failure, serve
from tests.unit.agent.guest_builder import GUEST_UUID, a_spec


@dataclass(frozen=True)
class Framework:
    """A GPU that can be split, with a part that somebody else has made."""

    gpu: str
    type_id: str
    # Another one, which it could make as well.
    other_type_id: str
    add: Callable[[Rig], None]
    # Parts by their type, those of others included.
    list_parts: Callable[[Rig], list[str]]
    remove_foreign: Callable[[Rig], None]
    # What the guest's definition has of two vGPUs.
    elements: tuple[str, ...]


def _add_sriov(rig: Rig) -> None:
    add_a100(rig.node)
    rig.kernel.virtual_functions[A100] = lambda: add_a100_functions(rig.node)
    set_type(rig.node, VIRTUAL[0], 471)


FRAMEWORKS = (
    Framework(
        T4,
        "nvidia-222",
        "nvidia-223",
        lambda rig: add_split_t4(rig.node),
        lambda rig: list_mdevs(rig.node),
        lambda rig: rig.kernel.remove_mdev(T4, FOREIGN),
        (f'uuid="{DEVICE}"', f'uuid="{OTHER_DEVICE}"'),
    ),
    Framework(
        A100,
        "nvidia-471",
        "nvidia-472",
        _add_sriov,
        lambda rig: [address for address in VIRTUAL if read_type(rig.node, address)],
        lambda rig: set_type(rig.node, VIRTUAL[0], 0),
        ('function="0x5"', 'function="0x6"'),
    ),
)


@pytest.mark.parametrize("case", FRAMEWORKS, ids=("mediated", "vendor-vfio"))
async def test_gpus_are_split_given_and_whole_again_and_a_foreign_part_survives(
    tmp_path: Path, case: Framework
) -> None:
    rig = Rig(tmp_path)
    case.add(rig)
    (foreign,) = case.list_parts(rig)
    async with serve(tmp_path, rig.keeper) as server:
        for refused in ("passthrough", case.other_type_id):
            assert (await failure(partial(_call_mode, server, refused)))[1] == "GpuInUse"
        assert await _set_mode(server, case.type_id) == [case.gpu]
        parts = [
            HostDevice(device_id=case.gpu, uuid=uuid, vgpu_type_id=case.type_id) for uuid in (DEVICE, OTHER_DEVICE)
        ]
        await _define(server, *parts)
        document = await _read(server)
        assert all(element in document for element in case.elements)
        assert len(case.list_parts(rig)) == 3
        rig.domains = {GUEST_UUID: [f"mdev {DEVICE}", f"mdev {OTHER_DEVICE}", *(f"pci {one}" for one in VIRTUAL[1:3])]}
        assert (await failure(lambda: _call_mode(server, "passthrough")))[1] == "GpuInUse"
        await _give_back(server, rig)
        assert case.list_parts(rig) == [foreign]
        assert (await failure(lambda: _call_mode(server, "passthrough")))[1] == "GpuInUse"
    # The agent starts anew and finds what it left.
    keeper = rig.start()
    await keeper.restore()
    assert case.list_parts(rig) == [foreign]
    async with serve(tmp_path, keeper) as server:
        case.remove_foreign(rig)
        assert await _set_mode(server, "passthrough") == [case.gpu]
        await _define(server, HostDevice(device_id=case.gpu, uuid=DEVICE))
        assert 'managed="yes"' in await _read(server)
        assert (await failure(lambda: _call_mode(server, case.type_id)))[1] == "GpuInUse"
        await _give_back(server, rig)
        assert await _set_mode(server, case.type_id) == [case.gpu]
        assert (await rig.find(case.gpu)).attributes["vgpu_type"] == case.type_id


async def test_more_vgpus_than_a_gpu_has_room_for_are_refused_and_those_made_are_given_back(tmp_path: Path) -> None:
    """Of a T4 with two instances left a guest wants three."""
    rig = Rig(tmp_path)
    add_split_t4(rig.node)
    uuids = [f"{DEVICE[:-1]}{number}" for number in range(3)]
    wishes = [HostDevice(device_id=T4, uuid=uuid, vgpu_type_id="nvidia-222") for uuid in uuids]
    async with serve(tmp_path, rig.keeper) as server:
        request = domain_pb2.EnsureDefinedRequest(spec=a_spec(host_devices=wishes))
        assert (await failure(lambda: server.domains.EnsureDefined(request)))[1] == "DeviceInUse"
        assert set(list_mdevs(rig.node)) == {FOREIGN, *uuids[:2]}
        await _give_back(server, rig)
        assert list_mdevs(rig.node) == [FOREIGN]


async def _call_mode(server: DomainServer, mode: str) -> messages.EnsureGpuModeResponse:
    answer: messages.EnsureGpuModeResponse = await server.devices.EnsureGpuMode(
        messages.EnsureGpuModeRequest(mode=mode)
    )
    return answer


async def _set_mode(server: DomainServer, mode: str) -> list[str]:
    return list((await _call_mode(server, mode)).device_ids)


async def _define(server: DomainServer, *wishes: HostDevice) -> None:
    spec = a_spec(host_devices=wishes)
    await server.domains.EnsureDefined(domain_pb2.EnsureDefinedRequest(spec=spec))


async def _read(server: DomainServer) -> str:
    def read(handle: object) -> str:
        document: str = handle.lookupByUUIDString(GUEST_UUID).XMLDesc(0)  # type: ignore[attr-defined]
        return document.replace("'", '"')

    return await server.connection.call(read)


async def _give_back(server: DomainServer, rig: Rig) -> None:
    """As the coordinator does when an instance goes."""
    await server.domains.EnsureRemoved(domain_pb2.EnsureRemovedRequest(uuid=GUEST_UUID))
    rig.domains = {}
    await drain(server.devices.EnsureReleased(messages.EnsureReleasedRequest(domain_uuid=GUEST_UUID)))
