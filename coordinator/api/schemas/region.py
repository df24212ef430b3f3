"""Region and zones on the wire."""

from pydantic import Field

from coordinator.api.schemas.base import AnswerModel, LenientModel
from coordinator.domain.message import Message
from coordinator.services.region import BILLING_MODES, DEFAULT_BILLING_MODE, Region

_BILLING_LABEL = Message("Billing mode", "计费模式")


class ZoneMemberBody(AnswerModel):
    """A zone of a region."""

    name: str = Field(examples=["AZ0"])


class ZoneGroupBody(AnswerModel):
    """A region and its zones."""

    name: str = Field(description="Name of the region.", examples=["region0"])
    members: list[ZoneMemberBody]


class ZonesBody(AnswerModel):
    """Zones of the regions that this coordinator serves."""

    zones: list[ZoneGroupBody]

    @classmethod
    def of(cls, region: Region) -> "ZonesBody":
        members = [ZoneMemberBody(name=name) for name in region.zones]
        return cls(zones=[ZoneGroupBody(name=region.region_id, members=members)])


class DisplayModeBody(AnswerModel):
    """One way to pay."""

    value: str = Field(description="ByCycle or OnDemand.")
    name: str


class BillingModeBody(AnswerModel):
    """Ways to pay."""

    label_name: str
    label_visible: bool
    default_mode: str
    display_modes: list[DisplayModeBody]


class ServiceAttributesBody(AnswerModel):
    """What ordering an instance takes."""

    service_openable: bool
    department_required: bool
    resource_group_required: bool
    billing_mode: BillingModeBody

    @classmethod
    def in_language(cls, language: str) -> "ServiceAttributesBody":
        modes = [DisplayModeBody(value=value, name=name.text(language)) for value, name in BILLING_MODES.items()]
        return cls(
            service_openable=True,
            department_required=True,
            resource_group_required=False,
            billing_mode=BillingModeBody(
                label_name=_BILLING_LABEL.text(language),
                label_visible=True,
                default_mode=DEFAULT_BILLING_MODE,
                display_modes=modes,
            ),
        )


class ServiceRegionRequest(LenientModel):
    """Whose regions are asked for."""

    tenant_id: str = Field(
        min_length=1, max_length=32, description="Id of the tenant.", examples=["4821073956120384751"]
    )
    department_id: str = Field(default="", max_length=32, description="Id of a department of it.")


class ServiceZoneBody(AnswerModel):
    """A zone."""

    az_id: str
    az_display_name: str


class ServiceRegionBody(AnswerModel):
    """A region in which the service is offered."""

    region_id: str
    region_display_name: str
    az_list: list[ServiceZoneBody]

    @classmethod
    def of(cls, region: Region) -> "ServiceRegionBody":
        zones = [ServiceZoneBody(az_id=name, az_display_name=name) for name in region.zones]
        return cls(region_id=region.region_id, region_display_name=region.display_name, az_list=zones)
