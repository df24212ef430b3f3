"""What is left of a host with GPUs, apart from which host it is: equal states have equal futures."""

from typing import Final, TypeAlias

from coordinator.domain.device import WHOLE_MILLI, DeviceKind, DeviceType
from coordinator.domain.placement import HostView, ResourceClass
from coordinator.scheduler.gpu.request import GpuRequest

# Free vCPUs, free memory MiB, number of the GPU model, free milli of each GPU from the largest to the smallest.
NodeState: TypeAlias = tuple[int, int, int, tuple[int, ...]]
# Free milli of the GPU that is taken (WHOLE_MILLI for anything but a share), and the number of the state after it.
Move: TypeAlias = tuple[int, int]


def state_after(state: NodeState, request: GpuRequest, free_milli: int) -> NodeState:
    """What is left once the request is there, a share on a GPU with `free_milli`."""
    vcpus, memory_mib, model, gpus = state
    if request.is_share:
        left = list(gpus)
        left[gpus.index(free_milli)] -= request.gpu_milli
        left.sort(reverse=True)
    else:
        left = [*gpus[request.gpu_count :], *[0] * request.gpu_count]
    return vcpus - request.vcpus, memory_mib - request.memory_mib, model, tuple(left)


def state_of(host: HostView, model: int) -> NodeState:
    """What is left of the host."""
    vcpus, memory = (host.capacities.get(name) for name in (ResourceClass.VCPU, ResourceClass.MEMORY_MIB))
    gpus = sorted((device.free_milli for device in host.devices if device.type.kind == DeviceKind.GPU), reverse=True)
    return vcpus.free if vcpus else 0, memory.free if memory else 0, model, tuple(gpus)


def model_of(host: HostView) -> frozenset[DeviceType]:
    """The types of GPUs that it has; empty: none."""
    return frozenset(device.type for device in host.devices if device.type.kind == DeviceKind.GPU)


class StateTable:
    """Numbers for states, and where requests lead from each.

    A number is never used again, not even after `clear`: whoever remembers one sees that it is outdated.
    """

    def __init__(self) -> None:
        self.states: Final[dict[int, NodeState]] = {}
        self._numbers: dict[NodeState, int] = {}
        self._moves: dict[GpuRequest, dict[int, tuple[Move, ...]]] = {}
        self._move_count = 0
        self._next = 0

    def __len__(self) -> int:
        """What is remembered, states and ways to place requests in them."""
        return len(self.states) + self._move_count

    def clear(self) -> None:
        """Forgets everything."""
        self.states.clear()
        self._numbers.clear()
        self._moves.clear()
        self._move_count = 0

    def number(self, state: NodeState) -> int:
        """The number of the state, a new one the first time."""
        number = self._numbers.get(state)
        if number is None:
            number = self._numbers[state] = self._next
            self.states[number] = state
            self._next += 1
        return number

    def moves(self, request: GpuRequest, numbers: list[int]) -> list[tuple[Move, ...]]:
        """For each state, the different ways to place a request that fits."""
        known = self._moves.setdefault(request, {})
        for number in numbers:
            if number not in known:
                known[number] = self._find_moves(request, self.states[number])
                self._move_count += 1
        return [known[number] for number in numbers]

    def _find_moves(self, request: GpuRequest, state: NodeState) -> tuple[Move, ...]:
        choices = (
            sorted({free for free in state[3] if free >= request.gpu_milli}) if request.is_share else [WHOLE_MILLI]
        )
        return tuple((free, self.number(state_after(state, request, free))) for free in choices)
