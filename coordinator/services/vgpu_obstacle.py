"""Why the vGPUs of an instance that runs go to none of the nodes that have GPUs like theirs."""

from collections import defaultdict
from collections.abc import Collection
from typing import Final

from sqlmodel import Session

from coordinator.domain.device import DeviceKind
from coordinator.domain.message import Message
from coordinator.domain.vgpu_migration import DRIVER_RELEASE, goes_along, is_alike
from coordinator.store.queries.device import list_with_node_names
from coordinator.store.queries.device_claim import DeviceClaim, list_claims
from coordinator.store.tables import Device, Instance

# Of a large region, a few are enough to understand it.
_MOST_NODES: Final = 5


def explain_vgpus(session: Session, instance: Instance, node_name: str) -> Message | None:
    """What nodes lack, or the one of this name, beside free vGPUs; None when that is nothing, or it has none."""
    held = [it for it in list_claims(session, instance.uuid) if goes_along(it.kind, it.attributes)]
    if not held:
        return None
    lacks: dict[str, list[str]] = defaultdict(list)
    for device, name in list_with_node_names(session, DeviceKind.GPU, node_name):
        reason = _find_obstacle(device, held) if device.node_id != instance.node_id else ""
        if reason and name not in lacks[reason]:
            lacks[reason].append(name)
    told = "; ".join(f"{_name_some(names)}: {reason}" for reason, names in lacks.items() if names)
    return Message(f"vGPUs cannot go to {told}", f"vGPU无法迁移到{told}") if told else None


def _find_obstacle(device: Device, held: Collection[DeviceClaim]) -> str:
    """Of a GPU like theirs that is split."""
    if not any(is_alike(device.attributes, claim.attributes) for claim in held):
        return ""
    release, wanted = device.attributes.get(DRIVER_RELEASE, ""), {claim.attributes[DRIVER_RELEASE] for claim in held}
    if release:
        return "" if release in wanted else f"its driver is {release}, not {' or '.join(sorted(wanted))}"
    return str(device.report.get("details", {}).get("vgpu_migration_obstacle", "its agent is too old to tell"))


def _name_some(names: Collection[str]) -> str:
    shown = sorted(names)[:_MOST_NODES]
    return ", ".join(shown) + (f" and {len(names) - len(shown)} others" if len(names) > len(shown) else "")
