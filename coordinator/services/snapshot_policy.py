"""Snapshot policies as people keep them. `snapshot_policy_run` has the snapshots taken."""

from typing import Final

import structlog
from sqlmodel import Session

from coordinator.domain.caller import Caller, Role
from coordinator.domain.cron import CronTimes, ZoneUnknown, find_zone
from coordinator.domain.identifier import Prefix
from coordinator.domain.listing import Listing, ListQuery
from coordinator.domain.snapshot_policy import PolicyOrder, cron_of, join_numbers
from coordinator.errors import AccessDenied, ParameterInvalid, QuotaExceeded, ResourceInUse, ResourceNotFound
from coordinator.runtime import Runtime
from coordinator.services.due_time import next_due
from coordinator.services.instance import find_own
from coordinator.services.owner import find_owner
from coordinator.store.queries import snapshot_policy as queries
from coordinator.store.queries.snapshot_policy import PolicyRow
from coordinator.store.tables import SnapshotPolicy, SnapshotPolicyBinding, Tenant

_MAXIMUM_NAME: Final = 127

log = structlog.get_logger(__name__)


def create_policy(runtime: Runtime, caller: Caller, order: PolicyOrder) -> str:
    """A new policy; answers its id."""
    _check_name(order.name)
    tenant_id = _owner(caller, order.tenant_id)
    with runtime.database.write() as session:
        _check_owner(session, caller, tenant_id, order)
        _check_quota(session, runtime, tenant_id)
        now = runtime.now()
        row = SnapshotPolicy(
            policy_id=runtime.identifiers.new(Prefix.SNAPSHOT_POLICY),
            name=order.name,
            tenant_id=tenant_id,
            department_id=order.department_id,
            resource_group_id=order.resource_group_id,
            hours=join_numbers(order.hours),
            week_days=join_numbers(order.week_days),
            time_zone=order.time_zone or runtime.settings.schedule_time_zone,
            keep_minutes=order.keep_minutes,
            created_at=now,
            updated_at=now,
        )
        _settle(runtime, row)
        session.add(row)
        policy_id = row.policy_id
    log.info("snapshot_policy.created", policyId=policy_id, by=caller.token_id)
    return policy_id


def list_policies(runtime: Runtime, caller: Caller, query: ListQuery) -> Listing[PolicyRow]:
    """The caller's policies, for an operator everybody's."""
    with runtime.database.read() as session:
        return queries.list_policies(session, caller.tenant_id if caller.is_tenant else None, query)


def get_policy(runtime: Runtime, caller: Caller, policy_id: str) -> PolicyRow:
    """One policy."""
    with runtime.database.read() as session:
        found = queries.find_policy(session, policy_id)
        if found is None or not caller.may_see(found.row.tenant_id):
            raise ResourceNotFound("snapshot policy", policy_id)
        return found


def update_policy(runtime: Runtime, caller: Caller, policy_id: str, order: PolicyOrder) -> None:
    """Changes name, times and keeping. Snapshots that are there already are kept as long as they were to.

    What is due already stays so, unless the times themselves are changed.
    """
    _check_name(order.name)
    with runtime.database.write() as session:
        row = _lock_own(session, caller, policy_id)
        before = (row.hours, row.week_days, row.time_zone)
        row.name, row.keep_minutes = order.name, order.keep_minutes
        row.hours, row.week_days = join_numbers(order.hours), join_numbers(order.week_days)
        row.time_zone = order.time_zone or row.time_zone
        if before != (row.hours, row.week_days, row.time_zone):
            _settle(runtime, row)
        session.add(row)
    log.info("snapshot_policy.changed", policyId=policy_id, by=caller.token_id)


def delete_policy(runtime: Runtime, caller: Caller, policy_id: str) -> None:
    """Deletes a policy and its bindings; the snapshots stay as long as they were to."""
    with runtime.database.write() as session:
        queries.delete_policy(session, _lock_own(session, caller, policy_id))
    log.info("snapshot_policy.deleted", policyId=policy_id, by=caller.token_id)


def bind_policy(runtime: Runtime, caller: Caller, policy_id: str, ecs_id: str) -> None:
    """Has snapshots taken of an instance from now on. Idempotent; ResourceInUse when it has another policy."""
    if caller.role == Role.AUDITOR:
        # Callers of this API also bind with GET, which auditors may use elsewhere.
        raise AccessDenied(f"a token of role {caller.role} may not do this", f"角色{caller.role}没有该操作的权限")
    with runtime.database.write() as session:
        policy = _lock_own(session, caller, policy_id)
        instance = find_own(session, caller, ecs_id, for_update=True)
        if instance.tenant_id != policy.tenant_id:
            raise ResourceNotFound("instance", ecs_id)
        found = queries.find_binding(session, instance.id)
        if found is not None and found.policy_id != policy.id:
            raise ResourceInUse(
                f"instance {ecs_id} is bound to another snapshot policy: unbind that first",
                f"实例{ecs_id}已绑定其他自动快照策略，请先解绑",
            )
        if found is None:
            session.add(
                SnapshotPolicyBinding(instance_id=instance.id or 0, policy_id=policy.id or 0, bound_at=runtime.now())
            )
    log.info("snapshot_policy.bound", policyId=policy_id, ecsId=ecs_id, by=caller.token_id)


