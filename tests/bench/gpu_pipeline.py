"""The scheduler as it is, placing the requests of a trace: filters, weighers and claims, on hosts in memory."""

from collections.abc import Sequence
from itertools import count
from typing import Final

from coordinator.domain.device import Device, DeviceKind, DeviceType, DeviceWish
from coordinator.domain.placement import Capacity, Consumer, HostView, PlacementRequest, ResourceClass
from coordinator.scheduler import pipeline
from coordinator.scheduler.snapshot import Snapshot
from tests.bench.gpu_inventory import GpuInventory
from tests.bench.gpu_request import GpuNode, GpuPlacement, GpuRequest


class Pipeline:
    """A policy; see gpu_baselines.Policy. Its inventory is kept for the figures only."""

    def __init__(self, nodes: Sequence[GpuNode]) -> None:
        self.inventory: Final = GpuInventory(nodes)
        self._hosts = Snapshot(_host_of(number, node) for number, node in enumerate(nodes))
        self._row_of = {host_id(number): number for number in range(len(nodes))}
        self._numbers = count()

    def place(self, request: GpuRequest) -> GpuPlacement | None:
        """See Policy."""
        consumer = _consumer_of(f"{next(self._numbers)}", request)
        self._hosts.observe([consumer])
        decision = pipeline.decide(self._hosts, PlacementRequest((consumer,)))
        if not decision.placed:
            return None
        [assignment] = decision.assignments
        self._hosts.put(assignment.host.taken(consumer, assignment))
        gpus = tuple(int(share.device_id) for share in assignment.devices)
        placement = GpuPlacement(request, self._row_of[assignment.host.node_id], gpus)
        self.inventory.take(placement)
        return placement


def host_id(number: int) -> str:
    """Of the node at this place of the list."""
    return f"node-{number:05}"


def _host_of(number: int, node: GpuNode) -> HostView:
    """vCPUs are counted in thousandths, as the trace does."""
    gpu = DeviceType(DeviceKind.GPU, frozenset({("model", node.model)}), shareable=True)
    return HostView(
        node_id=host_id(number),
        name=host_id(number),
        generation=1,
        zone="AZ0",
        architecture="x86",
        cpu_model="",
        ready=True,
        schedulable=True,
        traits=frozenset(),
        capacities={
            ResourceClass.VCPU: Capacity(node.cpu_milli, 0, 1.0, 0),
            ResourceClass.MEMORY_MIB: Capacity(node.memory_mib, 0, 1.0, 0),
        },
        devices=tuple(Device(str(index), gpu) for index in range(node.gpu_count)),
    )


def _consumer_of(uuid: str, request: GpuRequest) -> Consumer:
    resources = {ResourceClass.VCPU: request.cpu_milli, ResourceClass.MEMORY_MIB: request.memory_mib}
    if not request.gpu_count:
        return Consumer(uuid, resources)
    attributes = {"model": request.models} if request.models else {}
    return Consumer(uuid, resources, (DeviceWish(DeviceKind.GPU, request.gpu_count, request.gpu_milli, attributes),))
