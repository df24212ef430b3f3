"""What callers send to give an instance another system, or to let it start from elsewhere, by itself or not."""

from pydantic import Field

from coordinator.api.schemas.base import LenientModel
from coordinator.api.schemas.instance_request import Text
from coordinator.domain.system_change import BootMode, SystemOrder


class SystemChangeRequest(LenientModel):
    """A system."""

    image_id: Text = Field(
        default="", description="Image of the new system; the present one unless given.", examples=["img-odij65eixxsuz"]
    )
    user: Text = Field(default="", description="Whose password it is; root and the default user unless given.")
    password: str = Field(default="", max_length=1024, description="Password; the one that it has unless given.")
    expects_vmtools: bool | None = Field(
        default=None,
        description="Whether the new system counts as booted only when its guest agent answers; unless given, if the "
        "old one's does.",
    )

    def to_order(self) -> SystemOrder:
        """The same in our words."""
        return SystemOrder(
            image_id=self.image_id,
            user=self.user,
            password=self.password,
            expects_guest_agent=self.expects_vmtools,
        )


class BootOrderRequest(LenientModel):
    """From what an instance starts."""

    boot_mode: BootMode = Field(description="0: its disks; 1: an ISO image in one of its drives.", examples=[0])
    boot_id: Text = Field(default="", description="With bootMode 1: the image.", examples=["img-5dmc7tzc5aujl1"])


class HighAvailabilityRequest(LenientModel):
    """Whether an instance is started elsewhere when its node is lost."""

    ha_enabled: bool = Field(description="Whether it is started elsewhere when its node is lost.", examples=[True])