def unbind_policy(runtime: Runtime, caller: Caller, policy_id: str, ecs_id: str) -> None:
    """No snapshots are taken of the instance any more; what is due is dropped. Idempotent."""
    with runtime.database.write() as session:
        policy = _lock_own(session, caller, policy_id)
        instance = find_own(session, caller, ecs_id)
        found = queries.find_binding(session, instance.id)
        if found is not None and found.policy_id == policy.id:
            session.delete(found)
    log.info("snapshot_policy.unbound", policyId=policy_id, ecsId=ecs_id, by=caller.token_id)


def pause_policy(runtime: Runtime, caller: Caller, policy_id: str) -> None:
    """Nothing is taken until the policy is resumed, and what is due is dropped. Idempotent."""
    with runtime.database.write() as session:
        row = _lock_own(session, caller, policy_id)
        row.enabled, row.next_at = False, None
        queries.drop_due(session, row)
        session.add(row)
    log.info("snapshot_policy.paused", policyId=policy_id, by=caller.token_id)


def resume_policy(runtime: Runtime, caller: Caller, policy_id: str) -> None:
    """The policy goes on with its next time; what was due meanwhile is not made up for. Idempotent."""
    with runtime.database.write() as session:
        row = _lock_own(session, caller, policy_id)
        if not row.enabled:
            row.enabled = True
            _settle(runtime, row)
            session.add(row)
    log.info("snapshot_policy.resumed", policyId=policy_id, by=caller.token_id)


def times_of(row: SnapshotPolicy) -> CronTimes:
    """When the policy is due."""
    return CronTimes(cron_of(row.hours, row.week_days), find_zone(row.time_zone))


def _settle(runtime: Runtime, row: SnapshotPolicy) -> None:
    try:
        times = times_of(row)
    except ZoneUnknown:
        raise ParameterInvalid(
            "timeZone", f"there is no time zone {row.time_zone!r}", f"时区{row.time_zone!r}不存在"
        ) from None
    row.next_at = next_due(times, runtime.now(), None) if row.enabled else None


def _lock_own(session: Session, caller: Caller, policy_id: str) -> SnapshotPolicy:
    row = queries.lock_policy(session, policy_id)
    if row is None or not caller.may_see(row.tenant_id):
        raise ResourceNotFound("snapshot policy", policy_id)
    return row


def _owner(caller: Caller, tenant_id: str) -> str:
    if caller.is_tenant and caller.tenant_id:
        if tenant_id not in ("", caller.tenant_id):
            raise ResourceNotFound("tenant", tenant_id)
        return caller.tenant_id
    if not tenant_id:
        raise ParameterInvalid("tenantId", "is required for operators", "运营人员必须指定租户")
    return tenant_id


def _check_owner(session: Session, caller: Caller, tenant_id: str, order: PolicyOrder) -> None:
    if order.department_id:
        find_owner(session, caller, tenant_id, order.department_id, order.resource_group_id)
    elif order.resource_group_id:
        raise ParameterInvalid("departmentId", "is required with a resource group", "指定资源组时必须指定部门")


def _check_quota(session: Session, runtime: Runtime, tenant_id: str) -> None:
    limit = runtime.settings.snapshot_policies_per_tenant
    # Two callers who take the last place come one after the other.
    if session.get(Tenant, tenant_id, with_for_update={"key_share": True}, populate_existing=True) is None:
        raise ResourceNotFound("tenant", tenant_id)
    if queries.count_policies(session, tenant_id) >= limit:
        raise QuotaExceeded(
            f"the tenant has {limit} snapshot policies already", f"该租户的自动快照策略数量已达上限{limit}"
        )


def _check_name(name: str) -> None:
    if not 1 <= len(name) <= _MAXIMUM_NAME or not name.isprintable() or name != name.strip():
        raise ParameterInvalid(
            "policyName",
            f"1 to {_MAXIMUM_NAME} characters, no control characters, no space at either end",
            f"长度为1到{_MAXIMUM_NAME}个字符，不能包含控制字符，首尾不能有空格",
        )
