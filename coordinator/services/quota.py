"""Quotas of tenants: what they would have must not be more."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlmodel import Session

from coordinator.domain.noun import in_chinese
from coordinator.domain.unit import GIB
from coordinator.errors import QuotaExceeded
from coordinator.store.queries import instance as instance_query
from coordinator.store.tables import Tenant


@dataclass(frozen=True, slots=True)
class Wish:
    """What is wanted besides what the tenant has."""

    instances: int = 0
    vcpus: int = 0
    memory_bytes: int = 0
    gpus: int = 0
    volumes: int = 0
    storage_gib: int = 0


def check_quota(session: Session, tenant: Tenant, wish: Wish) -> None:
    """Raises QuotaExceeded naming the first quota that the wish would exceed; what is not wanted is not judged.

    Orders of one tenant with quotas queue up here until the end of the transaction.
    """
    quotas: Mapping[str, int | None] = {
        "instances": tenant.quota_instances,
        "vCPUs": tenant.quota_vcpus,
        "GPUs": tenant.quota_gpus,
        "memory in GiB": tenant.quota_memory_gib,
        "volumes": tenant.quota_volumes,
        "storage in GiB": tenant.quota_storage_gib,
    }
    if all(quota is None for quota in quotas.values()):
        return
    # So that two orders cannot both take what is left for one.
    # Not against rows that refer to the tenant: their writers may hold the host that is waited for next.
    session.get_one(Tenant, tenant.id, with_for_update={"key_share": True}, populate_existing=True)
    use = instance_query.read_tenant_use(session, tenant.id)
    wanted = {
        "instances": (wish.instances, use.instances + wish.instances),
        "vCPUs": (wish.vcpus, use.vcpus + wish.vcpus),
        "GPUs": (wish.gpus, use.gpus + wish.gpus),
        "memory in GiB": (wish.memory_bytes, -(-(use.memory_bytes + wish.memory_bytes) // GIB)),
        "volumes": (wish.volumes, use.volumes + wish.volumes),
        "storage in GiB": (wish.storage_gib, use.storage_gib + wish.storage_gib),
    }
    for name, quota in quotas.items():
        more, total = wanted[name]
        if quota is not None and more > 0 and total > quota:
            raise QuotaExceeded(
                f"tenant {tenant.name}: {total} {name} would exceed the quota of {quota}",
                f"租户{tenant.name}：{in_chinese(name)}将达到{total}，超出配额{quota}",
            )
