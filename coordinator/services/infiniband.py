"""Models of InfiniBand adapters that instances can have."""

from dataclasses import dataclass

from sqlmodel import col

from coordinator.domain.caller import Caller
from coordinator.domain.device import DeviceKind, DeviceState
from coordinator.runtime import Runtime
from coordinator.services.device import view_device
from coordinator.store.queries import device as queries
from coordinator.store.tables import Device, Node


@dataclass(frozen=True, order=True, slots=True)
class InfinibandModel:
    """Adapters, or their virtual functions, that are alike."""

    zone: str
    # PCI ids, four hexadecimal digits each.
    vendor_id: str
    product_id: str
    vendor: str
    product: str


def list_infiniband_models(runtime: Runtime, caller: Caller, zone: str) -> list[InfinibandModel]:
    """The models in a zone that connected nodes offer, also while others have all of them; each once."""
    with runtime.database.read() as session:
        is_wanted = (col(Device.kind) == DeviceKind.INFINIBAND, col(Node.zone) == zone, col(Node.ready).is_(True))
        rows = queries.list_devices(session, *is_wanted)
    models: dict[tuple[str, str], InfinibandModel] = {}
    for view in map(view_device, rows):
        if view.state in (DeviceState.FREE, DeviceState.USED):
            key = (view.device.attributes.get("vendor", ""), view.device.attributes.get("product", ""))
            vendor = view.report.details.get("vendor_name", "") or key[0]
            # Nodes may name it differently: the first one counts.
            models.setdefault(key, InfinibandModel(zone, *key, vendor, view.product))
    return sorted(models.values())
