"""Host groups on the wire."""

from typing import Annotated

from pydantic import Field, computed_field

from coordinator.api.schemas.base import AnswerModel, LenientModel, Moment
from coordinator.api.schemas.host import HostBody, host_architecture
from coordinator.store.queries.host_group import GroupMember, GroupUse

GroupId = Annotated[str, Field(description="Id of the group.", examples=["hg-3n7w1c5y"])]


class CreateHostGroupRequest(LenientModel):
    """A group to be made."""

    name: str = Field(min_length=1, max_length=127, description="1 to 127 characters.", examples=["licensed"])


class HostGroupBody(AnswerModel):
    """A host group."""

    hg_id: GroupId
    name: str
    host_cnt: int = Field(description="How many hosts it has.")
    create_time: Moment
    update_time: Moment

    @classmethod
    def of(cls, use: GroupUse) -> "HostGroupBody":
        return cls(
            hg_id=use.group.id,
            name=use.group.name,
            host_cnt=use.host_count,
            create_time=use.group.created_at,
            update_time=use.group.updated_at,
        )


class HostGroupListBody(AnswerModel):
    """One page of groups."""

    host_groups: list[HostGroupBody]
    total_count: int = Field(description="On all pages together.")


class GroupHostBody(AnswerModel):
    """A host of a group."""

    name: str
    inner_ip: str = Field(description="Address under which its agent is reached.")
    arch_type: str = Field(description="amd64 or arm64.")
    cell: str = Field(description="Cluster of nodes that it belongs to.")
    host_id: str = Field(description="Id of the node.")
    hg_id: GroupId
    hg_name: str
    create_time: Moment = Field(description="Since when it belongs to the group.")
    update_time: Moment

    @classmethod
    def of(cls, member: GroupMember, cell: str) -> "GroupHostBody":
        return cls(
            name=member.node.name,
            inner_ip=member.node.host_ip,
            arch_type=host_architecture(member.node),
            cell=cell,
            host_id=member.node.id,
            hg_id=member.group.id,
            hg_name=member.group.name,
            create_time=member.membership.created_at,
            update_time=member.membership.updated_at,
        )


class GroupHostListBody(AnswerModel):
    """One page of hosts of groups."""

    hg_hosts: list[GroupHostBody]
    total_count: int = Field(description="On all pages together.")

    @computed_field(description="The same as hgHosts.")  # type: ignore[prop-decorator]
    @property
    def host_groups(self) -> list[GroupHostBody]:
        return self.hg_hosts


class HostListBody(AnswerModel):
    """Hosts, as short as they can be named."""

    hosts: list[HostBody]
    total_count: int = Field(description="On all pages together.")
