"""Management controllers on the wire. The password goes in and never comes out."""

from typing import Literal

from pydantic import Field

from coordinator.api.schemas.base import AnswerModel, LenientModel, Moment
from coordinator.domain.fence import BmcKind
from coordinator.fencing.model import BmcAccess
from coordinator.store.tables import Bmc


class SetBmcRequest(LenientModel):
    """How the node's management controller is reached."""

    kind: BmcKind = Field(description="redfish or ipmi.", examples=["redfish"])
    address: str = Field(
        min_length=1,
        max_length=255,
        description="Redfish: host or URL, with the path of the system where there are several; IPMI: host[:port].",
        examples=["https://198.51.100.7/redfish/v1/Systems/1"],
    )
    username: str = Field(min_length=1, max_length=63, description="Account with the right to switch power.")
    password: str = Field(min_length=1, max_length=127, description="Its password; stored encrypted, never answered.")
    verify_tls: bool = Field(default=True, description="Redfish: whether the certificate must be a known authority's.")

    def to_access(self) -> BmcAccess:
        """The same in our words."""
        return BmcAccess(self.kind, self.address.strip(), self.username, self.password, self.verify_tls)


class BmcBody(AnswerModel):
    """A management controller."""

    node_id: str
    kind: str
    address: str
    username: str
    verify_tls: bool
    created_at: Moment
    updated_at: Moment

    @classmethod
    def of(cls, row: Bmc) -> "BmcBody":
        return cls.model_validate(row)


class BmcPowerBody(AnswerModel):
    """What a controller says about its node."""

    power_state: Literal["On", "Off"]

    @classmethod
    def of(cls, is_on: bool) -> "BmcPowerBody":
        return cls(power_state="On" if is_on else "Off")
