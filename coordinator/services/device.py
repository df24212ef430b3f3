"""Devices of nodes as operators see them."""

from dataclasses import dataclass

from google.protobuf.json_format import ParseDict

from coordinator.domain.caller import Caller
from coordinator.domain.device import DeviceKind, DeviceState
from coordinator.domain.gpu import load_catalogue
from coordinator.domain.listing import Listing, ListQuery
from coordinator.runtime import Runtime
from coordinator.store.queries import device as queries
from coordinator.store.queries.device import DeviceHolder, DeviceRow
from coordinator.store.tables import Device
from protos.agent.v1 import host_pb2


@dataclass(frozen=True, slots=True)
class DeviceView:
    """A device, what its agent tells of it, and who has it."""

    device: Device
    # Its details, vGPUs and ports, and nothing else.
    report: host_pb2.Device
    node_name: str
    zone: str
    # False: this is what the node told before it was lost.
    node_ready: bool
    state: DeviceState
    # Somebody has it, or a slice of it, in whatever state it is.
    is_held: bool
    holders: tuple[DeviceHolder, ...] = ()

    @property
    def product(self) -> str:
        """What it is, for people: as our catalogue, its node or its vendor names it, else by its ids."""
        attributes = self.device.attributes
        model = load_catalogue().get(self.pci_id) if self.device.kind == DeviceKind.GPU else None
        known = model.product if model else self.report.details.get("product_name", "") or attributes.get("model", "")
        return known or ":".join(attributes[name] for name in ("vendor", "product") if attributes.get(name))

    @property
    def pci_id(self) -> str:
        """The vendor's and the product's, eight hexadecimal digits for what has both."""
        return "".join(self.device.attributes.get(name, "") for name in ("vendor", "product"))


def list_devices(runtime: Runtime, caller: Caller, query: ListQuery) -> Listing[DeviceView]:
    """Every device of every node, withheld ones included; by node, kind and id unless the query orders otherwise."""
    with runtime.database.read() as session:
        page = queries.list_device_page(session, query)
        holders = queries.read_holders(session, [row.device for row in page.items])
    views = (view_device(row, tuple(holders.get((row.device.node_id, row.device.id), ()))) for row in page.items)
    return Listing(tuple(views), page.total)


def view_device(row: DeviceRow, holders: tuple[DeviceHolder, ...] = ()) -> DeviceView:
    """The device with its report read."""
    report = ParseDict(row.device.report, host_pb2.Device(), ignore_unknown_fields=True)
    return DeviceView(row.device, report, row.node_name, row.zone, row.node_ready, row.state, row.is_held, holders)
