"""Host groups: hosts that take the group's instances and no others.

Whoever changes who belongs to a group locks the group's row first, then the hosts': claims wait, and see the change.
"""

from collections.abc import Sequence

import structlog
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session

from coordinator.domain.caller import Caller
from coordinator.domain.identifier import Prefix
from coordinator.domain.listing import Listing, ListQuery
from coordinator.errors import ParameterInvalid, ResourceExists, ResourceInUse, ResourceNotFound
from coordinator.runtime import Runtime
from coordinator.services.host import HostReference, find_hosts, require_none
from coordinator.services.node import NodeView, list_nodes_without_group
from coordinator.store.queries import host_group as queries
from coordinator.store.queries.host_group import GroupMember, GroupUse
from coordinator.store.queries.placement import advance_generations
from coordinator.store.tables import GroupHost, HostGroup

log = structlog.get_logger(__name__)


def create_host_group(runtime: Runtime, caller: Caller, name: str) -> GroupUse:
    """A new group without hosts."""
    now = runtime.now()
    group = HostGroup(id=runtime.identifiers.new(Prefix.HOST_GROUP), name=name, created_at=now, updated_at=now)
    with runtime.database.write() as session:
        session.add(group)
        try:
            session.flush()
        except IntegrityError:
            raise ResourceExists(f"a host group named {name!r} exists", f"主机组{name!r}已存在") from None
    log.info("host_group.created", hgId=group.id, by=caller.token_id)
    return GroupUse(group, 0)


def get_host_group(runtime: Runtime, caller: Caller, hg_id: str) -> GroupUse:
    """One group."""
    with runtime.database.read() as session:
        use = queries.find_group_use(session, hg_id)
    if use is None:
        raise ResourceNotFound("host group", hg_id)
    return use


def list_host_groups(runtime: Runtime, caller: Caller, query: ListQuery) -> Listing[GroupUse]:
    """All groups."""
    with runtime.database.read() as session:
        return queries.list_groups(session, query)


def list_group_hosts(runtime: Runtime, caller: Caller, query: ListQuery) -> Listing[GroupMember]:
    """Hosts that belong to groups."""
    with runtime.database.read() as session:
        return queries.list_group_members(session, query)


def list_candidate_hosts(runtime: Runtime, caller: Caller, hg_id: str, query: ListQuery) -> Listing[NodeView]:
    """Hosts that could join the group, or any group when none is named: those that belong to no group."""
    if hg_id:
        get_host_group(runtime, caller, hg_id)
    return list_nodes_without_group(runtime, caller, query)


def delete_host_group(runtime: Runtime, caller: Caller, hg_id: str) -> None:
    """Deletes a group; ResourceInUse while it has hosts or instances."""
    with runtime.database.write() as session:
        group = _lock(session, hg_id)
        use = queries.find_group_use(session, hg_id)
        if use is not None and use.host_count:
            raise ResourceInUse(
                f"host group {hg_id} has {use.host_count} hosts", f"主机组{hg_id}中仍有{use.host_count}台物理机"
            )
        require_none(f"host group {hg_id}", f"主机组{hg_id}", queries.list_instances_of_group(session, hg_id))
        session.delete(group)
    log.info("host_group.deleted", hgId=hg_id, by=caller.token_id)


def add_group_hosts(runtime: Runtime, caller: Caller, hg_id: str, references: Sequence[HostReference]) -> None:
    """The hosts belong to the group; those that did stay. ResourceInUse for one of another group: all join or none.

    Instances of no group that run there already are left alone.
    """
    now = runtime.now()
    with runtime.database.write() as session:
        _lock(session, hg_id)
        nodes = find_hosts(session, runtime.settings, references)
        advance_generations(session, [node.id for node in nodes])
        present = queries.read_memberships(session, [node.id for node in nodes])
        for node in nodes:
            membership = present.get(node.id)
            if membership is None:
                session.add(GroupHost(node_id=node.id, hg_id=hg_id, created_at=now, updated_at=now))
            elif membership.hg_id != hg_id:
                raise ResourceInUse(
                    f"host {node.name} belongs to host group {membership.hg_id}",
                    f"物理机{node.name}已属于主机组{membership.hg_id}",
                )
    log.info("host_group.hosts_added", hgId=hg_id, nodeIds=[node.id for node in nodes], by=caller.token_id)


def remove_group_host(runtime: Runtime, caller: Caller, hg_id: str, reference: HostReference) -> None:
    """The host leaves the group; ResourceInUse with their list while it has instances of the group."""
    with runtime.database.write() as session:
        _lock(session, hg_id)
        (node,) = find_hosts(session, runtime.settings, [reference])
        advance_generations(session, [node.id])
        membership = queries.read_memberships(session, [node.id]).get(node.id)
        if membership is None or membership.hg_id != hg_id:
            raise ParameterInvalid(
                "name", f"host {node.name} is not in host group {hg_id}", f"物理机{node.name}不在主机组{hg_id}中"
            )
        instances = queries.list_instances_of_group(session, hg_id, node.id)
        require_none(f"host {node.name} of host group {hg_id}", f"主机组{hg_id}的物理机{node.name}", instances)
        session.delete(membership)
    log.info("host_group.host_removed", hgId=hg_id, nodeId=node.id, by=caller.token_id)


def _lock(session: Session, hg_id: str) -> HostGroup:
    group = queries.lock_group(session, hg_id)
    if group is None:
        raise ResourceNotFound("host group", hg_id)
    return group
