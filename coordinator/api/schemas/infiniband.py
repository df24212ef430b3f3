"""InfiniBand adapters on the wire."""

from pydantic import Field

from coordinator.api.schemas.base import AnswerModel
from coordinator.services.infiniband import InfinibandModel


class InfinibandModelBody(AnswerModel):
    """A model of adapters, or of their virtual functions."""

    az: str = Field(description="Zone.")
    vendor: str = Field(examples=["Mellanox Technologies"])
    vendor_id: str = Field(alias="vendorID", description="PCI id.", examples=["15b3"])
    product: str = Field(examples=["MT2910 Family [ConnectX-7]"])
    product_id: str = Field(alias="productID", description="PCI id.", examples=["1021"])

    @classmethod
    def of(cls, model: InfinibandModel) -> "InfinibandModelBody":
        return cls(
            az=model.zone,
            vendor=model.vendor,
            vendor_id=model.vendor_id,
            product=model.product,
            product_id=model.product_id,
        )
