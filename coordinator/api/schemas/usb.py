"""USB devices on the wire."""

from pydantic import Field

from coordinator.api.schemas.base import AnswerModel
from coordinator.domain.device import DeviceState
from coordinator.services.device import DeviceView

_STATUSES = {DeviceState.FREE: "nouse", DeviceState.USED: "inuse"}


class UsbDeviceBody(AnswerModel):
    """A USB device of a node."""

    name: str = Field(description="Node, bus and port.", examples=["host-1-1-4.2"])
    node_name: str
    status: str = Field(description="nouse, inuse, withheld, or missing when its holder's was pulled.")
    bus: str
    port: str = Field(description="Ports on the way from the bus, with dots between.", examples=["4.2"])
    vendor: str
    device: str = Field(description="Its number on the bus: another one after it was plugged again.")
    product: str
    product_describe: str = Field(description="Ids of vendor and product.", examples=["0951:1666"])
    serial_number: str
    id: str = Field(description="Unique on its node, and the same after a reboot.")
    withheld_reason: str

    @classmethod
    def of(cls, view: DeviceView) -> "UsbDeviceBody":
        details, attributes = view.report.details, view.device.attributes
        vendor_id = attributes.get("vendor", "")
        return cls(
            name="-".join((view.node_name, details.get("bus", ""), details.get("port", ""))),
            node_name=view.node_name,
            status=_STATUSES.get(view.state, view.state.value),
            bus=details.get("bus", ""),
            port=details.get("port", ""),
            vendor=details.get("vendor_name", "") or vendor_id,
            device=details.get("device", ""),
            product=view.product,
            product_describe=f"{vendor_id}:{attributes.get('product', '')}",
            serial_number=details.get("serial", ""),
            id=view.device.id,
            withheld_reason=view.device.withheld_reason,
        )
