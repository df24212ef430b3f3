"""USB devices on the wire."""

from dataclasses import replace
from typing import Annotated

from pydantic import Field

from coordinator.api.schemas.base import AnswerModel, LenientModel
from coordinator.domain.device import DeviceState
from coordinator.services.device import DeviceView
from coordinator.services.device_attachment import UsbReference
from coordinator.services.usb import usb_name

# Callers send numbers as such, too.
Number = Annotated[str, Field(max_length=63, coerce_numbers_to_str=True)]

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
            name=usb_name(view),
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


class UsbReferenceRequest(LenientModel):
    """A USB device of the instance's node."""

    name: str = Field(
        default="", max_length=400, description="As listed: node, bus and port.", examples=["host-1-1-4.2"]
    )
    bus: Number = Field(default="", description="Needed without the name, as the port is; else compared.")
    port: Number = Field(default="", description="Ports on the way from the bus.", examples=["4.2"])
    device: Number = Field(default="", description="Number on the bus; if given, what is there must have it.")

    def to_reference(self) -> UsbReference:
        """The same in our words."""
        return UsbReference(self.name, self.bus, self.port, self.device)


class UsbBindingRequest(UsbReferenceRequest):
    """One that an instance is to have."""

    replaceable: bool = Field(
        default=False,
        description="Whether another one of its model is as good, so that the instance moves while it runs. "
        "Counts for all devices of the model that the instance has.",
    )

    def to_reference(self) -> UsbReference:
        """See UsbReferenceRequest."""
        return replace(super().to_reference(), replaceable=self.replaceable)
