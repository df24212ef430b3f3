"""Deployment sets: instances of a tenant that shall run together or apart.

Whoever adds an instance to a set, or deletes the set, locks its row first: members are counted one claim after the
other, so that no two put instances of one set where only one may be.
"""

from collections.abc import Iterable

import structlog
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session

from coordinator.domain.caller import Caller
from coordinator.domain.deployment import DeploymentRule, Place, Policy, Scope
from coordinator.domain.identifier import Prefix
from coordinator.domain.listing import Listing, ListQuery
from coordinator.errors import ResourceExists, ResourceNotFound
from coordinator.runtime import Runtime
from coordinator.services.host import require_none
from coordinator.services.owner import find_owner
from coordinator.store.queries import deployment_set as queries
from coordinator.store.queries.deployment_set import SetUse
from coordinator.store.tables import DeploymentSet

log = structlog.get_logger(__name__)


def create_deployment_set(runtime: Runtime, caller: Caller, draft: DeploymentSet) -> SetUse:
    """Stores `draft`, a row without id: a set without members."""
    draft.id = runtime.identifiers.new(Prefix.DEPLOYMENT_SET)
    draft.created_at = draft.updated_at = runtime.now()
    name = draft.name
    with runtime.database.write() as session:
        owner = find_owner(session, caller, draft.tenant_id, draft.department_id, draft.resource_group_id)
        session.add(draft)
        try:
            session.flush()
        except IntegrityError:
            raise ResourceExists(
                f"the tenant has a deployment set named {name!r}", f"该租户已有名为{name!r}的部署集"
            ) from None
    log.info("deployment_set.created", deploymentSetId=draft.id, by=caller.token_id)
    group = owner.resource_group
    return SetUse(draft, owner.tenant.name, owner.department.name, group.name if group else None, 0)


def get_deployment_set(runtime: Runtime, caller: Caller, set_id: str) -> SetUse:
    """One set."""
    with runtime.database.read() as session:
        use = queries.find_set_use(session, set_id)
    if use is None or not caller.may_see(use.row.tenant_id):
        raise ResourceNotFound("deployment set", set_id)
    return use


def list_deployment_sets(runtime: Runtime, caller: Caller, query: ListQuery) -> Listing[SetUse]:
    """The caller's sets, for an operator everybody's."""
    with runtime.database.read() as session:
        return queries.list_sets(session, caller.tenant_id if caller.is_tenant else None, query)


def delete_deployment_set(runtime: Runtime, caller: Caller, set_id: str) -> None:
    """Deletes a set; ResourceInUse with their list while it has instances, with a node or without."""
    with runtime.database.write() as session:
        row = queries.lock_set(session, set_id)
        if row is None or not caller.may_see(row.tenant_id):
            raise ResourceNotFound("deployment set", set_id)
        require_none(f"deployment set {set_id}", f"部署集{set_id}", queries.list_instances_of_set(session, set_id))
        session.delete(row)
    log.info("deployment_set.deleted", deploymentSetId=set_id, by=caller.token_id)


def read_rule(session: Session, set_id: str, tenant_id: str, *, locks: bool) -> DeploymentRule | None:
    """What the set wants of a new member; None for an empty id, ResourceNotFound unless it is the tenant's.

    With `locks` nobody else joins the set before the transaction ends: what is read stays true.
    """
    if not set_id:
        return None
    row = queries.lock_set(session, set_id) if locks else queries.read_sets(session, [set_id]).get(set_id)
    if row is None or row.tenant_id != tenant_id:
        raise ResourceNotFound("deployment set", set_id)
    members = queries.read_member_places(session, [set_id]).get(set_id, [])
    return make_rule(row, (place for _, place in members))


def make_rule(row: DeploymentSet, members: Iterable[Place]) -> DeploymentRule:
    """The set in the scheduler's words, with these members."""
    policies = {
        Scope.HOST: row.host_policy,
        Scope.RACK: row.rack_policy,
        Scope.SWITCH: row.switch_policy,
        Scope.NET_SWITCH: row.net_switch_policy,
    }
    return DeploymentRule({scope: Policy(policy) for scope, policy in policies.items() if policy}, tuple(members))
