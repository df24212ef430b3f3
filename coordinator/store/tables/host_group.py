"""Host groups: hosts that take none but instances of the group."""

from sqlmodel import Field

from coordinator.store.tables.base import Timestamped


class HostGroup(Timestamped, table=True):
    """Hosts of any zones."""

    __tablename__ = "host_group"

    id: str = Field(primary_key=True, max_length=32)
    name: str = Field(unique=True, max_length=127)


class GroupHost(Timestamped, table=True):
    """That a host belongs to a group: a row a host, so that it cannot belong to two."""

    __tablename__ = "group_host"

    node_id: str = Field(primary_key=True, foreign_key="node.id", max_length=32)
    hg_id: str = Field(foreign_key="host_group.id", index=True, max_length=32)
