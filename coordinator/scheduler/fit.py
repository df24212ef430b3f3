"""Whether counted resources fit: pure, shared by the filter that rejects hosts and by what takes from them."""

from dataclasses import dataclass, replace

from coordinator.domain.placement import Capacity, Consumer, HostView, ResourceClass

_NOTHING = Capacity(total=0, reserved=0, allocation_ratio=1.0, used=0)


@dataclass(frozen=True, slots=True)
class Misfit:
    """The first resource class of which the host has too little, in the unit of the class."""

    resource_class: ResourceClass
    wanted: int
    free: int


def fit(host: HostView, consumer: Consumer) -> HostView | Misfit:
    """The host after `consumer` took its share, or why it cannot."""
    capacities = dict(host.capacities)
    for resource_class in ResourceClass:
        wanted = consumer.resources.get(resource_class, 0)
        if wanted == 0:
            continue
        capacity = capacities.get(resource_class, _NOTHING)
        if capacity.free < wanted:
            return Misfit(resource_class, wanted, max(capacity.free, 0))
        capacities[resource_class] = replace(capacity, used=capacity.used + wanted)
    return replace(host, capacities=capacities)
