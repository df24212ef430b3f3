"""Deployment sets on the wire."""

from typing import Annotated, Literal

from pydantic import Field

from coordinator.api.schemas.base import AnswerModel, LenientModel, Moment
from coordinator.store.queries.deployment_set import SetUse
from coordinator.store.tables import DeploymentSet

PolicyName = Annotated[
    Literal["", "affinity", "soft-affinity", "anti-affinity", "soft-anti-affinity"],
    Field(description="Together or apart; soft: if there is room. Empty: either."),
]


class CreateDeploymentSetRequest(LenientModel):
    """A set to be made."""

    name: str = Field(min_length=1, max_length=127, description="1 to 127 characters.", examples=["replicas"])
    tenant_id: str = Field(max_length=19, description="Tenant that it belongs to.", examples=["4611686018427387904"])
    department_id: str = Field(max_length=19, description="Department of it.", examples=["4611686018427387905"])
    resource_group_id: str = Field(default="", max_length=19, description="Resource group of the tenant.")
    host_policy: PolicyName = ""
    rack_policy: PolicyName = ""
    switch_policy: PolicyName = ""
    net_switch_policy: PolicyName = ""

    def to_row(self) -> DeploymentSet:
        """The row that this asks for, without id."""
        return DeploymentSet(**self.model_dump(), id="")


class DeploymentSetBody(AnswerModel):
    """A deployment set."""

    deployment_set_id: str = Field(description="Id of the set.", examples=["d-set-2sttb3gnlw7j2a"])
    name: str
    tenant_id: str
    tenant_name: str
    department_id: str
    department_name: str
    resource_group_id: str
    resource_group_name: str
    host_policy: str
    rack_policy: str
    switch_policy: str
    net_switch_policy: str
    ecs_count: int = Field(description="How many instances it has.")
    created_at: Moment
    updated_at: Moment
    deleted_at: None = Field(default=None, description="Always null: deleted sets are not answered.")

    @classmethod
    def of(cls, use: SetUse) -> "DeploymentSetBody":
        return cls(
            **use.row.model_dump(exclude={"id"}),
            deployment_set_id=use.row.id,
            tenant_name=use.tenant_name,
            department_name=use.department_name or "",
            resource_group_name=use.resource_group_name or "",
            ecs_count=use.instance_count,
        )


class DeploymentSetListBody(AnswerModel):
    """One page of sets."""

    size: int = Field(description="Entries on a page.")
    current: int = Field(description="Number of this page.")
    total: int = Field(description="On all pages together.")
    items: list[DeploymentSetBody] = Field(alias="list")
